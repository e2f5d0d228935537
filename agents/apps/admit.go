package apps

import (
	"sync"
	"time"
)

// admission decides which packets are taken. Of its rate, in packets a second, each port that is busy is owed an equal share; what a port
// does not use flows into a pool that all may draw from, so that one busy port among idle ones may have nearly all. Packets that no port
// of this host has sent share half of the rate between them. It never waits.
type admission struct {
	rate float64

	mu     sync.Mutex // guards the fields below
	ports  map[uint32]*share
	others share
	pool   float64
	turn   time.Time // when the busy ones were last counted
	turns  uint64
	busy   float64 // ports that sent something just before this turn, or in it
	noisy  bool    // likewise, whether anything came from elsewhere
}

// share is what one port may still send.
type share struct {
	tokens float64
	filled time.Time
	asked  time.Time
	turn   uint64 // in which it was last counted as busy
}

const (
	busyFor   = time.Second            // since its last packet, a port counts as busy
	burstFor  = 100 * time.Millisecond // of its rate may come at once; queues have room for it
	shareOnce = 4                      // packets that a port may always send at once
)

func newAdmission(rate float64) *admission { return &admission{rate: rate, ports: map[uint32]*share{}} }

// allow says whether a packet of a port is taken; 0 is none of this host.
func (a *admission) allow(port uint32, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.turn) >= busyFor {
		a.count(now)
	}
	if port == 0 {
		a.noisy = true
		return a.draw(&a.others, a.rate/2, now, false)
	}
	s := a.ports[port]
	if s == nil {
		s = &share{}
		a.ports[port] = s
	}
	s.asked = now
	if s.turn != a.turns {
		s.turn = a.turns
		a.busy++
	}
	return a.draw(s, a.forPorts()/max(1, a.busy), now, true)
}

// forPorts is the rate that ports share: what comes from elsewhere has its half only while something does.
func (a *admission) forPorts() float64 {
	if a.noisy {
		return a.rate / 2
	}
	return a.rate
}

// draw takes a token of a share that fills at a rate, or of the pool.
func (a *admission) draw(s *share, rate float64, now time.Time, lend bool) bool {
	most := max(shareOnce, rate*burstFor.Seconds())
	if s.filled.IsZero() {
		s.tokens, s.filled = most, now
	}
	s.tokens += max(0, min(now.Sub(s.filled), busyFor).Seconds()) * rate
	s.filled = now
	if s.tokens > most {
		if lend {
			a.pool = min(a.pool+s.tokens-most, a.rate*burstFor.Seconds())
		}
		s.tokens = most
	}
	if s.tokens >= 1 {
		s.tokens--
		return true
	}
	if lend && a.pool >= 1 {
		a.pool--
		return true
	}
	return false
}

// count begins a turn: it forgets ports that have been quiet for long, and counts those that were not.
func (a *admission) count(now time.Time) {
	a.turn, a.busy = now, 0
	a.turns++
	a.noisy = now.Sub(a.others.filled) < busyFor
	for key, s := range a.ports {
		switch quiet := now.Sub(s.asked); {
		case quiet < busyFor:
			s.turn = a.turns
			a.busy++
		case quiet > 10*busyFor:
			delete(a.ports, key)
		}
	}
}
