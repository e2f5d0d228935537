package openflow

// RawFlow is a FlowMod whose match and instructions are given as the bytes of Match.Key and InstructionsKey: who keeps many flows keeps them so, and sends
// them without building them again. It is only written; what is read is a FlowMod.
type RawFlow struct {
	Cookie, CookieMask uint64
	Table              uint8
	Command            FlowCommand
	Priority           uint16
	Flags              uint16
	Match              string
	Instructions       string
}

func (*RawFlow) kind() messageKind { return plain(14) }
func (m *RawFlow) code(c *coder) {
	if c.reading {
		c.fail(ErrType)
		return
	}
	c.u64(&m.Cookie)
	c.u64(&m.CookieMask)
	c.u8(&m.Table)
	c.u8((*uint8)(&m.Command))
	c.pad(4) // no timeouts
	c.u16(&m.Priority)
	anything := [3]uint32{NoBuffer, PortAny, AnyGroup}
	for i := range anything {
		c.u32(&anything[i])
	}
	c.u16(&m.Flags)
	c.pad(2)
	c.sized(2, 8, false, func(c *coder) {
		kind := uint16(1) // OFPMT_OXM
		c.u16(&kind)
		c.length()
		c.b = append(c.b, m.Match...)
	})
	c.b = append(c.b, m.Instructions...)
}

// DecodeMatch reads what Match.Key wrote.
func DecodeMatch(key string) (Match, error) {
	c := &coder{b: []byte(key), reading: true}
	var m Match
	m.fields(c)
	return m, c.err
}

// DecodeInstructions reads what InstructionsKey wrote.
func DecodeInstructions(key string) ([]Instruction, error) {
	c := &coder{b: []byte(key), reading: true}
	var out []Instruction
	codeInstructions(c, &out)
	return out, c.err
}
