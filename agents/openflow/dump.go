package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
)

// FlowView is a flow of a dump, of which the match and the instructions were not taken apart. They are the bytes of Match.Key and InstructionsKey: who
// compares a dump with what it wants needs no more of most flows.
type FlowView struct {
	Table              uint8
	Seconds, Nanos     uint32 // its age
	Priority           uint16
	Idle, Hard         uint16
	Flags              uint16
	Cookie             uint64
	Packets, ByteCount uint64
	Match              []byte
	Instructions       []byte

	raw []byte
}

// Flow takes the rest of the flow apart; it keeps nothing of v.
func (v *FlowView) Flow() (FlowStats, error) {
	var f FlowStats
	c := coder{b: v.raw, reading: true}
	c.sized(0, 1, true, f.code)
	return f, c.err
}

// EachFlow asks for flows and calls each with each of them as they come, until each returns an error. The view is valid until
// each returns, and each must not wait for an answer of the switch.
func (c *Conn) EachFlow(ctx context.Context, r *FlowRequest, each func(*FlowView) error) error {
	return c.stream(ctx, PartFlow, r, func(raw []byte) error {
		const begin = headerSize + 8
		if len(raw) < begin || PartKind(binary.BigEndian.Uint16(raw[headerSize:])) != PartFlow {
			return fmt.Errorf("read flows: %w: another multipart", ErrType)
		}
		var v FlowView
		for rest := raw[begin:]; len(rest) > 0; {
			n, err := v.read(rest)
			if err != nil {
				return fmt.Errorf("read flows: %w", err)
			}
			if err := each(&v); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

// read reads the flow at the begin of b, and says how long it is (OpenFlow 1.3 section 7.3.5.2).
func (v *FlowView) read(b []byte) (int, error) {
	const fixed, match = 48, 4
	if len(b) < fixed+match {
		return 0, ErrShort
	}
	size, fields := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[fixed+2:]))
	padded := (fields + 7) / 8 * 8
	if size > len(b) || fields < match || fixed+padded > size {
		return 0, ErrLength
	}
	*v = FlowView{Table: b[2], Seconds: binary.BigEndian.Uint32(b[4:]), Nanos: binary.BigEndian.Uint32(b[8:]), Priority: binary.BigEndian.Uint16(b[12:]),
		Idle: binary.BigEndian.Uint16(b[14:]), Hard: binary.BigEndian.Uint16(b[16:]), Flags: binary.BigEndian.Uint16(b[18:]), Cookie: binary.BigEndian.Uint64(b[24:]),
		Packets: binary.BigEndian.Uint64(b[32:]), ByteCount: binary.BigEndian.Uint64(b[40:]),
		Match: b[fixed+match : fixed+fields], Instructions: b[fixed+padded : size], raw: b[:size]}
	return size, nil
}
