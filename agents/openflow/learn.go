package openflow

import "fmt"

// Flags of Learn.
const (
	LearnSendFlowRemoved uint16 = 1 << 0
	LearnDeleteLearned   uint16 = 1 << 1 // the learned flows go with the flow that learned them
	LearnWriteResult     uint16 = 1 << 2 // Learn.Result is set to whether there was room below Learn.Limit
)

// Learn adds a flow, or refreshes it, that is made from the packet.
type Learn struct {
	Idle, Hard       uint16 // seconds; 0: for ever
	Priority         uint16
	Cookie           uint64
	Flags            uint16
	Table            uint8
	FinIdle, FinHard uint16 // seconds after a TCP connection's end; 0: as before
	Limit            uint32 // of learned flows with this cookie in the table; 0: none
	Result           Part   // of 1 bit, with LearnWriteResult
	Specs            []LearnSpec

	long bool // it was read in the form that has room for a limit
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

func (a *Learn) kind() actionKind {
	if a.long || a.Limit != 0 || a.Flags&LearnWriteResult != 0 {
		return nx(45)
	}
	return nx(16)
}

func (a *Learn) code(c *coder) {
	long := a.kind() == nx(45)
	c.u16(&a.Idle)
	c.u16(&a.Hard)
	c.u16(&a.Priority)
	c.u64(&a.Cookie)
	c.u16(&a.Flags)
	c.u8(&a.Table)
	c.pad(1)
	c.u16(&a.FinIdle)
	c.u16(&a.FinHard)
	if long {
		a.limit(c)
	}
	if c.reading {
		a.long = false
		a.long = long && a.kind() != nx(45)
	}
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

// limit codes what the longer form has before the specs.
func (a *Learn) limit(c *coder) {
	c.u32(&a.Limit)
	codeInt16(c, &a.Result.From)
	c.skip(2)
	if a.Flags&LearnWriteResult == 0 {
		return
	}
	a.Result.Field.code(c)
	if c.reading {
		a.Result.N = 1
	} else if a.Result.N != 1 {
		c.fail(fmt.Errorf("%w: a result of %d bits", ErrValue, a.Result.N))
	}
	a.Result.check(c)
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
