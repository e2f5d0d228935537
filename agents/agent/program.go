package agent

import (
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// isReady says whether the program is one that a switch may be brought to.
func (c *core) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready()
}

func (c *core) alarm(on bool, code, object, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarms.set(on, code, object, format, args...) {
		poke(c.alarmed)
	}
}

// refill is what brings a switch to the program, which was not told of it before.
func (c *core) refill(have *carried, anew bool) *work {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := refill(c.compiler, have, max(c.mirror.epoch(), c.epoch), anew)
	c.hand(w)
	return w
}

// hand gives a work all that has added up. Connections that are to end are handed again until a work is carried out: no comparison with the
// switch would find them, and who gets the zone next would have them.
func (c *core) hand(w *work) {
	c.handed.flush, c.handed.forget = append(c.handed.flush, c.flush...), append(c.handed.forget, c.forget...)
	for _, zone := range c.handed.flush {
		w.first = append(w.first, &openflow.CTFlushZone{Zone: zone})
	}
	w.last = append(w.last, c.handed.forget...)
	c.pending, c.flush, c.forget, w.gen = flows.Pending{}, nil, nil, c.gen
	w.since, c.since = c.since, time.Time{}
	c.saying, c.unsaid = append(c.saying, c.unsaid...), nil
}

// mend is what makes a switch, that has carried all out so far, do so again; and how many differences there were that nobody had asked for.
func (c *core) mend(have *carried, epoch uint16, refused map[flows.FlowKey]bool) (*work, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.pending.Len()
	canaryLost := have.canary() != canaryState{true, epoch, flows.Layout}
	d := compare(c.compiler, have, epoch)
	for _, k := range d.missing {
		if refused[k] {
			asked++ // it is known to be missing. It is tried again: what it needs may be back
		}
	}
	clear(refused)
	w := d.messages(c.compiler, have, epoch)
	found := max(0, d.size()-asked)
	if canaryLost {
		f := canary(flows.Layout)
		w.bundle = append(w.bundle, canaryKey().Message(&f, epoch))
		found++
	}
	c.hand(w)
	c.foreign += uint64(found) //nolint:gosec // not negative
	if found > 0 {
		c.alarms.set(true, alarmForeign, c.cfg.Bridge, "%d flows, groups or meters were not as they should be, and were mended", found)
	} else if c.foreign == c.audited { // nor since the comparison before
		c.alarms.end(alarmForeign, c.cfg.Bridge)
	}
	c.audited = c.foreign
	return w, found
}

// work is what the switch has to do next, or nil: what has changed since, and what others have changed.
func (c *core) work(epoch uint16, meters map[uint32]bool, foreign []openflow.FlowUpdate, refused map[flows.FlowKey]bool) (*work, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mended := c.repair(foreign, epoch, refused)
	if c.pending.Empty() && len(c.flush) == 0 && len(c.forget) == 0 && mended == nil && c.gen == c.applied {
		return nil, 0
	}
	d := c.pending.Take()
	w := &work{epoch: epoch, meters: d.Meters, gone: d.MetersGone}
	for _, f := range d.Flows {
		delete(refused, f.Key)
	}
	w.first, w.bundle, w.last = c.compiler.Messages(d, epoch, func(id uint32) bool { return meters[id] })
	w.bundle = append(w.bundle, mended...)
	c.hand(w)
	return w, len(mended)
}

// repair makes flows that others have changed what they should be.
func (c *core) repair(foreign []openflow.FlowUpdate, epoch uint16, refused map[flows.FlowKey]bool) []openflow.Message {
	var out []openflow.Message
	seen := map[flows.FlowKey]bool{}
	for i := len(foreign) - 1; i >= 0; i-- { // the last word on each
		u := &foreign[i]
		k := flows.FlowKey{Table: flows.Table(u.Table), Priority: u.Priority, Match: u.Match.Key()}
		if seen[k] || refused[k] {
			continue
		}
		seen[k] = true
		want, ok := c.compiler.Flow(k)
		if k == canaryKey() {
			want, ok = canary(flows.Layout), true
		}
		there := u.Event != openflow.FlowDeleted
		if !ok && !there {
			continue
		}
		if ok && there {
			instr, err := openflow.InstructionsKey(u.Instructions)
			if err == nil && (flows.Flow{Cookie: flows.Cookie(u.Cookie), Instructions: instr}) == (flows.Flow{Cookie: want.Cookie.WithEpoch(epoch), Instructions: want.Instructions}) {
				continue
			}
		}
		if !ok {
			out = append(out, k.Message(nil, epoch))
		} else {
			out = append(out, k.Message(&want, epoch))
		}
		c.alarms.set(true, alarmForeign, c.cfg.Bridge, "somebody else changed a flow of table %d, cookie %#x; it was mended", u.Table, u.Cookie)
	}
	c.foreign += uint64(len(out))
	return out
}

// carried notes that the switch carries out a generation.
func (c *core) carried(gen uint64, epoch uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied, c.epoch = gen, epoch
	c.handed.flush, c.handed.forget = nil, nil
	for len(c.revisions) > 0 && c.revisions[0].gen <= gen {
		c.done.incarnation, c.done.revision = c.revisions[0].incarnation, c.revisions[0].revision
		c.revisions = c.revisions[1:]
	}
	for id, p := range c.plugged {
		if p.gen != 0 && p.gen <= gen && !p.ready {
			p.ready = true
			c.changed(id)
		}
	}
}

// carriedChanges are the changes of the state that the switch has come to carry out.
func (c *core) carriedChanges() []state.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.saying
	c.saying = nil
	return out
}
