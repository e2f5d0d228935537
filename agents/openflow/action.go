package openflow

import (
	"errors"
	"fmt"
)

// Action is what a flow or a bucket does with a packet. The actions are the pointers to the structs of this package; those that are not
// known are an *OtherAction.
type Action interface {
	code(c *coder)
	kind() actionKind
	text(p *printer)
}

// actionKind is an action's number: its type, and for an extension its vendor and subtype.
type actionKind struct {
	kind    uint16
	vendor  uint32
	subtype uint16
}

const (
	experimenter = 0xffff
	nicira       = 0x00002320
	onf          = 0x4f4e4600
)

func of(kind uint16) actionKind    { return actionKind{kind: kind} }
func nx(subtype uint16) actionKind { return actionKind{experimenter, nicira, subtype} }

// actions makes each known action.
var actions = func() map[actionKind]func() Action {
	m := map[actionKind]func() Action{}
	for _, make := range []func() Action{
		func() Action { return new(Output) }, func() Action { return new(PushVLAN) }, func() Action { return new(PopVLAN) },
		func() Action { return new(SetQueue) }, func() Action { return new(Group) }, func() Action { return new(SetNWTTL) },
		func() Action { return new(DecNWTTL) }, func() Action { return new(SetField) }, func() Action { return new(Resubmit) },
		func() Action { return &Resubmit{CT: true} }, func() Action { return new(Move) }, func() Action { return new(Load) },
		func() Action { return new(LoadMasked) }, func() Action { return new(Note) }, func() Action { return new(OutputReg) },
		func() Action { return new(Learn) }, func() Action { return new(Exit) }, func() Action { return new(DecTTLTo) },
		func() Action { return new(Controller) }, func() Action { return new(Push) }, func() Action { return new(Pop) },
		func() Action { return new(Sample) }, func() Action { return new(Conjunction) }, func() Action { return new(CT) },
		func() Action { return new(NAT) }, func() Action { return new(OutputTrunc) }, func() Action { return new(Clone) },
		func() Action { return new(CTClear) }, func() Action { return new(CheckPktLarger) }, func() Action { return new(DeleteField) },
		func() Action { return new(ResubmitPort) }, func() Action { return new(SetTunnel) }, func() Action { return &SetTunnel{Wide: true} },
		func() Action { return new(FinTimeout) }, func() Action { return new(Multipath) }, func() Action { return new(MemberChoice) },
		func() Action { return &MemberChoice{To: Whole(Reg0)} }, func() Action { return &OutputReg{Long: true} },
		func() Action { return &Learn{Limit: 1} }, func() Action { return &Controller{Short: true} },
		func() Action { return &Sample{Port: NoPort} }, func() Action { return &Sample{Direction: 1} },
	} {
		m[make().kind()] = make
	}
	return m
}()

// codeActions codes actions to the end of the part.
func codeActions(c *coder, list_ *[]Action) {
	list(c, list_, lengthAtTwo, func(c *coder, a *Action) {
		// The length counts the zeros at the end (OpenFlow 1.3 section 7.2.4).
		c.sized(2, 8, true, func(c *coder) { codeAction(c, a) })
	})
}

func codeAction(c *coder, a *Action) {
	var k actionKind
	if !c.reading {
		k = (*a).kind()
	}
	c.u16(&k.kind)
	c.length()
	if k.kind == experimenter {
		c.u32(&k.vendor)
		c.u16(&k.subtype)
	}
	if !c.reading || c.err != nil {
		if c.err == nil {
			(*a).code(c)
		}
		return
	}
	body, other := c.b, func() { *a = &OtherAction{Type: k.kind, Vendor: k.vendor, Subtype: k.subtype} }
	if make := actions[k]; make != nil {
		*a = make()
	} else {
		other()
	}
	(*a).code(c)
	// An action on a field that is not known must not hide the flow that has it, which may be another program's.
	if errors.Is(c.err, ErrType) {
		c.err, c.b = nil, body
		other()
		(*a).code(c)
	}
}

// Reserved port numbers of OpenFlow 1.3 (section 7.2.1).
const (
	PortMax        = 0xffffff00 // ports have numbers below; those of Open vSwitch are at most 65,279
	PortIn         = 0xfffffff8 // back to where the packet came from
	PortTable      = 0xfffffff9 // of a PacketOut: through the tables
	PortNormal     = 0xfffffffa
	PortFlood      = 0xfffffffb
	PortAll        = 0xfffffffc
	PortController = 0xfffffffd
	PortLocal      = 0xfffffffe
	PortAny        = 0xffffffff

	NoPort = 0xffff // none, where an action of Open vSwitch has 16 bits for a port
)

// Output sends the packet to a port. MaxLen is the number of bytes that the controller gets, where the port is that.
type Output struct {
	Port   uint32
	MaxLen uint16
}

