package openflow

import "fmt"

// Hashes of Multipath and MemberChoice: which fields of a packet count.
const (
	HashEthSrc           uint16 = 0
	HashSymmetricL4      uint16 = 1 // both directions of a connection are the same
	HashSymmetricL3L4    uint16 = 2
	HashSymmetricL3L4UDP uint16 = 3 // with UDP's ports
	HashIPSrc            uint16 = 4
	HashIPDst            uint16 = 5
	HashSymmetricL3      uint16 = 6
	ChooseModulo         uint16 = 0 // Multipath.Algorithm
	ChooseThreshold      uint16 = 1
	ChooseHighestWeight  uint16 = 2
	ChooseIterative      uint16 = 3
	MemberActiveBackup   uint16 = 0 // MemberChoice.Algorithm: the first that lives
	MemberHighestWeight  uint16 = 1
)

// Multipath hashes the packet into one of Links numbers from 0, and sets To to it.
type Multipath struct {
	Fields, Basis uint16
	Algorithm     uint16
	Links         int // 1 to 65,536
	Arg           uint32
	To            Part
}

func (*Multipath) kind() actionKind { return nx(10) }
func (a *Multipath) code(c *coder) {
	if !c.reading && (a.Links < 1 || a.Links > 65536) {
		c.fail(fmt.Errorf("%w: %d links", ErrValue, a.Links))
	}
	last := uint16(a.Links - 1) //nolint:gosec // checked
	c.u16(&a.Fields)
	c.u16(&a.Basis)
	c.skip(2)
	c.u16(&a.Algorithm)
	c.u16(&last)
	c.u32(&a.Arg)
	c.skip(2)
	a.To.narrow(c)
	a.To.Field.code(c)
	a.To.check(c)
	if c.reading {
		a.Links = int(last) + 1
	}
}

// MemberChoice hashes the packet into one of some ports. It sends the packet there, or, where To has a field, sets that to the port. ovs-actions(7) calls
// it bundle and bundle_load.
type MemberChoice struct {
	Fields, Basis uint16
	Algorithm     uint16
	Members       []uint16
	To            Part
}

func (a *MemberChoice) kind() actionKind {
	if a.To.Field == NoField {
		return nx(12)
	}
	return nx(13)
}

func (a *MemberChoice) code(c *coder) {
	member, n, none := uint32(0x00000002), uint16(len(a.Members)), uint32(0) // NXM_OF_IN_PORT
	c.u16(&a.Algorithm)
	c.u16(&a.Fields)
	c.u16(&a.Basis)
	c.u32(&member)
	c.u16(&n)
	if c.reading && c.peek32(2) == 0 || !c.reading && a.To.Field == NoField {
		c.skip(2)
		c.u32(&none)
	} else {
		a.To.narrow(c)
		a.To.Field.code(c)
		a.To.check(c)
	}
	c.skip(4)
	if c.reading {
		if int(n)*2 > len(c.b) {
			c.fail(ErrShort)
			return
		}
		a.Members = make([]uint16, n)
	}
	for i := range a.Members {
		c.u16(&a.Members[i])
	}
}
