package emulator

import (
	"container/heap"
	"time"
)

// event is something that becomes true at a moment of the cloud's clock.
type event struct {
	at  time.Time
	seq int64
	run func() // called with the lock held for writing
	// late is a whole request that is carried out long after its client has gone; it takes the lock by itself.
	late func()
}

type agenda []*event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*event)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// after schedules run at d from now. The lock must be held for writing. A
// transition of no duration happens at once, before the reply is rendered.
func (c *Cloud) after(d time.Duration, run func()) {
	if d <= 0 {
		run()
		return
	}
	c.schedule(&event{at: c.clock().Add(d), run: run})
}

// clock is the unskewed time: that of the running event, so that a chain of
// transitions that nobody watched still took its proper time, else the current one.
func (c *Cloud) clock() time.Time {
	if !c.eventTime.IsZero() {
		return c.eventTime
	}
	return c.cfg.Now()
}

func (c *Cloud) schedule(e *event) {
	c.eventSeq++
	e.seq = c.eventSeq
	heap.Push(&c.agenda, e)
	c.due.Store(c.agenda[0].at.UnixNano())
}

// tick runs every event that is due, in order of time. It is called before each
// request and each look from outside, so nothing needs to run in between: what
// nobody looks at has no state.
func (c *Cloud) tick() {
	for c.due.Load() <= c.cfg.Now().UnixNano() {
		c.mu.Lock()
		var late func()
		for len(c.agenda) > 0 && !c.agenda[0].at.After(c.cfg.Now()) {
			e := heap.Pop(&c.agenda).(*event)
			c.eventTime = e.at
			if e.late != nil {
				late = e.late
				break
			}
			e.run()
			c.eventTime = time.Time{}
		}
		c.eventTime = time.Time{}
		c.setDue()
		c.mu.Unlock()
		if late != nil {
			late()
		}
	}
}

func (c *Cloud) setDue() {
	if len(c.agenda) == 0 {
		c.due.Store(never)
		return
	}
	c.due.Store(c.agenda[0].at.UnixNano())
}

// now is the time that this site's clock shows: the moment of the event that is
// running, else the current one, plus the skew that a fault may have set. It
// counts whole seconds, as the real services' database columns do.
func (c *Cloud) now() time.Time {
	return c.clock().Add(c.skew).UTC().Truncate(time.Second)
}
