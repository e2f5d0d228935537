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
		if was.Field != f || was.Other != "" {
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
		return cmp.Compare(x.Field, f)
	})
	return slices.Insert(out, at, MatchField{Field: f, Value: v.And(mask), Mask: mask})
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
	if !c.reading {
		if x.Other != "" {
			c.b = append(c.b, x.Other...)
			return
		}
		if x.Field == NoField || x.Field >= fieldCount {
			c.fail(fmt.Errorf("%w: a match without a field", ErrValue))
			return
		}
		n, whole := x.Field.size(), x.Mask == Ones(x.Field.Bits())
		c.b = binary.BigEndian.AppendUint32(c.b, x.Field.header(!whole))
		if fields[x.Field].class == classExp {
			c.b = binary.BigEndian.AppendUint32(c.b, onf)
		}
		c.b = x.Value.append(c.b, n)
		if !whole {
			c.b = x.Mask.append(c.b, n)
		}
		return
	}
	begin := c.b
	h := c.peek32(0)
	size := int(h & 0xff)
	c.take(4)
	raw := c.take(size)
	if c.err != nil {
		return
	}
	id, known := byHead[h&^0x1ff]
	if h>>16 == classExp {
		if known = known && size >= 4 && binary.BigEndian.Uint32(raw) == onf; known {
			raw, size = raw[4:], size-4
		}
	}
	masked, want := h&0x100 != 0, 0
	if known {
		if want = id.size(); masked {
			want *= 2
		}
	}
	if !known || size != want {
		if known || size == 0 {
			c.fail(fmt.Errorf("%w: field %#08x", ErrLength, h))
			return
		}
		*x = MatchField{Other: string(begin[:4+size])}
		return
	}
	x.Field, x.Mask = id, Ones(id.Bits())
	if masked {
		x.Mask = Bytes(raw[size/2:]).And(x.Mask)
		raw = raw[:size/2]
	}
	x.Value = Bytes(raw).And(x.Mask)
}

// fields codes the conditions alone, without a header.
func (m *Match) fields(c *coder) {
	list(c, (*[]MatchField)(m), func(c *coder, x *MatchField) { x.code(c) })
	if c.reading && c.err == nil {
		c.fail(m.check())
	}
}

// check reports a match that no switch would have written.
func (m Match) check() error {
	for i := 1; i < len(m); i++ {
		for _, before := range m[:i] {
			if before.Field == m[i].Field && m[i].Other == before.Other {
				return fmt.Errorf("%w: the field %s twice", ErrValue, m[i].Field)
			}
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
