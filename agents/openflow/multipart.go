package openflow

import "fmt"

// PartKind is what a multipart message is about.
type PartKind uint16

// The kinds of multipart messages (OpenFlow 1.3 section 7.3.5).
const (
	PartDesc          PartKind = 0
	PartFlow          PartKind = 1
	PartAggregate     PartKind = 2
	PartTable         PartKind = 3
	PartPortStats     PartKind = 4
	PartQueue         PartKind = 5
	PartGroup         PartKind = 6
	PartGroupDesc     PartKind = 7
	PartGroupFeatures PartKind = 8
	PartMeter         PartKind = 9
	PartMeterConfig   PartKind = 10
	PartMeterFeatures PartKind = 11
	PartTableFeatures PartKind = 12
	PartPortDesc      PartKind = 13
	PartFlowMonitor   PartKind = experimenter // ONF EXT-187, the only extension known here
)

// More is the flag of all parts but the last.
const More uint16 = 1

const flowMonitorPart = 1870

// Body is what a multipart message carries: the pointers to the structs and lists of this package that end in Request, Stats, List or Desc.
type Body interface{ code(c *coder) }

// requests and replies make the body of each kind.
var requests = map[PartKind]func() Body{
	PartDesc: empty, PartFlow: func() Body { return new(FlowRequest) }, PartAggregate: func() Body { return new(FlowRequest) },
	PartTable: empty, PartPortStats: func() Body { return new(PortRequest) }, PartQueue: func() Body { return new(QueueRequest) },
	PartGroup: func() Body { return new(GroupRequest) }, PartGroupDesc: func() Body { return new(GroupDescRequest) }, PartGroupFeatures: empty,
	PartMeter: func() Body { return new(MeterRequest) }, PartMeterConfig: func() Body { return new(MeterRequest) },
	PartMeterFeatures: empty, PartTableFeatures: func() Body { return new(TableFeaturesList) }, PartPortDesc: func() Body { return new(PortDescRequest) },
	PartFlowMonitor: func() Body { return new(FlowMonitorRequest) },
}

var replies = map[PartKind]func() Body{
	PartDesc: func() Body { return new(SwitchDesc) }, PartFlow: func() Body { return new(FlowStatsList) },
	PartAggregate: func() Body { return new(AggregateStats) }, PartTable: func() Body { return new(TableStatsList) },
	PartPortStats: func() Body { return new(PortStatsList) }, PartQueue: func() Body { return new(QueueStatsList) },
	PartGroup: func() Body { return new(GroupStatsList) }, PartGroupDesc: func() Body { return new(GroupDescList) },
	PartGroupFeatures: func() Body { return new(GroupFeatures) }, PartMeter: func() Body { return new(MeterStatsList) },
	PartMeterConfig: func() Body { return new(MeterConfigList) }, PartMeterFeatures: func() Body { return new(MeterFeatures) },
	PartTableFeatures: func() Body { return new(TableFeaturesList) }, PartPortDesc: func() Body { return new(PortDescList) },
	PartFlowMonitor: func() Body { return new(FlowUpdateList) },
}

func empty() Body { return new(Empty) }

type (
	// MultipartRequest asks for something that may not fit into one message.
	MultipartRequest struct{ Multipart }
	// MultipartReply is a part of the answer.
	MultipartReply struct{ Multipart }
	// Multipart is the common part of both. A nil Body of a request stands for the empty one of its kind.
	Multipart struct {
		Kind  PartKind
		Flags uint16
		Body  Body
	}
	// Empty is the body of requests without arguments.
	Empty struct{}
)

func (*MultipartRequest) kind() messageKind { return plain(18) }
func (*MultipartReply) kind() messageKind   { return plain(19) }

func (m *MultipartRequest) code(c *coder) { m.Multipart.with(c, requests) }
func (m *MultipartReply) code(c *coder)   { m.Multipart.with(c, replies) }

