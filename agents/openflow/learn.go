package openflow

import "fmt"

// Flags of Learn.
const (
	LearnSendFlowRemoved uint16 = 1 << 0
	LearnDeleteLearned   uint16 = 1 << 1 // the learned flows go with the flow that learned them
)

// Learn adds a flow, or refreshes it, that is made from the packet.
type Learn struct {
	Idle, Hard       uint16 // seconds; 0: for ever
	Priority         uint16
	Cookie           uint64
	Flags            uint16
	Table            uint8
	FinIdle, FinHard uint16 // seconds after a TCP connection's end; 0: as before
	Specs            []LearnSpec
}

// LearnTo says what a part of the packet becomes in the learned flow.
type LearnTo uint8

// What becomes of a LearnSpec.
const (
	LearnMatch  LearnTo = 0 // a condition on To
	LearnLoad   LearnTo = 1 // an action that sets To
	LearnOutput LearnTo = 2 // an action that sends to the port in From
)

// LearnSpec is a condition or an action of the learned flow. What is learned is a part of the packet, From, or, where that has no field, Value.
type LearnSpec struct {
	Kind  LearnTo
	From  Part
	Value []byte // network order, whole 16-bit units, the bits at the end
	To    Part   // its N is the width of either
}

func (*Learn) kind() actionKind { return nx(16) }
func (a *Learn) code(c *coder) {
	c.u16(&a.Idle)
	c.u16(&a.Hard)
	c.u16(&a.Priority)
	c.u64(&a.Cookie)
	c.u16(&a.Flags)
	c.u8(&a.Table)
	c.pad(1)
	c.u16(&a.FinIdle)
	c.u16(&a.FinHard)
	if c.reading {
		a.Specs = nil
		for c.err == nil && len(c.b) >= 2 && c.peek16(0) != 0 {
			var s LearnSpec
			s.code(c)
			a.Specs = append(a.Specs, s)
		}
		c.pad(len(c.b))
		return
	}
	for i := range a.Specs {
		a.Specs[i].code(c)
	}
}

// The header of a spec (nicira-ext.h, "struct nx_action_learn"): bits 0-10 the width, 11-12 the Kind, 13 whether the source is immediate.
const learnImmediate = 1 << 13

func (s *LearnSpec) code(c *coder) {
	width := s.To.N
	if s.Kind == LearnOutput {
		width = s.From.N
	}
	h := uint16(width) | uint16(s.Kind)<<11 //nolint:gosec // checked below
	if s.From.Field == NoField {
		h |= learnImmediate
	}
	c.u16(&h)
	immediate := h&learnImmediate != 0
	if c.reading {
		width, s.Kind = int(h&0x7ff), LearnTo(h>>11&3)
		s.To.N = width
		if !immediate {
			s.From.N = width
		}
	}
	if c.err != nil || width < 1 || width > 0x7ff || s.Kind > LearnOutput || h&^uint16(0x3fff) != 0 || immediate && s.Kind == LearnOutput {
		c.fail(fmt.Errorf("%w: a learned part %#04x", ErrValue, h))
		return
	}
	if immediate {
		n := (width + 15) / 16 * 2
		if c.reading {
			s.Value = make([]byte, n)
		}
		if len(s.Value) != n {
			c.fail(fmt.Errorf("%w: %d bytes for %d bits", ErrValue, len(s.Value), width))
		}
		c.fixed(s.Value)
	} else {
		s.From.Field.code(c)
		codeInt16(c, &s.From.From)
		if s.From.N != width {
			c.fail(fmt.Errorf("%w: learning %d bits into %d", ErrValue, s.From.N, width))
		}
		s.From.check(c)
	}
	if s.Kind != LearnOutput {
		s.To.Field.code(c)
		codeInt16(c, &s.To.From)
		s.To.check(c)
	}
}
