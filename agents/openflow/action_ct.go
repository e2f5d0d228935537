package openflow

import (
	"fmt"
	"slices"
)

// Flags of CT.
const (
	CTCommit uint16 = 1 << 0
	CTForce  uint16 = 1 << 1
)

// NoTable is CT.Table for a packet that does not come back.
const NoTable = 0xff

// CT hands the packet to the connection tracker. With a Table, a copy goes on there with the state known, in ct_state.
type CT struct {
	Flags   uint16
	Zone    uint16 // used where ZoneFrom has no field
	ZoneOf  Part   // a part of a field that holds the zone
	Table   uint8
	ALG     uint16   // 21: FTP, 69: TFTP, 0: none
	Actions []Action // *NAT, and *SetField, *Load or *Move to ct_mark and ct_label
}

func (*CT) kind() actionKind { return nx(35) }
func (a *CT) code(c *coder) {
	c.u16(&a.Flags)
	switch {
	case c.reading && c.peek32(0) == 0, !c.reading && a.ZoneOf.Field == NoField:
		var none uint32
		c.u32(&none)
		c.u16(&a.Zone)
	default:
		a.ZoneOf.Field.code(c)
		a.ZoneOf.narrow(c)
		a.ZoneOf.check(c)
	}
	c.u8(&a.Table)
	c.skip(3)
	c.u16(&a.ALG)
	codeActions(c, &a.Actions)
}

// Flags of NAT; without Src and Dst the translation of a known connection is applied.
const (
	NATSrc        uint16 = 1 << 0
	NATDst        uint16 = 1 << 1
	NATPersistent uint16 = 1 << 2
	NATHash       uint16 = 1 << 3
	NATRandom     uint16 = 1 << 4
)

// NAT translates addresses, within CT. An address is given as 4 or 16 bytes, or none; a range ends with its second.
type NAT struct {
	Flags            uint16
	Min, Max         []byte
	MinPort, MaxPort uint16 // 0: none
}

func (*NAT) kind() actionKind { return nx(36) }

// The bits of range_present announce, in their order: the first and last IPv4 address, the first and last IPv6 address, the first and last port.
func (a *NAT) code(c *coder) {
	c.skip(2)
	c.u16(&a.Flags)
	var present uint16
	if !c.reading {
		present = a.present(c)
	}
	c.u16(&present)
	if present&0x3 != 0 && present&0xc != 0 || present > 0x3f {
		c.fail(fmt.Errorf("%w: NAT with the parts %#x", ErrValue, present))
	}
	for i, to := range []*[]byte{&a.Min, &a.Max} {
		switch {
		case present>>i&1 != 0:
			codeAddress(c, to, 4)
		case present>>i&4 != 0:
			codeAddress(c, to, 16)
		}
	}
	if present&0x10 != 0 {
		c.u16(&a.MinPort)
	}
	if present&0x20 != 0 {
		c.u16(&a.MaxPort)
	}
}

func codeAddress(c *coder, to *[]byte, n int) {
	if c.reading {
		*to = slices.Clone(c.take(n))
		return
	}
	c.fixed(*to)
}

// present is the bits of the parts that the action has.
func (a *NAT) present(c *coder) uint16 {
	var bits uint16
	for i, address := range [][]byte{a.Min, a.Max} {
		switch len(address) {
		case 0:
		case 4:
			bits |= 1 << i
		case 16:
			bits |= 4 << i
		default:
			c.fail(fmt.Errorf("%w: an address of %d bytes", ErrValue, len(address)))
		}
	}
	if a.MinPort != 0 {
		bits |= 0x10
	}
	if a.MaxPort != 0 {
		bits |= 0x20
	}
	return bits
}

// CTClear forgets what the connection tracker said of the packet.
type CTClear struct{}

func (*CTClear) kind() actionKind { return nx(43) }
func (*CTClear) code(c *coder)    { c.skip(6) }
