package openflow

import (
	"fmt"
	"net"
)

// Hello begins a connection (OpenFlow 1.3 section 7.5.1).
type Hello struct {
	Versions uint32 // bit n: version n can be spoken; 0: none was said, and the header's is the highest
}

func (*Hello) kind() messageKind { return plain(0) }
func (m *Hello) code(c *coder) {
	if !c.reading && m.Versions == 0 {
		return
	}
	for !c.reading || len(c.b) > 0 && c.err == nil {
		c.sized(2, 8, false, func(c *coder) {
			kind := uint16(1) // OFPHET_VERSIONBITMAP
			c.u16(&kind)
			c.length()
			if kind != 1 {
				c.take(len(c.b))
				return
			}
			c.u32(&m.Versions)
			if c.reading {
				c.take(len(c.b)) // versions above 31
			}
		})
		if !c.reading {
			return
		}
	}
}

// Error is the switch's refusal of a message, which it quotes. Its xid is that message's.
type Error struct {
	Type, Code uint16
	Vendor     uint32 // where Type is 0xffff: whose Code it is
	Data       []byte // at least the first 64 bytes of the message
}

func (*Error) kind() messageKind { return plain(1) }
func (m *Error) code(c *coder) {
	c.u16(&m.Type)
	c.u16(&m.Code)
	if m.Type == experimenter {
		c.u32(&m.Vendor)
	}
	c.rest(&m.Data)
}

type (
	// EchoRequest asks whether the peer is there.
	EchoRequest struct{ Data []byte }
	// EchoReply says so, and repeats what was sent.
	EchoReply struct{ Data []byte }
	// FeaturesRequest asks for FeaturesReply.
	FeaturesRequest struct{}
	// FeaturesReply is what the switch is.
	FeaturesReply struct {
		DatapathID   uint64
		Buffers      uint32
		Tables       uint8
		Auxiliary    uint8
		Capabilities uint32
		Reserved     uint32
	}
	// GetConfigRequest asks for GetConfigReply.
	GetConfigRequest struct{}
	// GetConfigReply is the switch's configuration.
	GetConfigReply struct{ SwitchConfig }
	// SetConfig changes the switch's configuration. A connection by the bridge's own socket gets no packet-in until it has set MissSendLen.
	SetConfig struct{ SwitchConfig }
	// SwitchConfig is how the switch treats fragments (Flags: FragmentsNormal and so on), and how much of a packet the controller gets.
	SwitchConfig struct {
		Flags       uint16
		MissSendLen uint16
	}
	// BarrierRequest asks for BarrierReply, which comes when all before it is done.
	BarrierRequest struct{}
	// BarrierReply says that all before the request is done.
	BarrierReply struct{}
	// RoleRequest changes this controller's role.
	RoleRequest struct{ RoleBody }
	// RoleReply is this controller's role.
	RoleReply struct{ RoleBody }
	// RoleBody is a role: 0 no change, 1 equal, 2 master, 3 slave; and the election's number.
	RoleBody struct {
		Role       uint32
		Generation uint64
	}
	// GetAsyncRequest asks for GetAsyncReply.
	GetAsyncRequest struct{}
	// GetAsyncReply is which messages the switch sends without being asked.
	GetAsyncReply struct{ Async }
	// SetAsync says which messages the switch sends without being asked.
	SetAsync struct{ Async }
	// Async are bits by reason; the first of each pair while the controller is master or equal, the second while it is a slave.
	Async struct{ PacketIn, PortStatus, FlowRemoved [2]uint32 }
	// TableMod configures a table.
	TableMod struct {
		Table  uint8
		Config uint32
	}
)

// How a switch treats fragments.
const (
	FragmentsNormal uint16 = 0 // as packets, all of whose ports are 0
	FragmentsDrop   uint16 = 1
	FragmentsMatch  uint16 = 3 // as what they are: the first has its ports, and the field ip_frag tells (Open vSwitch's own)
)

func (*EchoRequest) kind() messageKind      { return plain(2) }
func (*EchoReply) kind() messageKind        { return plain(3) }
func (*FeaturesRequest) kind() messageKind  { return plain(5) }
func (*FeaturesReply) kind() messageKind    { return plain(6) }
func (*GetConfigRequest) kind() messageKind { return plain(7) }
func (*GetConfigReply) kind() messageKind   { return plain(8) }
func (*SetConfig) kind() messageKind        { return plain(9) }
func (*TableMod) kind() messageKind         { return plain(17) }
func (*BarrierRequest) kind() messageKind   { return plain(20) }
func (*BarrierReply) kind() messageKind     { return plain(21) }
func (*RoleRequest) kind() messageKind      { return plain(24) }
func (*RoleReply) kind() messageKind        { return plain(25) }
func (*GetAsyncRequest) kind() messageKind  { return plain(26) }
func (*GetAsyncReply) kind() messageKind    { return plain(27) }
func (*SetAsync) kind() messageKind         { return plain(28) }

func (m *EchoRequest) code(c *coder)  { c.rest(&m.Data) }
func (m *EchoReply) code(c *coder)    { c.rest(&m.Data) }
func (*FeaturesRequest) code(*coder)  {}
func (*GetConfigRequest) code(*coder) {}
func (*BarrierRequest) code(*coder)   {}
func (*BarrierReply) code(*coder)     {}
func (*GetAsyncRequest) code(*coder)  {}
func (m *SwitchConfig) code(c *coder) { c.u16(&m.Flags); c.u16(&m.MissSendLen) }
func (m *RoleBody) code(c *coder)     { c.u32(&m.Role); c.skip(4); c.u64(&m.Generation) }
func (m *TableMod) code(c *coder)     { c.u8(&m.Table); c.skip(3); c.u32(&m.Config) }
func (m *FeaturesReply) code(c *coder) {
	c.u64(&m.DatapathID)
	c.u32(&m.Buffers)
	c.u8(&m.Tables)
	c.u8(&m.Auxiliary)
	c.skip(2)
	c.u32(&m.Capabilities)
	c.u32(&m.Reserved)
}