func (m *Multipart) with(c *coder, bodies map[PartKind]func() Body) {
	c.u16((*uint16)(&m.Kind))
	c.u16(&m.Flags)
	c.skip(4)
	make := bodies[m.Kind]
	if make == nil {
		c.fail(fmt.Errorf("%w: multipart %d", ErrType, m.Kind))
		return
	}
	if m.Kind == PartFlowMonitor {
		vendor, subtype := uint32(onf), uint32(flowMonitorPart)
		c.u32(&vendor)
		c.u32(&subtype)
		if c.err == nil && (vendor != onf || subtype != flowMonitorPart) {
			c.fail(fmt.Errorf("%w: multipart of vendor %#x, %d", ErrType, vendor, subtype))
			return
		}
	}
	body := m.Body
	if c.reading || body == nil {
		body = make()
	}
	if c.reading {
		m.Body = body
	}
	body.code(c)
}

func (*Empty) code(*coder) {}

// SwitchDesc is what the switch says of itself.
type SwitchDesc struct{ Manufacturer, Hardware, Software, Serial, Datapath string }

func (d *SwitchDesc) code(c *coder) {
	c.text(&d.Manufacturer, 256)
	c.text(&d.Hardware, 256)
	c.text(&d.Software, 256)
	c.text(&d.Serial, 32)
	c.text(&d.Datapath, 256)
}

// FlowRequest asks for the flows, or the sum of their counters, that a FlowMod with FlowDelete would delete.
type FlowRequest struct {
	Table              uint8 // AllTables
	OutPort, OutGroup  uint32
	Cookie, CookieMask uint64
	Match              Match
}

// EveryFlow asks for all flows of all tables.
func EveryFlow() *FlowRequest {
	return &FlowRequest{Table: AllTables, OutPort: PortAny, OutGroup: AnyGroup}
}

func (r *FlowRequest) code(c *coder) {
	c.u8(&r.Table)
	c.skip(3)
	c.u32(&r.OutPort)
	c.u32(&r.OutGroup)
	c.skip(4)
	c.u64(&r.Cookie)
	c.u64(&r.CookieMask)
	r.Match.code(c)
}

type (
	// FlowStats is a flow and its counters.
	FlowStats struct {
		Table              uint8
		Seconds, Nanos     uint32 // its age
		Priority           uint16
		Idle, Hard         uint16
		Flags              uint16
		Importance         uint16
		Cookie             uint64
		Packets, ByteCount uint64
		Match              Match
		Instructions       []Instruction
	}
	// FlowStatsList is the answer to a FlowRequest of PartFlow.
	FlowStatsList struct{ Flows []FlowStats }
)

func (l *FlowStatsList) code(c *coder) {
	list(c, &l.Flows, lengthAtBegin, func(c *coder, f *FlowStats) { c.sized(0, 1, true, f.code) })
}

func (f *FlowStats) code(c *coder) {
	c.length()
	c.u8(&f.Table)
	c.skip(1)
	c.u32(&f.Seconds)
	c.u32(&f.Nanos)
	c.u16(&f.Priority)
	c.u16(&f.Idle)
	c.u16(&f.Hard)
	c.u16(&f.Flags)
	c.u16(&f.Importance)
	c.skip(2)
	c.u64(&f.Cookie)
	c.u64(&f.Packets)
	c.u64(&f.ByteCount)
	f.Match.code(c)
	codeInstructions(c, &f.Instructions)
}

// AggregateStats is the answer to a FlowRequest of PartAggregate.
type AggregateStats struct {
	Packets, ByteCount uint64
	Flows              uint32
}

func (a *AggregateStats) code(c *coder) {
	c.u64(&a.Packets)
	c.u64(&a.ByteCount)
	c.u32(&a.Flows)
	c.skip(4)
}

type (
	// TableStats are a table's counters.
	TableStats struct {
		Table            uint8
		Active           uint32
		Lookups, Matched uint64
	}
	// TableStatsList is the answer to PartTable.
	TableStatsList struct{ Tables []TableStats }
)

