package emulator

import (
	"sync"
	"time"
)

// Call is one request that reached the cloud.
type Call struct {
	Seq       int64     `json:"seq"`
	At        time.Time `json:"at"`
	Service   string    `json:"service"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`   // with the query
	Status    int       `json:"status"` // 0: no answer was given or made
	User      string    `json:"user,omitempty"`
	RequestID string    `json:"request_id"`
	Fault     string    `json:"fault,omitempty"` // the fault that ended it: outage, stall, status, reset, late, lost reply
}

// callLog remembers the last calls in a ring.
type callLog struct {
	mu   sync.Mutex // guards the fields below
	size int
	ring []Call
	seq  int64
}

func (l *callLog) add(call Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size <= 0 {
		return
	}
	l.seq++
	call.Seq = l.seq
	if len(l.ring) < l.size {
		l.ring = append(l.ring, call)
		return
	}
	l.ring[(l.seq-1)%int64(l.size)] = call
}

// Calls returns the remembered requests, oldest first: at most Config.CallLog of them.
func (c *Cloud) Calls() []Call {
	l := &c.calls
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Call, 0, len(l.ring))
	if len(l.ring) < l.size {
		return append(out, l.ring...)
	}
	start := int(l.seq % int64(l.size))
	return append(append(out, l.ring[start:]...), l.ring[:start]...)
}

// ForgetCalls empties the call log.
func (c *Cloud) ForgetCalls() {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.calls.ring, c.calls.seq = nil, 0
}