func (*Output) kind() actionKind { return of(0) }
func (a *Output) code(c *coder) {
	c.u32(&a.Port)
	c.u16(&a.MaxLen)
	c.skip(6)
}

// PushVLAN adds a tag of an Ethertype: 0x8100 or 0x88a8.
type PushVLAN struct{ EtherType uint16 }

func (*PushVLAN) kind() actionKind { return of(17) }
func (a *PushVLAN) code(c *coder)  { c.u16(&a.EtherType); c.skip(2) }

// PopVLAN takes the outer tag away.
type PopVLAN struct{}

func (*PopVLAN) kind() actionKind { return of(18) }
func (*PopVLAN) code(c *coder)    { c.skip(4) }

// SetQueue chooses the queue of the ports that follow.
type SetQueue struct{ Queue uint32 }

func (*SetQueue) kind() actionKind { return of(21) }
func (a *SetQueue) code(c *coder)  { c.u32(&a.Queue) }

// Group hands the packet to a group.
type Group struct{ Group uint32 }

func (*Group) kind() actionKind { return of(22) }
func (a *Group) code(c *coder)  { c.u32(&a.Group) }

// SetNWTTL sets the TTL or hop limit.
type SetNWTTL struct{ TTL uint8 }

func (*SetNWTTL) kind() actionKind { return of(23) }
func (a *SetNWTTL) code(c *coder)  { c.u8(&a.TTL); c.skip(3) }

// DecNWTTL lowers the TTL or hop limit by one; a packet that had 1 ends here and goes to the controller.
type DecNWTTL struct{}

func (*DecNWTTL) kind() actionKind { return of(24) }
func (*DecNWTTL) code(c *coder)    { c.skip(4) }

// SetField sets all of a field. For a part of one see Load.
type SetField struct {
	Field FieldID
	Value Value
}

func (*SetField) kind() actionKind { return of(25) }
func (a *SetField) code(c *coder) {
	x := MatchField{Field: a.Field, Value: a.Value, Mask: Ones(a.Field.Bits())}
	x.set(c)
	if c.reading && c.err == nil {
		if x.Other != "" || x.Mask != Ones(x.Field.Bits()) {
			c.fail(fmt.Errorf("%w: set_field of a part, or of an unknown field", ErrType))
		}
		a.Field, a.Value = x.Field, x.Value
	}
}

// Resubmit looks the packet up in another table, and then goes on behind this action. With CT the look-up is made with the fields of the
// connection's original direction.
type Resubmit struct {
	InPort uint16 // 0xfff8 keeps the packet's own
	Table  uint8
	CT     bool
}

// ResubmitInPort is Resubmit.InPort for the packet's own port.
const ResubmitInPort = 0xfff8

func (a *Resubmit) kind() actionKind {
	if a.CT {
		return nx(44)
	}
	return nx(14)
}
func (a *Resubmit) code(c *coder) { c.u16(&a.InPort); c.u8(&a.Table); c.skip(3) }

// ResubmitPort is Resubmit to the table in which it stands, with another input port.
type ResubmitPort struct{ InPort uint16 }

func (*ResubmitPort) kind() actionKind { return nx(1) }
func (a *ResubmitPort) code(c *coder)  { c.u16(&a.InPort); c.skip(4) }

// SetTunnel sets the tunnel's key. It is an older form of SetField, which Open vSwitch prefers.
type SetTunnel struct {
	ID   uint64
	Wide bool // the form for 64 bits
}

func (a *SetTunnel) kind() actionKind {
	if a.Wide {
		return nx(9)
	}
	return nx(2)
}

func (a *SetTunnel) code(c *coder) {
	if a.Wide {
		c.skip(6)
		c.u64(&a.ID)
		return
	}
	id := uint32(a.ID) //nolint:gosec // checked below
	if !c.reading && a.ID>>32 != 0 {
		c.fail(fmt.Errorf("%w: tunnel key %#x in 32 bits", ErrValue, a.ID))
	}
	c.skip(2)
	c.u32(&id)
	if c.reading {
		a.ID = uint64(id)
	}
}

// FinTimeout shortens the flow's own timeouts, in seconds, when a TCP connection ends.
type FinTimeout struct{ Idle, Hard uint16 }

func (*FinTimeout) kind() actionKind { return nx(19) }
func (a *FinTimeout) code(c *coder)  { c.u16(&a.Idle); c.u16(&a.Hard); c.skip(2) }

// DeleteField takes a tunnel's option away.
type DeleteField struct{ Field FieldID }

func (*DeleteField) kind() actionKind { return nx(50) }
func (a *DeleteField) code(c *coder)  { a.Field.code(c); c.skip(10) }