func (l *TableStatsList) code(c *coder) {
	list(c, &l.Tables, nil, func(c *coder, t *TableStats) {
		c.u8(&t.Table)
		c.skip(3)
		c.u32(&t.Active)
		c.u64(&t.Lookups)
		c.u64(&t.Matched)
	})
}

type (
	// PortRequest asks for the counters of a port; PortAny: of all.
	PortRequest struct{ Port uint32 }
	// PortStats are a port's counters.
	PortStats struct {
		Port                       uint32
		RxPackets, TxPackets       uint64
		RxBytes, TxBytes           uint64
		RxDropped, TxDropped       uint64
		RxErrors, TxErrors         uint64
		FrameErrors, OverrunErrors uint64
		CRCErrors, Collisions      uint64
		Seconds, Nanos             uint32
	}
	// PortStatsList is the answer to a PortRequest.
	PortStatsList struct{ Ports []PortStats }
)

func (r *PortRequest) code(c *coder) { c.u32(&r.Port); c.skip(4) }
func (l *PortStatsList) code(c *coder) {
	list(c, &l.Ports, nil, func(c *coder, p *PortStats) {
		c.u32(&p.Port)
		c.skip(4)
		for _, v := range []*uint64{&p.RxPackets, &p.TxPackets, &p.RxBytes, &p.TxBytes, &p.RxDropped, &p.TxDropped, &p.RxErrors, &p.TxErrors,
			&p.FrameErrors, &p.OverrunErrors, &p.CRCErrors, &p.Collisions} {
			c.u64(v)
		}
		c.u32(&p.Seconds)
		c.u32(&p.Nanos)
	})
}

type (
	// QueueRequest asks for the counters of a queue of a port; PortAny and AllQueues: of all.
	QueueRequest struct{ Port, Queue uint32 }
	// QueueStats are a queue's counters.
	QueueStats struct {
		Port, Queue                  uint32
		TxBytes, TxPackets, TxErrors uint64
		Seconds, Nanos               uint32
	}
	// QueueStatsList is the answer to a QueueRequest.
	QueueStatsList struct{ Queues []QueueStats }
)

// AllQueues is QueueRequest.Queue for all.
const AllQueues = 0xffffffff

func (r *QueueRequest) code(c *coder) { c.u32(&r.Port); c.u32(&r.Queue) }
func (l *QueueStatsList) code(c *coder) {
	list(c, &l.Queues, nil, func(c *coder, q *QueueStats) {
		c.u32(&q.Port)
		c.u32(&q.Queue)
		c.u64(&q.TxBytes)
		c.u64(&q.TxPackets)
		c.u64(&q.TxErrors)
		c.u32(&q.Seconds)
		c.u32(&q.Nanos)
	})
}

type (
	// GroupRequest asks for the counters of a group; AllGroups: of all.
	GroupRequest struct{ Group uint32 }
	// GroupDescRequest asks for all groups.
	GroupDescRequest struct{ Group uint32 } // OpenFlow 1.5 and Open vSwitch: one of them; AllGroups and absence: all
	// Counter is a pair of counters.
	Counter struct{ Packets, ByteCount uint64 }
	// GroupStats are a group's counters.
	GroupStats struct {
		Group              uint32
		References         uint32
		Packets, ByteCount uint64
		Seconds, Nanos     uint32
		Buckets            []Counter
	}
	// GroupStatsList is the answer to a GroupRequest.
	GroupStatsList struct{ Groups []GroupStats }
	// GroupDesc is a group.
	GroupDesc struct {
		Type    GroupType
		Group   uint32
		Buckets []Bucket
	}
	// GroupDescList is the answer to a GroupDescRequest.
	GroupDescList struct{ Groups []GroupDesc }
	// GroupFeatures is what groups the switch can have.
	GroupFeatures struct {
		Types, Capabilities uint32
		Max                 [4]uint32 // by type
		Actions             [4]uint32 // bits by action
	}
)

