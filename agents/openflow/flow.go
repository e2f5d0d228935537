package openflow

import "fmt"

// Instruction is a step of a flow: the pointers to InstrGoto, InstrWriteMetadata, InstrWrite, InstrApply, InstrClear and InstrMeter.
type Instruction interface {
	code(c *coder)
	number() uint16
}

type (
	// InstrGoto goes on in a table behind this one.
	InstrGoto struct{ Table uint8 }
	// InstrWriteMetadata sets bits of the field metadata.
	InstrWriteMetadata struct{ Value, Mask uint64 }
	// InstrWrite puts actions into the action set, which is done at the end of the way.
	InstrWrite struct{ Actions []Action }
	// InstrApply does actions at once.
	InstrApply struct{ Actions []Action }
	// InstrClear empties the action set.
	InstrClear struct{}
	// InstrMeter counts the packet at a meter, and drops it there where there are too many.
	InstrMeter struct{ Meter uint32 }
)

func (*InstrGoto) number() uint16          { return 1 }
func (*InstrWriteMetadata) number() uint16 { return 2 }
func (*InstrWrite) number() uint16         { return 3 }
func (*InstrApply) number() uint16         { return 4 }
func (*InstrClear) number() uint16         { return 5 }
func (*InstrMeter) number() uint16         { return 6 }

func (i *InstrGoto) code(c *coder)          { c.u8(&i.Table); c.skip(3) }
func (i *InstrWriteMetadata) code(c *coder) { c.skip(4); c.u64(&i.Value); c.u64(&i.Mask) }
func (i *InstrWrite) code(c *coder)         { c.skip(4); codeActions(c, &i.Actions) }
func (i *InstrApply) code(c *coder)         { c.skip(4); codeActions(c, &i.Actions) }
func (*InstrClear) code(c *coder)           { c.skip(4) }
func (i *InstrMeter) code(c *coder)         { c.u32(&i.Meter) }

var instructions = map[uint16]func() Instruction{
	1: func() Instruction { return new(InstrGoto) }, 2: func() Instruction { return new(InstrWriteMetadata) },
	3: func() Instruction { return new(InstrWrite) }, 4: func() Instruction { return new(InstrApply) },
	5: func() Instruction { return new(InstrClear) }, 6: func() Instruction { return new(InstrMeter) },
}

func codeInstructions(c *coder, items *[]Instruction) {
	list(c, items, lengthAtTwo, func(c *coder, i *Instruction) {
		c.sized(2, 8, true, func(c *coder) {
			var number uint16
			if !c.reading {
				number = (*i).number()
			}
			c.u16(&number)
			c.length()
			if c.reading && c.err == nil {
				make := instructions[number]
				if make == nil {
					c.fail(fmt.Errorf("%w: instruction %d", ErrType, number))
					return
				}
				*i = make()
			}
			if c.err == nil {
				(*i).code(c)
			}
		})
	})
}

// InstructionsKey is instructions as bytes: two lists are the same if and only if their keys are.
func InstructionsKey(items []Instruction) (string, error) {
	c := &coder{}
	codeInstructions(c, &items)
	return string(c.b), c.err
}

// FlowCommand is what a FlowMod does.
type FlowCommand uint8

// The commands of a FlowMod (OpenFlow 1.3 section 7.3.4.1). The strict ones are about the flow of exactly this match and priority.
const (
	FlowAdd          FlowCommand = 0
	FlowModify       FlowCommand = 1
	FlowModifyStrict FlowCommand = 2
	FlowDelete       FlowCommand = 3
	FlowDeleteStrict FlowCommand = 4
)

// Flags of a flow.
const (
	FlowSendRemoved  uint16 = 1 << 0
	FlowCheckOverlap uint16 = 1 << 1
	FlowResetCounts  uint16 = 1 << 2
)

// AllTables is FlowMod.Table for a deletion in every table.
const AllTables = 0xff

// NoBuffer is the buffer id of a packet that is not kept at the switch.
const NoBuffer = 0xffffffff

// FlowMod adds, changes or deletes flows.
type FlowMod struct {
	Cookie, CookieMask uint64 // the mask selects what is modified or deleted
	Table              uint8
	Command            FlowCommand
	Idle, Hard         uint16 // seconds; 0: for ever
	Priority           uint16
	BufferID           uint32 // NoBuffer
	OutPort, OutGroup  uint32 // PortAny and AnyGroup select whatever the flow outputs to
	Flags              uint16
	Importance         uint16
	Match              Match
	Instructions       []Instruction
}

// NewFlowMod returns a FlowMod that selects any output and releases no buffered packet.
func NewFlowMod(command FlowCommand) *FlowMod {
	return &FlowMod{Command: command, BufferID: NoBuffer, OutPort: PortAny, OutGroup: AnyGroup}
}

func (*FlowMod) kind() messageKind { return plain(14) }
func (m *FlowMod) code(c *coder) {
	c.u64(&m.Cookie)
	c.u64(&m.CookieMask)
	c.u8(&m.Table)
	c.u8((*uint8)(&m.Command))
	c.u16(&m.Idle)
	c.u16(&m.Hard)
	c.u16(&m.Priority)
	c.u32(&m.BufferID)
	c.u32(&m.OutPort)
	c.u32(&m.OutGroup)
	c.u16(&m.Flags)
	c.u16(&m.Importance) // padding in 1.3; Open vSwitch takes it
	m.Match.code(c)
	codeInstructions(c, &m.Instructions)
}

