package openflow

import "encoding/binary"

// Formats of packet-ins, for SetPacketInFormat.
const (
	FormatStandard  uint32 = 0 // PacketIn
	FormatPacketIn2 uint32 = 2 // PacketIn2
)

type (
	// SetPacketInFormat chooses how packets come to this controller.
	SetPacketInFormat struct{ Format uint32 }
	// SetControllerID gives this connection the number that Controller.ID names.
	SetControllerID struct{ ID uint16 }
	// CTFlushZone forgets all connections of a zone.
	CTFlushZone struct{ Zone uint16 }
	// TLVMap gives an option of a tunnel a field tun_metadata.
	TLVMap struct {
		Class uint16
		Type  uint8
		Len   uint8 // a multiple of 4, up to 124
		Index uint16
	}
	// TLVTableMod changes the options that have a field: Command 0 adds, 1 deletes, 2 clears.
	TLVTableMod struct {
		Command uint16
		Maps    []TLVMap
	}
	// TLVTableRequest asks for TLVTableReply.
	TLVTableRequest struct{}
	// TLVTableReply is the options that have a field.
	TLVTableReply struct {
		MaxSpace  uint32
		MaxFields uint16
		Maps      []TLVMap
	}
)

func (*SetPacketInFormat) kind() messageKind { return nxt(16) }
func (*SetControllerID) kind() messageKind   { return nxt(20) }
func (*TLVTableMod) kind() messageKind       { return nxt(24) }
func (*TLVTableRequest) kind() messageKind   { return nxt(25) }
func (*TLVTableReply) kind() messageKind     { return nxt(26) }
func (*CTFlushZone) kind() messageKind       { return nxt(29) }

func (m *SetPacketInFormat) code(c *coder) { c.u32(&m.Format) }
func (m *SetControllerID) code(c *coder)   { c.pad(6); c.u16(&m.ID) }
func (m *CTFlushZone) code(c *coder)       { c.pad(6); c.u16(&m.Zone) }
func (*TLVTableRequest) code(*coder)       {}
func (m *TLVTableMod) code(c *coder) {
	c.u16(&m.Command)
	c.skip(6)
	list(c, &m.Maps, nil, func(c *coder, t *TLVMap) { t.code(c) })
}

func (m *TLVTableReply) code(c *coder) {
	c.u32(&m.MaxSpace)
	c.u16(&m.MaxFields)
	c.skip(10)
	list(c, &m.Maps, nil, func(c *coder, t *TLVMap) { t.code(c) })
}

func (t *TLVMap) code(c *coder) {
	c.u16(&t.Class)
	c.u8(&t.Type)
	c.u8(&t.Len)
	c.u16(&t.Index)
	c.skip(2)
}

// CTTuple selects connections by one direction's addresses; what is nil is not asked.
type CTTuple struct {
	Src, Dst           []byte // 16 bytes: IPv6, or IPv4 mapped into it (::ffff:a.b.c.d)
	SrcPort, DstPort   *uint16
	ICMPID             *uint16
	ICMPType, ICMPCode *uint8
}

func (t *CTTuple) code(c *coder) {
	codeProperties(c, []property{
		{0, t.Src != nil, func(c *coder) { c.rest(&t.Src) }}, {1, t.Dst != nil, func(c *coder) { c.rest(&t.Dst) }},
		optional16(2, &t.SrcPort), optional16(3, &t.DstPort), optional16(4, &t.ICMPID), optional8(5, &t.ICMPType), optional8(6, &t.ICMPCode),
	})
}

func optional16(kind uint16, v **uint16) property {
	return property{kind, *v != nil, func(c *coder) {
		if c.reading {
			*v = new(uint16)
		}
		c.u16(*v)
		c.skip(2)
	}}
}

func optional8(kind uint16, v **uint8) property {
	return property{kind, *v != nil, func(c *coder) {
		if c.reading {
			*v = new(uint8)
		}
		c.u8(*v)
	}}
}