func (r *GroupRequest) code(c *coder) { c.u32(&r.Group); c.skip(4) }
func (r *GroupDescRequest) code(c *coder) {
	if c.reading && len(c.b) == 0 {
		r.Group = AllGroups
		return
	}
	if !c.reading && (r.Group == 0 || r.Group == AllGroups) {
		return
	}
	c.u32(&r.Group)
	c.skip(4)
}

func (c2 *Counter) code(c *coder) { c.u64(&c2.Packets); c.u64(&c2.ByteCount) }

func (l *GroupStatsList) code(c *coder) {
	list(c, &l.Groups, nil, func(c *coder, g *GroupStats) {
		c.sized(0, 1, true, func(c *coder) {
			c.length()
			c.skip(2)
			c.u32(&g.Group)
			c.u32(&g.References)
			c.skip(4)
			c.u64(&g.Packets)
			c.u64(&g.ByteCount)
			c.u32(&g.Seconds)
			c.u32(&g.Nanos)
			list(c, &g.Buckets, nil, func(c *coder, b *Counter) { b.code(c) })
		})
	})
}

func (l *GroupDescList) code(c *coder) {
	list(c, &l.Groups, nil, func(c *coder, g *GroupDesc) {
		c.sized(0, 1, true, func(c *coder) {
			c.length()
			c.u8((*uint8)(&g.Type))
			c.skip(1)
			c.u32(&g.Group)
			list(c, &g.Buckets, nil, func(c *coder, b *Bucket) { b.code(c) })
		})
	})
}

func (f *GroupFeatures) code(c *coder) {
	c.u32(&f.Types)
	c.u32(&f.Capabilities)
	for i := range f.Max {
		c.u32(&f.Max[i])
	}
	for i := range f.Actions {
		c.u32(&f.Actions[i])
	}
}

type (
	// MeterRequest asks for a meter or its counters; AllMeters: of all.
	MeterRequest struct{ Meter uint32 }
	// MeterStats are a meter's counters.
	MeterStats struct {
		Meter          uint32
		Flows          uint32
		In             Counter
		Seconds, Nanos uint32
		Bands          []Counter
	}
	// MeterStatsList is the answer to a MeterRequest of PartMeter.
	MeterStatsList struct{ Meters []MeterStats }
	// MeterConfig is a meter.
	MeterConfig struct {
		Flags uint16
		Meter uint32
		Bands []Band
	}
	// MeterConfigList is the answer to a MeterRequest of PartMeterConfig.
	MeterConfigList struct{ Meters []MeterConfig }
	// MeterFeatures is what meters the switch can have.
	MeterFeatures struct {
		Max                     uint32
		BandTypes, Capabilities uint32
		MaxBands, MaxColor      uint8
	}
)

func (r *MeterRequest) code(c *coder) { c.u32(&r.Meter); c.skip(4) }

func (l *MeterStatsList) code(c *coder) {
	list(c, &l.Meters, nil, func(c *coder, m *MeterStats) {
		c.sized(4, 1, true, func(c *coder) {
			c.u32(&m.Meter)
			c.length()
			c.skip(6)
			c.u32(&m.Flows)
			m.In.code(c)
			c.u32(&m.Seconds)
			c.u32(&m.Nanos)
			list(c, &m.Bands, nil, func(c *coder, b *Counter) { b.code(c) })
		})
	})
}

func (l *MeterConfigList) code(c *coder) {
	list(c, &l.Meters, nil, func(c *coder, m *MeterConfig) {
		c.sized(0, 1, true, func(c *coder) {
			c.length()
			c.u16(&m.Flags)
			c.u32(&m.Meter)
			list(c, &m.Bands, nil, func(c *coder, b *Band) { b.code(c) })
		})
	})
}

func (f *MeterFeatures) code(c *coder) {
	c.u32(&f.Max)
	c.u32(&f.BandTypes)
	c.u32(&f.Capabilities)
	c.u8(&f.MaxBands)
	c.u8(&f.MaxColor)
	c.skip(2)
}