func (m *Async) code(c *coder) {
	for _, pair := range []*[2]uint32{&m.PacketIn, &m.PortStatus, &m.FlowRemoved} {
		c.u32(&pair[0])
		c.u32(&pair[1])
	}
}

// PacketOut sends a packet from the controller.
type PacketOut struct {
	BufferID uint32 // NoBuffer: the packet is in Data
	InPort   uint32 // where it came from, or PortController
	Actions  []Action
	Data     []byte
}

func (*PacketOut) kind() messageKind { return plain(13) }
func (m *PacketOut) code(c *coder) {
	c.u32(&m.BufferID)
	c.u32(&m.InPort)
	at := len(c.b)
	var size uint16
	c.u16(&size)
	c.skip(6)
	if !c.reading {
		begin := len(c.b)
		codeActions(c, &m.Actions)
		if n := len(c.b) - begin; n <= 0xffff {
			c.b[at], c.b[at+1] = byte(n>>8), byte(n)
		}
	} else {
		part := &coder{b: c.take(int(size)), reading: true}
		codeActions(part, &m.Actions)
		c.fail(part.err)
	}
	c.rest(&m.Data)
}

// PacketIn is a packet for the controller, in OpenFlow's own form.
type PacketIn struct {
	BufferID uint32
	TotalLen uint16
	Reason   uint8
	Table    uint8
	Cookie   uint64
	Match    Match // in_port and the packet's metadata
	Data     []byte
}

func (*PacketIn) kind() messageKind { return plain(10) }
func (m *PacketIn) code(c *coder) {
	c.u32(&m.BufferID)
	c.u16(&m.TotalLen)
	c.u8(&m.Reason)
	c.u8(&m.Table)
	c.u64(&m.Cookie)
	m.Match.code(c)
	c.skip(2)
	c.rest(&m.Data)
}

// PortDesc is a port of the switch.
type PortDesc struct {
	Number                               uint32
	HWAddr                               net.HardwareAddr
	Name                                 string // up to 15 bytes
	Config, State                        uint32
	Current, Advertised, Supported, Peer uint32
	CurrentSpeed, MaxSpeed               uint32 // kbit/s
}

func (p *PortDesc) code(c *coder) {
	c.u32(&p.Number)
	c.skip(4)
	codeMAC(c, &p.HWAddr)
	c.skip(2)
	c.text(&p.Name, 16)
	for _, v := range []*uint32{&p.Config, &p.State, &p.Current, &p.Advertised, &p.Supported, &p.Peer, &p.CurrentSpeed, &p.MaxSpeed} {
		c.u32(v)
	}
}

func codeMAC(c *coder, a *net.HardwareAddr) {
	if c.reading {
		*a = make(net.HardwareAddr, 6)
	}
	if len(*a) != 6 {
		c.fail(fmt.Errorf("%w: an Ethernet address of %d bytes", ErrValue, len(*a)))
		return
	}
	c.fixed(*a)
}

// PortStatus says that a port was added (Reason 0), deleted (1) or changed (2).
type PortStatus struct {
	Reason uint8
	Port   PortDesc
}

func (*PortStatus) kind() messageKind { return plain(12) }
func (m *PortStatus) code(c *coder)   { c.u8(&m.Reason); c.skip(7); m.Port.code(c) }

// PortMod configures a port.
type PortMod struct {
	Number       uint32
	HWAddr       net.HardwareAddr
	Config, Mask uint32
	Advertise    uint32
}

func (*PortMod) kind() messageKind { return plain(16) }
func (m *PortMod) code(c *coder) {
	c.u32(&m.Number)
	c.skip(4)
	codeMAC(c, &m.HWAddr)
	c.skip(2)
	c.u32(&m.Config)
	c.u32(&m.Mask)
	c.u32(&m.Advertise)
	c.skip(4)
}

type (
	// QueueConfigRequest asks for the queues of a port.
	QueueConfigRequest struct{ Port uint32 }
	// QueueConfigReply is the queues of a port.
	QueueConfigReply struct {
		Port   uint32
		Queues []QueueConfig
	}
	// QueueConfig is a queue; its rates are in tenths of a percent of the port's, and those above 1,000 are not known.
	QueueConfig struct {
		Queue, Port uint32
		Properties  []QueueProperty
	}
	// QueueProperty is a rate: Kind 1 is the least that the queue gets, 2 the most.
	QueueProperty struct {
		Kind uint16
		Rate uint16
	}
)

func (*QueueConfigRequest) kind() messageKind { return plain(22) }
func (*QueueConfigReply) kind() messageKind   { return plain(23) }

func (m *QueueConfigRequest) code(c *coder) { c.u32(&m.Port); c.skip(4) }
func (m *QueueConfigReply) code(c *coder) {
	c.u32(&m.Port)
	c.skip(4)
	list(c, &m.Queues, nil, func(c *coder, q *QueueConfig) {
		c.sized(8, 1, true, func(c *coder) {
			c.u32(&q.Queue)
			c.u32(&q.Port)
			c.length()
			c.skip(6)
			list(c, &q.Properties, nil, func(c *coder, p *QueueProperty) {
				c.sized(2, 1, true, func(c *coder) { c.u16(&p.Kind); c.length(); c.skip(4); c.u16(&p.Rate); c.skip(6) })
			})
		})
	})
}
