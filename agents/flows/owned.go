package flows

import "slices"

// owned is a group or a meter and the units that ask for it. It stays, without an owner, until the next delta.
type owned[T any] struct {
	by []ownership[T]
}

type ownership[T any] struct {
	unit  *unit
	value T
}

func differ[T any](have map[uint32]*owned[T], touched map[uint32]*T, same func(a, b *T) bool) (set, gone []uint32) {
	for id, was := range touched {
		now := have[id]
		switch {
		case now == nil && was != nil:
			gone = append(gone, id)
		case now != nil && (was == nil || !same(was, now.value())):
			set = append(set, id)
		}
	}
	slices.Sort(set)
	slices.Sort(gone)
	return set, gone
}

func own[T any](m map[uint32]*owned[T], touched map[uint32]*T, id uint32, u *unit, value T) {
	o := m[id]
	keep(touched, id, o)
	if o == nil {
		o = &owned[T]{}
		m[id] = o
	}
	if i := o.of(u); i >= 0 {
		o.by[i].value = value
	} else {
		o.by = append(o.by, ownership[T]{u, value})
	}
}

func disown[T any](m map[uint32]*owned[T], touched map[uint32]*T, id uint32, u *unit) {
	o := m[id]
	if o == nil {
		return
	}
	keep(touched, id, o)
	if i := o.of(u); i >= 0 {
		o.by = slices.Delete(o.by, i, i+1)
	}
	if len(o.by) == 0 {
		delete(m, id)
	}
}

func keep[T any](touched map[uint32]*T, id uint32, o *owned[T]) {
	if _, ok := touched[id]; ok {
		return
	}
	if o == nil {
		touched[id] = nil
		return
	}
	was := *o.value()
	touched[id] = &was
}

func (o *owned[T]) of(u *unit) int {
	return slices.IndexFunc(o.by, func(x ownership[T]) bool { return x.unit == u })
}

// value is that of the first owner, in the order of their keys.
func (o *owned[T]) value() *T {
	first := 0
	for i := range o.by {
		if o.by[i].unit.key.compare(o.by[first].unit.key) < 0 {
			first = i
		}
	}
	return &o.by[first].value
}
