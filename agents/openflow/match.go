package openflow

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// MatchField is a condition on one field: the bits of Mask must be those of Value. A field without a mask has a Mask of all its bits.
type MatchField struct {
	Field FieldID
	Value Value
	Mask  Value
	// Other is a condition on a field that this package does not know, as it was on the wire, and Field is NoField.
	Other string
}

// Match is a conjunction of conditions; an empty one is true of every packet. Its order is that of the fields, each of which stands in it once.
// It is built by With and the functions that call it, which return a longer match and leave the receiver as it was.
type Match []MatchField

// With adds that a field has a value.
func (m Match) With(f FieldID, v Value) Match { return m.Masked(f, v, Ones(f.Bits())) }

// Masked adds that the bits of mask of a field have those of the value; a mask without a bit adds nothing. What was said of the field before goes.
func (m Match) Masked(f FieldID, v, mask Value) Match {
	mask = mask.And(Ones(f.Bits()))
	out := make(Match, 0, len(m)+1)
	for _, was := range m {
		if was.Field.plain() != f.plain() || was.Other != "" {
			out = append(out, was)
		}
	}
	if mask.IsZero() {
		return out
	}
	at, _ := slices.BinarySearchFunc(out, f, func(x MatchField, f FieldID) int {
		if x.Other != "" {
			return 1
		}
		return cmp.Compare(x.Field.plain(), f.plain())
	})
	return slices.Insert(out, at, MatchField{Field: f, Value: v.And(mask), Mask: mask})
}

// Present adds that a tunnel has an option, whatever is in it.
func (m Match) Present(option FieldID) Match {
	out := m.With(option, Value{})
	at := slices.IndexFunc(out, func(x MatchField) bool { return x.Field == option })
	out[at].Mask = Value{}
	return out
}

// Num adds that a field of up to 64 bits has a value.
func (m Match) Num(f FieldID, v uint64) Match { return m.With(f, Num(v)) }

// Part adds that n bits of a field, from bit from on, have a value.
func (m Match) Part(f FieldID, from, n int, v uint64) Match {
	mask, value := Ones(n).Shl(from), Num(v).Shl(from)
	if was, ok := m.Find(f); ok {
		value, mask = was.Value.And(mask.Not()).Or(value), was.Mask.Or(mask)
	}
	return m.Masked(f, value, mask)
}

// MAC adds that a field of 48 bits is an Ethernet address.
func (m Match) MAC(f FieldID, a net.HardwareAddr) Match { return m.With(f, Bytes(a)) }

// Addr adds that a field is an IP address, which must be of the field's family.
func (m Match) Addr(f FieldID, a netip.Addr) Match { return m.With(f, Bytes(a.AsSlice())) }

// Prefix adds that a field is in a prefix, which must be of the field's family.
func (m Match) Prefix(f FieldID, p netip.Prefix) Match {
	n := f.Bits()
	return m.Masked(f, Bytes(p.Addr().AsSlice()), Ones(p.Bits()).Shl(n-p.Bits()))
}

// Find returns the condition on a field.
func (m Match) Find(f FieldID) (MatchField, bool) {
	for _, x := range m {
		if x.Field == f && x.Other == "" {
			return x, true
		}
	}
	return MatchField{}, false
}

func (x *MatchField) code(c *coder) {
	if c.reading {
		x.read(c)
		return
	}
	if x.Other != "" {
		c.b = append(c.b, x.Other...)
		return
	}
	if !x.Field.known() || x.Field.size() > 16 {
		c.fail(fmt.Errorf("%w: a match without a field", ErrValue))
		return
	}
	n, whole := x.Field.size(), x.Mask == Ones(x.Field.Bits())
	c.b = binary.BigEndian.AppendUint32(c.b, x.Field.header(!whole))
	if x.Field.class() == classExp {
		c.b = binary.BigEndian.AppendUint32(c.b, onf)
	}
	c.b = x.Value.append(c.b, n)
	if !whole {
		c.b = x.Mask.append(c.b, n)
	}
}