// CTFlush forgets the connections that fit. Open vSwitch 3.1 and later know it.
type CTFlush struct {
	Proto           uint8
	Original, Reply *CTTuple
	Zone            *uint16
}

func (*CTFlush) kind() messageKind { return nxt(32) }
func (m *CTFlush) code(c *coder) {
	c.u8(&m.Proto)
	c.pad(7)
	tuple := func(kind uint16, t **CTTuple) property {
		return property{kind, *t != nil, func(c *coder) {
			if c.reading {
				*t = new(CTTuple)
			}
			c.pad(4) // what is nested is aligned
			(*t).code(c)
		}}
	}
	codeProperties(c, []property{tuple(0, &m.Original), tuple(1, &m.Reply), optional16(2, &m.Zone)})
}

// Kinds of an AsyncMask (section 7.3.10 of OpenFlow 1.4).
const (
	AsyncPacketInSlave    uint16 = 0
	AsyncPacketIn         uint16 = 1
	AsyncPortStatusSlave  uint16 = 2
	AsyncPortStatus       uint16 = 3
	AsyncFlowRemovedSlave uint16 = 4
	AsyncFlowRemoved      uint16 = 5
	AsyncRoleStatusSlave  uint16 = 6
	AsyncRoleStatus       uint16 = 7
	AsyncForwardSlave     uint16 = 10
	AsyncForward          uint16 = 11
)

type (
	// SetAsync2 is SetAsync with more kinds of messages; what it does not name stays as it is.
	SetAsync2 struct{ Masks []AsyncMask }
	// AsyncMask are the reasons for which messages of a kind are sent, as bits.
	AsyncMask struct {
		Kind uint16
		Mask uint32
	}
)

func (*SetAsync2) kind() messageKind { return nxt(27) }
func (m *SetAsync2) code(c *coder) {
	list(c, &m.Masks, nil, func(c *coder, a *AsyncMask) {
		c.sized(2, 8, false, func(c *coder) { c.u16(&a.Kind); c.length(); c.u32(&a.Mask) })
	})
}

// PacketIn2 is a packet for the controller (nicira-ext.h, NXT_PACKET_IN2).
type PacketIn2 struct {
	Packet       []byte
	FullLen      uint32 // where Packet is not all of it; else 0
	BufferID     uint32 // NoBuffer
	Table        uint8
	Cookie       uint64
	Reason       uint8
	Metadata     Match // in_port, registers, metadata, tunnel, connection
	UserData     []byte
	Continuation []byte // of a packet that waits for Resume
}

func (*PacketIn2) kind() messageKind { return nxt(30) }
func (m *PacketIn2) code(c *coder)   { m.properties(c) }

// Resume lets a packet that a Controller action has paused go on, with what the controller has changed of it.
type Resume struct{ PacketIn2 }

func (*Resume) kind() messageKind { return nxt(28) }
func (m *Resume) code(c *coder)   { m.properties(c) }

func (m *PacketIn2) properties(c *coder) {
	if c.reading {
		m.BufferID = NoBuffer
	}
	codeProperties(c, []property{
		{0, true, func(c *coder) { c.rest(&m.Packet) }},
		{1, m.FullLen != 0, func(c *coder) { c.u32(&m.FullLen) }},
		{2, m.BufferID != NoBuffer, func(c *coder) { c.u32(&m.BufferID) }},
		{3, true, func(c *coder) { c.u8(&m.Table) }},
		{4, true, func(c *coder) { c.pad(4); c.u64(&m.Cookie) }},
		{5, true, func(c *coder) { c.u8(&m.Reason) }},
		{6, len(m.Metadata) > 0, func(c *coder) { m.Metadata.fields(c) }},
		{7, len(m.UserData) > 0, func(c *coder) { c.rest(&m.UserData) }},
		{8, len(m.Continuation) > 0, func(c *coder) { c.rest(&m.Continuation) }},
	})
}

