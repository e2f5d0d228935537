package flows

import (
	"maps"
	"slices"
)

// Pending adds deltas up until somebody has room for them. Adding one takes as long as it is large, whatever has added up. The zero value is empty.
type Pending struct {
	only   *Delta // all that there is, where that is one delta; the fields below are empty then
	flows  map[FlowKey]FlowChange
	groups map[uint32]bool // the last word on each: made or changed, or gone. What went and came again is made.
	meters map[uint32]bool
}

// Add adds a delta, which it keeps.
func (p *Pending) Add(d *Delta) {
	switch {
	case d.Empty():
	case p.Empty():
		*p = Pending{only: d}
	default:
		p.add(p.only)
		p.only = nil
		p.add(d)
	}
}

func (p *Pending) add(d *Delta) {
	if d == nil {
		return
	}
	if p.flows == nil {
		p.flows, p.groups, p.meters = make(map[FlowKey]FlowChange, len(d.Flows)), map[uint32]bool{}, map[uint32]bool{}
	}
	for _, f := range d.Flows {
		if was, ok := p.flows[f.Key]; ok {
			f.Old = was.Old
		}
		if f.Old == nil && f.New == nil || f.Old != nil && f.New != nil && *f.Old == *f.New {
			delete(p.flows, f.Key)
		} else {
			p.flows[f.Key] = f
		}
	}
	for _, last := range []struct {
		of  map[uint32]bool
		ids []uint32
		set bool
	}{{p.groups, d.Groups, true}, {p.groups, d.GroupsGone, false}, {p.meters, d.Meters, true}, {p.meters, d.MetersGone, false}} {
		for _, id := range last.ids {
			last.of[id] = last.set
		}
	}
}

// Empty says whether there is nothing to do.
func (p *Pending) Empty() bool { return p.only == nil && len(p.flows)+len(p.groups)+len(p.meters) == 0 }

// Flows is how many flows are to be changed, and Len that with groups and meters.
func (p *Pending) Flows() int {
	if p.only != nil {
		return len(p.only.Flows)
	}
	return len(p.flows)
}

// Len is how many flows, groups and meters are to be changed.
func (p *Pending) Len() int {
	if d := p.only; d != nil {
		return len(d.Flows) + len(d.Groups) + len(d.GroupsGone) + len(d.Meters) + len(d.MetersGone)
	}
	return len(p.flows) + len(p.groups) + len(p.meters)
}

// Take is all that was added, as one delta. Nothing is left.
func (p *Pending) Take() *Delta {
	d := p.only
	if d == nil {
		d = &Delta{Flows: slices.SortedFunc(maps.Values(p.flows), func(a, b FlowChange) int { return a.Key.Compare(b.Key) })}
		d.Groups, d.GroupsGone = parted(p.groups)
		d.Meters, d.MetersGone = parted(p.meters)
	}
	*p = Pending{}
	return d
}

func parted(last map[uint32]bool) (set, gone []uint32) {
	for id, there := range last {
		if there {
			set = append(set, id)
		} else {
			gone = append(gone, id)
		}
	}
	slices.Sort(set)
	slices.Sort(gone)
	return set, gone
}