func (x *MatchField) read(c *coder) {
	begin, h := c.b, c.peek32(0)
	c.take(4)
	raw := c.take(int(h & 0xff))
	if c.err != nil {
		return
	}
	id, ok := byHead[h&^0x1ff]
	if h>>16 == classExp {
		if ok = ok && len(raw) >= 4 && binary.BigEndian.Uint32(raw) == onf; ok {
			raw = raw[4:]
		}
	}
	n, masked := len(raw), h&0x100 != 0
	if masked {
		n /= 2
	}
	if ok && id.option() {
		ok = n > 0 && n <= 16
		id |= FieldID(n) << 8 //nolint:gosec // 8 bits
	}
	if !ok {
		if len(raw) == 0 && !id.option() { // one that is only asked for has no bytes, if its size was not known
			c.fail(fmt.Errorf("%w: field %#08x", ErrLength, h))
		}
		*x = MatchField{Other: string(begin[:4+h&0xff])}
		return
	}
	if n != id.size() || masked && len(raw) != 2*n {
		c.fail(fmt.Errorf("%w: field %#08x", ErrLength, h))
		return
	}
	x.Field, x.Mask = id, Ones(id.Bits())
	if masked {
		x.Mask = Bytes(raw[n:]).And(x.Mask)
	}
	x.Value = Bytes(raw[:n]).And(x.Mask)
}

// set codes a field with a value as actions have it: Open vSwitch leaves the zeros before a tunnel's option out, all of them if there is nothing else.
func (x *MatchField) set(c *coder) {
	if c.reading {
		if h := c.peek32(0); h&0xff == 0 && byHead[h&^0x1ff].option() {
			c.take(4)
			x.Field = byHead[h&^0x1ff] | 1<<8
			x.Value, x.Mask = Value{}, Ones(8)
			return
		}
		x.read(c)
		return
	}
	if !x.Field.option() {
		x.code(c)
		return
	}
	n, whole := x.Value.width(), x.Mask == Ones(x.Field.Bits())
	if !whole {
		n = max(n, x.Mask.width())
	}
	n = (n + 7) / 8
	h := x.Field.plain().header(!whole) | uint32(n) //nolint:gosec // at most 16
	if !whole {
		h += uint32(n) //nolint:gosec // at most 16
	}
	c.b = binary.BigEndian.AppendUint32(c.b, h)
	if c.b = x.Value.append(c.b, n); !whole {
		c.b = x.Mask.append(c.b, n)
	}
}

// fields codes the conditions alone, without a header.
func (m *Match) fields(c *coder) {
	list(c, (*[]MatchField)(m), conditions, func(c *coder, x *MatchField) { x.code(c) })
	if c.reading && c.err == nil {
		c.fail(m.check())
	}
}

// check reports a match that no switch would have written.
func (m Match) check() error {
	var seen [fieldCount]bool
	var others map[string]bool
	for _, x := range m {
		switch {
		case x.Other == "":
			if seen[x.Field.plain()] {
				return fmt.Errorf("%w: the field %s twice", ErrValue, x.Field)
			}
			seen[x.Field.plain()] = true
		case others[x.Other]:
			return fmt.Errorf("%w: the field %#x twice", ErrValue, x.Other)
		default:
			if others == nil {
				others = map[string]bool{}
			}
			others[x.Other] = true
		}
	}
	return nil
}

// code codes an ofp_match (OpenFlow 1.3 section 7.2.3.1).
func (m *Match) code(c *coder) {
	c.sized(2, 8, false, func(c *coder) {
		kind := uint16(1) // OFPMT_OXM
		c.u16(&kind)
		if kind != 1 {
			c.fail(fmt.Errorf("%w: match %d", ErrType, kind))
		}
		c.length()
		m.fields(c)
	})
}

// Key is the match as bytes: two matches are the same if and only if their keys are.
func (m Match) Key() string {
	c := &coder{b: make([]byte, 0, 16*len(m))}
	m.fields(c)
	return string(c.b)
}