// BundleType is what a BundleControl does.
type BundleType uint16

// The types of BundleControl (ONF EXT-230; section 7.3.9 of OpenFlow 1.4). Each reply's is its request's and one.
const (
	BundleOpen    BundleType = 0
	BundleClose   BundleType = 2
	BundleCommit  BundleType = 4
	BundleDiscard BundleType = 6
)

// Flags of a bundle.
const (
	BundleAtomic  uint16 = 1 << 0 // all of it or nothing, and no packet sees a part
	BundleOrdered uint16 = 1 << 1
)

// BundleControl opens, closes, commits or discards a bundle, or answers that.
type BundleControl struct {
	ID    uint32
	Type  BundleType
	Flags uint16
}

func (*BundleControl) kind() messageKind { return onfType(2300) }
func (m *BundleControl) code(c *coder) {
	c.u32(&m.ID)
	c.u16((*uint16)(&m.Type))
	c.u16(&m.Flags)
}

// BundleAdd puts a FlowMod, a GroupMod, a PortMod or a PacketOut into a bundle. The message within has the xid of the message around it.
type BundleAdd struct {
	ID      uint32
	Flags   uint16
	XID     uint32
	Message Message
}

func (*BundleAdd) kind() messageKind { return onfType(2301) }
func (m *BundleAdd) code(c *coder) {
	c.u32(&m.ID)
	c.skip(2)
	c.u16(&m.Flags)
	m.Message = inner(c, &m.XID, m.Message)
}

// inner codes a message within a message.
func inner(c *coder, xid *uint32, m Message) Message {
	if !c.reading {
		c.fail(c.message(*xid, m))
		return m
	}
	if len(c.b) < headerSize {
		c.fail(ErrShort)
		return nil
	}
	// Only properties, of which there are none, may follow; Open vSwitch forbids a bundle in a bundle.
	raw := c.take(int(binary.BigEndian.Uint16(c.b[2:])))
	if c.err == nil && (len(raw) < headerSize || raw[1] == extension) {
		c.fail(ErrType)
	}
	if c.err != nil {
		return nil
	}
	var err error
	*xid, m, err = Decode(raw)
	c.fail(err)
	c.skip(len(c.b))
	return m
}

type (
	// RoleStatus says that another controller has become master.
	RoleStatus struct {
		Role       uint32
		Reason     uint8
		Generation uint64
	}
	// RequestForward repeats a GroupMod or MeterMod of another controller.
	RequestForward struct {
		XID     uint32
		Message Message
	}
	// FlowMonitorCancel ends a monitor.
	FlowMonitorCancel struct{ ID uint32 }
	// FlowMonitorPaused says that updates wait, since the controller takes them too slowly.
	FlowMonitorPaused struct{}
	// FlowMonitorResumed says that all updates that waited were sent.
	FlowMonitorResumed struct{}
)

func (*RoleStatus) kind() messageKind         { return onfType(1911) }
func (*RequestForward) kind() messageKind     { return onfType(2350) }
func (*FlowMonitorCancel) kind() messageKind  { return onfType(1870) }
func (*FlowMonitorPaused) kind() messageKind  { return onfType(1871) }
func (*FlowMonitorResumed) kind() messageKind { return onfType(1872) }

func (m *RoleStatus) code(c *coder) {
	c.u32(&m.Role)
	c.u8(&m.Reason)
	c.skip(3)
	c.u64(&m.Generation)
	if c.reading {
		c.take(len(c.b)) // properties
	}
}

func (m *RequestForward) code(c *coder)    { m.Message = inner(c, &m.XID, m.Message) }
func (m *FlowMonitorCancel) code(c *coder) { c.u32(&m.ID) }
func (*FlowMonitorPaused) code(*coder)     {}
func (*FlowMonitorResumed) code(*coder)    {}
