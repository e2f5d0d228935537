package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
)

// work is what a switch is to do, in this order.
type work struct {
	first  []openflow.Message // what must be there before, and cannot ride in a bundle
	bundle []openflow.Message // at once
	last   []openflow.Message // what may go afterwards
	whole  bool               // the bundle must not be cut

	gen    uint64
	since  time.Time // when the first of what it carries out was told; zero: nothing was
	epoch  uint16
	meters []uint32 // made
	gone   []uint32 // meters that went
}

// A switch in user space forwards nothing while it carries a bundle out, some 10 us for each flow. Up to wholeUpTo flows that is less than what
// its devices' queues hold; what is more goes in pieces.
const (
	wholeUpTo = 20_000
	pieceOf   = 4_000
)

// bundles are the bundle, or its pieces: first what is made, from the last table to the first, so that no packet comes into a table that
// is not there yet; then what goes, from the first to the last, so that none goes on into one that is not there any more.
func (w *work) bundles() [][]openflow.Message {
	if w.whole || len(w.bundle) <= wholeUpTo {
		return [][]openflow.Message{w.bundle}
	}
	var made, gone []openflow.Message
	for _, m := range w.bundle {
		if f, ok := m.(*openflow.RawFlow); ok && f.Command == openflow.FlowDeleteStrict {
			gone = append(gone, m)
		} else {
			made = append(made, m)
		}
	}
	slices.Reverse(gone)
	return append(slices.Collect(slices.Chunk(made, pieceOf)), slices.Collect(slices.Chunk(gone, pieceOf))...)
}

func (w *work) empty() bool { return len(w.first)+len(w.bundle)+len(w.last) == 0 }

// difference is how a switch differs from the program.
type difference struct {
	missing []flows.FlowKey // or different
	stale   []flows.FlowKey
	groups  []uint32 // missing or different
	oldG    []uint32
	meters  []uint32 // missing or different
	oldM    []uint32
}

func (d *difference) size() int {
	return len(d.missing) + len(d.stale) + len(d.groups) + len(d.oldG) + len(d.meters) + len(d.oldM)
}

// compare compares a switch with a program, in an epoch. It takes away from h.flows what is as it should be.
func compare(p *flows.Compiler, h *carried, epoch uint16) *difference {
	d := &difference{}
	p.Flows(func(k flows.FlowKey, want flows.Flow) bool {
		want.Cookie = want.Cookie.WithEpoch(epoch)
		if have, ok := h.flows[k]; !ok || have != want {
			d.missing = append(d.missing, k)
		}
		delete(h.flows, k)
		return true
	})
	delete(h.flows, canaryKey())
	d.stale = slices.Collect(maps.Keys(h.flows))
	slices.SortFunc(d.missing, flows.FlowKey.Compare)
	slices.SortFunc(d.stale, flows.FlowKey.Compare)
	for _, id := range p.Groups() {
		g, _ := p.Group(id)
		if h.groups[id] != groupKey(g.Type, id, g.Buckets) {
			d.groups = append(d.groups, id)
		}
	}
	for id := range h.groups {
		if _, ok := p.Group(id); !ok {
			d.oldG = append(d.oldG, id)
		}
	}
	for _, id := range p.Meters() {
		m, _ := p.Meter(id)
		if have, ok := h.meters[id]; !ok || have.Flags != m.Flags || !slices.Equal(have.Bands, m.Bands) {
			d.meters = append(d.meters, id)
		}
	}
	for id := range h.meters {
		if _, ok := p.Meter(id); !ok {
			d.oldM = append(d.oldM, id)
		}
	}
	slices.Sort(d.oldG)
	slices.Sort(d.oldM)
	return d
}

// messages are what mends a difference.
func (d *difference) messages(p *flows.Compiler, h *carried, epoch uint16) *work {
	delta := &flows.Delta{Groups: d.groups, GroupsGone: d.oldG, Meters: d.meters, MetersGone: d.oldM}
	for _, k := range d.missing {
		f, _ := p.Flow(k)
		delta.Flows = append(delta.Flows, flows.FlowChange{Key: k, New: &f})
	}
	for _, k := range d.stale {
		delta.Flows = append(delta.Flows, flows.FlowChange{Key: k})
	}
	slices.SortFunc(delta.Flows, func(a, b flows.FlowChange) int { return a.Key.Compare(b.Key) })
	w := &work{epoch: epoch, meters: d.meters, gone: d.oldM}
	w.first, w.bundle, w.last = p.Messages(delta, epoch, func(id uint32) bool { _, ok := h.meters[id]; return ok })
	return w
}

// canaryState is what a switch's canary and cookies tell.
type canaryState struct {
	found  bool
	epoch  uint16
	layout uint32
}

func (h *carried) canary() canaryState {
	f, ok := h.flows[canaryKey()]
	if !ok {
		return canaryState{}
	}
	return canaryState{true, f.Cookie.Epoch(), layoutOf(f)}
}

// refill says how a switch is to be brought to the program: by the difference in the epoch that it has, or, where its canary is missing or tells
// another layout of the tables, by all flows in a new epoch; what is of the old one goes in the same bundle. recorded is the epoch that the
// database remembers, of flows that may be gone; with anew all are sent whatever the switch has.
func refill(p *flows.Compiler, h *carried, recorded uint16, anew bool) *work {
	c := h.canary()
	if !anew && c.found && c.layout == flows.Layout && c.epoch != 0 {
		return compare(p, h, c.epoch).messages(p, h, c.epoch)
	}
	epoch := max(recorded, c.epoch) + 1
	for k := range h.flows {
		for h.flows[k].Cookie.Epoch() == epoch { // somebody else's, or of a count that has gone round
			epoch++
		}
	}
	if epoch == 0 {
		epoch = 1
	}
	d := compare(p, h, epoch)
	if c.found {
		d.stale = slices.DeleteFunc(d.stale, func(k flows.FlowKey) bool { return h.flows[k].Cookie.Epoch() == c.epoch })
	}
	w := d.messages(p, h, epoch)
	w.whole = c.found && c.layout != flows.Layout // flows of two layouts must not meet
	if c.found {
		old := openflow.NewFlowMod(openflow.FlowDelete)
		old.Table, old.Cookie, old.CookieMask = openflow.AllTables, uint64(c.epoch)<<48, flows.EpochMask
		w.bundle = append(w.bundle, old)
	}
	told := canary(flows.Layout)
	w.bundle = append(w.bundle, canaryKey().Message(&told, epoch))
	return w
}