// Part is some bits of a field: N of them, from the bit From on, bit 0 being the lowest.
type Part struct {
	Field FieldID
	From  int
	N     int
}

// Whole is all bits of a field.
func Whole(f FieldID) Part { return Part{f, 0, f.Bits()} }

// Bit is one bit of a field.
func Bit(f FieldID, n int) Part { return Part{f, n, 1} }

// narrow codes a part as Nicira's ofs_nbits (up to 64 bits from an offset below 1,024), without its field.
func (p *Part) narrow(c *coder) {
	v := uint16(p.From<<6 | (p.N - 1)) //nolint:gosec // checked below
	if !c.reading && (p.From < 0 || p.From > 1023 || p.N < 1 || p.N > 64) {
		c.fail(fmt.Errorf("%w: %d bits from bit %d", ErrValue, p.N, p.From))
	}
	c.u16(&v)
	if c.reading {
		p.From, p.N = int(v>>6), int(v&0x3f)+1
	}
}

func codeInt16(c *coder, n *int) {
	v := uint16(*n) //nolint:gosec // a field has at most 128 bits
	c.u16(&v)
	if c.reading {
		*n = int(v)
	}
}

// check reports bits that the field has not.
func (p *Part) check(c *coder) {
	if c.err == nil && (p.N < 1 || p.From < 0 || p.From+p.N > p.Field.Bits()) {
		c.fail(fmt.Errorf("%w: %d bits from bit %d of %s", ErrValue, p.N, p.From, p.Field))
	}
}

// Move copies the bits of one part to another of the same width.
type Move struct{ From, To Part }

func (*Move) kind() actionKind { return nx(6) }
func (a *Move) code(c *coder) {
	if !c.reading && a.From.N != a.To.N {
		c.fail(fmt.Errorf("%w: move of %d bits to %d", ErrValue, a.From.N, a.To.N))
	}
	codeInt16(c, &a.From.N)
	if c.reading {
		a.To.N = a.From.N
	}
	codeInt16(c, &a.From.From)
	codeInt16(c, &a.To.From)
	a.From.Field.code(c)
	a.To.Field.code(c)
	a.From.check(c)
	a.To.check(c)
}

// Load sets up to 64 bits of a field.
type Load struct {
	To    Part
	Value uint64
}

func (*Load) kind() actionKind { return nx(7) }
func (a *Load) code(c *coder) {
	a.To.narrow(c)
	a.To.Field.code(c)
	c.u64(&a.Value)
	a.To.check(c)
	if c.err == nil && Num(a.Value).width() > a.To.N {
		c.fail(fmt.Errorf("%w: %#x in %d bits", ErrValue, a.Value, a.To.N))
	}
}

// LoadMasked sets the bits of a mask in a field. Open vSwitch writes Load instead but for a tunnel's options, see Set.
type LoadMasked struct {
	Field       FieldID
	Value, Mask Value
}

func (*LoadMasked) kind() actionKind { return nx(33) }
func (a *LoadMasked) code(c *coder) {
	x := MatchField{Field: a.Field, Value: a.Value, Mask: a.Mask}
	x.set(c)
	if c.reading && c.err == nil {
		if x.Other != "" {
			c.fail(fmt.Errorf("%w: a field that is not known", ErrType))
		}
		a.Field, a.Value, a.Mask = x.Field, x.Value, x.Mask
	}
}

// Set returns the actions that set the bits of a mask in a field, in the form in which Open vSwitch itself writes them: one Load for each run of bits,
// or, of a tunnel's option, a LoadMasked.
func Set(f FieldID, v, mask Value) []Action {
	mask = mask.And(Ones(f.Bits()))
	if mask == Ones(f.Bits()) {
		return []Action{&SetField{f, v.And(mask)}}
	}
	if f.option() {
		return []Action{&LoadMasked{f, v.And(mask), mask}}
	}
	var out []Action
	for !mask.IsZero() {
		from, n := mask.trailing(), 1
		for n < 64 && !mask.And(Ones(1).Shl(from+n)).IsZero() {
			n++
		}
		out = append(out, &Load{Part{f, from, n}, v.Shr(from).And(Ones(n)).Lo})
		mask = mask.And(Ones(n).Shl(from).Not())
	}
	return out
}

// Note carries bytes that mean nothing to the switch. Zeros follow them up to a multiple of 8 less 2.
type Note struct{ Data []byte }

func (*Note) kind() actionKind { return nx(8) }
func (a *Note) code(c *coder)  { c.rest(&a.Data) }

// OutputReg sends the packet to the port whose number a part of a field holds.
type OutputReg struct {
	From   Part
	MaxLen uint16
	Long   bool // the form that has room for longer headers of fields
}

func (a *OutputReg) kind() actionKind {
	if a.Long {
		return nx(32)
	}
	return nx(15)
}