// FlowRemoved says that a flow that asked for it has gone.
type FlowRemoved struct {
	Cookie             uint64
	Priority           uint16
	Reason             uint8 // 0 idle, 1 hard, 2 deleted, 3 with its group, 4 with its meter
	Table              uint8
	Seconds, Nanos     uint32 // its life
	Idle, Hard         uint16
	Packets, ByteCount uint64
	Match              Match
}

func (*FlowRemoved) kind() messageKind { return plain(11) }
func (m *FlowRemoved) code(c *coder) {
	c.u64(&m.Cookie)
	c.u16(&m.Priority)
	c.u8(&m.Reason)
	c.u8(&m.Table)
	c.u32(&m.Seconds)
	c.u32(&m.Nanos)
	c.u16(&m.Idle)
	c.u16(&m.Hard)
	c.u64(&m.Packets)
	c.u64(&m.ByteCount)
	m.Match.code(c)
}

// Numbers of groups (OpenFlow 1.3 section 7.3.4.2).
const (
	AllGroups = 0xfffffffc
	AnyGroup  = 0xffffffff
)

// GroupCommand is what a GroupMod does.
type GroupCommand uint16

// The commands of a GroupMod. Open vSwitch takes GroupAddOrModify in 1.3 too.
const (
	GroupAdd         GroupCommand = 0
	GroupModify      GroupCommand = 1
	GroupDelete      GroupCommand = 2
	GroupAddOrModify GroupCommand = 0x8000
)

// GroupType is how a group chooses among its buckets.
type GroupType uint8

// The types of groups.
const (
	GroupOfAll        GroupType = 0 // each bucket gets a copy
	GroupSelect       GroupType = 1 // one bucket, by a hash of the flow
	GroupIndirect     GroupType = 2 // its one bucket
	GroupFastFailover GroupType = 3 // the first that lives
)

// Bucket is one way of a group.
type Bucket struct {
	Weight     uint16 // of a select group
	WatchPort  uint32 // the bucket lives as long as this port; PortAny: always
	WatchGroup uint32 // AnyGroup
	Actions    []Action
}

// NewBucket returns a bucket that watches nothing, of weight 0; those of a select group need another.
func NewBucket(actions ...Action) Bucket {
	return Bucket{WatchPort: PortAny, WatchGroup: AnyGroup, Actions: actions}
}

func (b *Bucket) code(c *coder) {
	c.sized(0, 8, true, func(c *coder) {
		c.length()
		c.u16(&b.Weight)
		c.u32(&b.WatchPort)
		c.u32(&b.WatchGroup)
		c.skip(4)
		codeActions(c, &b.Actions)
	})
}

// GroupMod adds, changes or deletes a group.
type GroupMod struct {
	Command GroupCommand
	Type    GroupType
	ID      uint32
	Buckets []Bucket
}

func (*GroupMod) kind() messageKind { return plain(15) }
func (m *GroupMod) code(c *coder) {
	c.u16((*uint16)(&m.Command))
	c.u8((*uint8)(&m.Type))
	c.skip(1)
	c.u32(&m.ID)
	list(c, &m.Buckets, nil, func(c *coder, b *Bucket) { b.code(c) })
}

// MeterCommand is what a MeterMod does.
type MeterCommand uint16

// The commands of a MeterMod.
const (
	MeterAdd    MeterCommand = 0
	MeterModify MeterCommand = 1
	MeterDelete MeterCommand = 2
)

// Flags of a meter, and the number that stands for all meters.
const (
	MeterKBPS  uint16 = 1 << 0 // rates in kbit/s
	MeterPktPS uint16 = 1 << 1 // rates in packets/s
	MeterBurst uint16 = 1 << 2 // bursts are given
	MeterCount uint16 = 1 << 3

	AllMeters = 0xffffffff
)

// Band is what a meter does above a rate.
type Band struct {
	Type  uint16 // 1: drop, 2: raise the drop precedence of DSCP
	Rate  uint32 // in the unit of the meter's flags
	Burst uint32 // kbit or packets
	Level uint8  // of type 2
}

func (b *Band) code(c *coder) {
	c.sized(2, 8, true, func(c *coder) {
		c.u16(&b.Type)
		c.length()
		c.u32(&b.Rate)
		c.u32(&b.Burst)
		c.u8(&b.Level)
		c.skip(3)
	})
}

// MeterMod adds, changes or deletes a meter. It cannot ride in a bundle.
type MeterMod struct {
	Command MeterCommand
	Flags   uint16
	ID      uint32
	Bands   []Band
}

func (*MeterMod) kind() messageKind { return plain(29) }
func (m *MeterMod) code(c *coder) {
	c.u16((*uint16)(&m.Command))
	c.u16(&m.Flags)
	c.u32(&m.ID)
	list(c, &m.Bands, nil, func(c *coder, b *Band) { b.code(c) })
}