type (
	// PortDescRequest asks for all ports.
	PortDescRequest struct{ Port uint32 } // OpenFlow 1.5 and Open vSwitch: one of them; PortAny and absence: all
	// PortDescList is the answer to a PortDescRequest.
	PortDescList struct{ Ports []PortDesc }
)

func (r *PortDescRequest) code(c *coder) {
	if c.reading && len(c.b) == 0 {
		r.Port = PortAny
		return
	}
	if !c.reading && (r.Port == 0 || r.Port == PortAny) {
		return
	}
	c.u32(&r.Port)
	c.skip(4)
}

func (l *PortDescList) code(c *coder) {
	list(c, &l.Ports, nil, func(c *coder, p *PortDesc) { p.code(c) })
}

// Flags of a FlowMonitorRequest.
const (
	MonitorInitial uint16 = 1 << 0
	MonitorAdd     uint16 = 1 << 1
	MonitorDelete  uint16 = 1 << 2
	MonitorModify  uint16 = 1 << 3
	MonitorActions uint16 = 1 << 4 // tell the instructions too
	MonitorOwn     uint16 = 1 << 5 // tell this connection's changes in full, not by their xid
)

// FlowMonitorRequest asks to be told of changes of the flows that fit.
type FlowMonitorRequest struct {
	ID      uint32
	Flags   uint16
	OutPort uint32 // PortAny
	Table   uint8  // AllTables
	Match   Match
	More    []FlowMonitorRequest // others, in the same message
}

func (r *FlowMonitorRequest) code(c *coder) {
	r.one(c)
	list(c, &r.More, nil, func(c *coder, m *FlowMonitorRequest) { m.one(c) })
}

// one codes the request without the others.
func (r *FlowMonitorRequest) one(c *coder) {
	c.u32(&r.ID)
	c.u16(&r.Flags)
	size := uint16(4) // of the match, without its padding
	if !c.reading {
		size = matchSize(r.Match)
	}
	c.u16(&size)
	c.u32(&r.OutPort)
	c.u8(&r.Table)
	c.pad(3)
	r.Match.code(c)
}

// matchSize is the length that a match says it has: without its padding.
func matchSize(m Match) uint16 {
	c := &coder{}
	m.fields(c)
	return uint16(4 + len(c.b)) //nolint:gosec // a match is smaller than a message
}

// Events of a FlowUpdate.
const (
	FlowAdded    uint16 = 0
	FlowDeleted  uint16 = 1
	FlowModified uint16 = 2
	FlowAbbrev   uint16 = 3 // a change of this connection's message XID
)

type (
	// FlowUpdate is a change of a flow.
	FlowUpdate struct {
		Event        uint16
		XID          uint32 // of FlowAbbrev, which has nothing else
		Reason       uint16
		Priority     uint16
		Idle, Hard   uint16
		Table        uint8
		Cookie       uint64
		Match        Match
		Instructions []Instruction
	}
	// FlowUpdateList is the answer to a FlowMonitorRequest, and what follows it.
	FlowUpdateList struct{ Updates []FlowUpdate }
)

func (l *FlowUpdateList) code(c *coder) {
	list(c, &l.Updates, nil, func(c *coder, u *FlowUpdate) { c.sized(0, 8, true, u.code) })
}

func (u *FlowUpdate) code(c *coder) {
	c.length()
	c.u16(&u.Event)
	switch u.Event {
	case FlowAbbrev:
		c.u32(&u.XID)
		return
	case FlowAdded, FlowDeleted, FlowModified:
	default:
		c.fail(fmt.Errorf("%w: flow update %d", ErrType, u.Event))
		return
	}
	c.u16(&u.Reason)
	c.u16(&u.Priority)
	c.u16(&u.Idle)
	c.u16(&u.Hard)
	size := matchSize(u.Match)
	c.u16(&size)
	c.u8(&u.Table)
	c.skip(1)
	c.u64(&u.Cookie)
	u.Match.code(c)
	codeInstructions(c, &u.Instructions)
}