func (a *OutputReg) code(c *coder) {
	a.From.narrow(c)
	if a.Long {
		c.u16(&a.MaxLen)
		a.From.Field.code(c)
	} else {
		a.From.Field.code(c)
		c.u16(&a.MaxLen)
	}
	c.skip(6)
	a.From.check(c)
}

// Exit ends the packet's way through the tables; what was done so far is done.
type Exit struct{}

func (*Exit) kind() actionKind { return nx(17) }
func (*Exit) code(c *coder)    { c.skip(6) }

// DecTTLTo is DecNWTTL that names the controllers who get what has expired.
type DecTTLTo struct{ Controllers []uint16 }

func (*DecTTLTo) kind() actionKind { return nx(21) }
func (a *DecTTLTo) code(c *coder) {
	n := uint16(len(a.Controllers)) //nolint:gosec // sized refuses so many
	c.u16(&n)
	c.skip(4)
	if c.reading {
		if int(n)*2 > len(c.b) {
			c.fail(ErrShort)
			return
		}
		a.Controllers = make([]uint16, n)
	}
	for i := range a.Controllers {
		c.u16(&a.Controllers[i])
	}
}

// Push puts bits of a field on the packet's stack; Pop takes them from it.
type Push struct{ From Part }

// Pop takes bits from the packet's stack into a field.
type Pop struct{ To Part }

func (*Push) kind() actionKind { return nx(27) }
func (a *Push) code(c *coder)  { a.From.stack(c) }
func (*Pop) kind() actionKind  { return nx(28) }
func (a *Pop) code(c *coder)   { a.To.stack(c) }

func (p *Part) stack(c *coder) {
	codeInt16(c, &p.From)
	p.Field.code(c)
	codeInt16(c, &p.N)
	c.skip(6)
	p.check(c)
}

// Sample sends Probability of 65,535 packets to a Flow_Sample_Collector_Set.
type Sample struct {
	Probability  uint16
	CollectorSet uint32
	Domain       uint32
	Point        uint32
	Port         uint16 // of which egress or ingress is told; NoPort: none
	Direction    uint8  // 0: by the port, 1: in, 2: out
}

// There are three forms; Open vSwitch writes the shortest that has room.
func (a *Sample) kind() actionKind {
	switch {
	case a.Direction != 0:
		return nx(41)
	case a.Port != NoPort:
		return nx(38)
	default:
		return nx(29)
	}
}

func (a *Sample) code(c *coder) {
	short := a.kind() == nx(29)
	c.u16(&a.Probability)
	c.u32(&a.CollectorSet)
	c.u32(&a.Domain)
	c.u32(&a.Point)
	if short {
		return
	}
	c.u16(&a.Port)
	c.u8(&a.Direction)
	c.skip(5)
}

// Conjunction says that the flow's match fulfils one clause of a conjunctive match: the clause Clause, from 0, of N, in [2, 64].
type Conjunction struct {
	ID     uint32
	Clause uint8
	N      uint8
}

func (*Conjunction) kind() actionKind { return nx(34) }
func (a *Conjunction) code(c *coder)  { c.u8(&a.Clause); c.u8(&a.N); c.u32(&a.ID) }

// OutputTrunc sends the packet's first bytes to a port.
type OutputTrunc struct {
	Port   uint16
	MaxLen uint32
}

func (*OutputTrunc) kind() actionKind { return nx(39) }
func (a *OutputTrunc) code(c *coder)  { c.u16(&a.Port); c.u32(&a.MaxLen) }

// Clone does its actions to a copy of the packet; the packet itself goes on as it was.
type Clone struct{ Actions []Action }

func (*Clone) kind() actionKind { return nx(42) }
func (a *Clone) code(c *coder)  { c.skip(6); codeActions(c, &a.Actions) }

// CheckPktLarger sets a bit when the packet has more than Len bytes.
type CheckPktLarger struct {
	Len uint16
	To  Part // of 1 bit
}

func (*CheckPktLarger) kind() actionKind { return nx(49) }
func (a *CheckPktLarger) code(c *coder) {
	c.u16(&a.Len)
	codeInt16(c, &a.To.From)
	a.To.Field.code(c)
	c.skip(6)
	if c.reading {
		a.To.N = 1
	} else if a.To.N != 1 {
		c.fail(fmt.Errorf("%w: a result of %d bits", ErrValue, a.To.N))
	}
	a.To.check(c)
}

// OtherAction is an action that this package does not know, as it was on the wire.
type OtherAction struct {
	Type    uint16
	Vendor  uint32
	Subtype uint16
	Data    []byte
}

func (a *OtherAction) kind() actionKind { return actionKind{a.Type, a.Vendor, a.Subtype} }
func (a *OtherAction) code(c *coder)    { c.rest(&a.Data) }
