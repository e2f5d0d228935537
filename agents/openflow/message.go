package openflow

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Version is OpenFlow 1.3's number on the wire.
const Version = 4

// Message is one message of OpenFlow. The messages are the pointers to the structs of this package.
type Message interface {
	code(c *coder)
	kind() messageKind
}

// messageKind is a message's number: its type, and for an extension its vendor and subtype.
type messageKind struct {
	kind    uint8
	vendor  uint32
	subtype uint32
}

const extension = 4 // OFPT_EXPERIMENTER

func plain(kind uint8) messageKind       { return messageKind{kind: kind} }
func nxt(subtype uint32) messageKind     { return messageKind{extension, nicira, subtype} }
func onfType(subtype uint32) messageKind { return messageKind{extension, onf, subtype} }

// messages makes each known message.
var messages = func() map[messageKind]func() Message {
	m := map[messageKind]func() Message{}
	for _, make := range []func() Message{
		func() Message { return new(Hello) }, func() Message { return new(Error) }, func() Message { return new(EchoRequest) },
		func() Message { return new(EchoReply) }, func() Message { return new(FeaturesRequest) }, func() Message { return new(FeaturesReply) },
		func() Message { return new(GetConfigRequest) }, func() Message { return new(GetConfigReply) }, func() Message { return new(SetConfig) },
		func() Message { return new(PacketIn) }, func() Message { return new(FlowRemoved) }, func() Message { return new(PortStatus) },
		func() Message { return new(PacketOut) }, func() Message { return new(FlowMod) }, func() Message { return new(GroupMod) },
		func() Message { return new(PortMod) }, func() Message { return new(TableMod) }, func() Message { return new(MultipartRequest) },
		func() Message { return new(MultipartReply) }, func() Message { return new(BarrierRequest) }, func() Message { return new(BarrierReply) },
		func() Message { return new(RoleRequest) }, func() Message { return new(RoleReply) }, func() Message { return new(GetAsyncRequest) },
		func() Message { return new(GetAsyncReply) }, func() Message { return new(SetAsync) }, func() Message { return new(MeterMod) },
		func() Message { return new(SetPacketInFormat) }, func() Message { return new(SetControllerID) }, func() Message { return new(TLVTableMod) },
		func() Message { return new(TLVTableRequest) }, func() Message { return new(TLVTableReply) }, func() Message { return new(Resume) },
		func() Message { return new(CTFlushZone) }, func() Message { return new(CTFlush) }, func() Message { return new(PacketIn2) },
		func() Message { return new(BundleControl) }, func() Message { return new(BundleAdd) }, func() Message { return new(RoleStatus) },
		func() Message { return new(RequestForward) }, func() Message { return new(FlowMonitorCancel) },
		func() Message { return new(QueueConfigRequest) }, func() Message { return new(QueueConfigReply) }, func() Message { return new(SetAsync2) },
		func() Message { return new(FlowMonitorPaused) }, func() Message { return new(FlowMonitorResumed) },
	} {
		m[make().kind()] = make
	}
	return m
}()

// Append appends a message, with its header, to b. It returns b as it was and an error for what cannot be written: a value
// out of its range, a part of more than 65,535 bytes.
func Append(b []byte, xid uint32, m Message) ([]byte, error) {
	c := coder{b: b}
	err := c.message(xid, m)
	return c.b, err
}

// message writes a message, with its header, or leaves b as it was.
func (c *coder) message(xid uint32, m Message) error {
	begin := len(c.b)
	k := m.kind()
	c.b = append(c.b, Version, k.kind, 0, 0)
	c.b = binary.BigEndian.AppendUint32(c.b, xid)
	if k.kind == extension {
		c.b = binary.BigEndian.AppendUint32(c.b, k.vendor)
		c.b = binary.BigEndian.AppendUint32(c.b, k.subtype)
	}
	m.code(c)
	size := len(c.b) - begin
	if c.err == nil && size > 0xffff {
		c.err = fmt.Errorf("%w: a message of %d bytes", ErrLength, size)
	}
	if err := c.err; err != nil {
		c.b, c.err = c.b[:begin], nil
		return fmt.Errorf("encode %T: %w", m, err)
	}
	binary.BigEndian.PutUint16(c.b[begin+2:], uint16(size)) //nolint:gosec // checked
	return nil
}

// headerSize is the size of every message's header: version, type, length, xid.
const headerSize = 8

// Decode reads one message of exactly the bytes of raw, which the message does not keep. A message of an unknown type is an *OtherMessage.
func Decode(raw []byte) (xid uint32, m Message, err error) {
	if len(raw) < headerSize || int(binary.BigEndian.Uint16(raw[2:])) != len(raw) {
		return 0, nil, fmt.Errorf("decode a message: %w: %d bytes", ErrLength, len(raw))
	}
	k := messageKind{kind: raw[1]}
	xid = binary.BigEndian.Uint32(raw[4:])
	if raw[0] != Version && k.kind != 0 {
		return xid, nil, fmt.Errorf("decode a message: %w: OpenFlow version %d, want %d", ErrType, raw[0], Version)
	}
	c := &coder{b: raw[headerSize:], reading: true}
	if k.kind == extension {
		c.u32(&k.vendor)
		c.u32(&k.subtype)
	}
	if make := messages[k]; make != nil {
		m = make()
	} else {
		m = &OtherMessage{Type: k.kind, Vendor: k.vendor, Subtype: k.subtype}
	}
	switch m.(type) {
	case *PacketIn, *PacketIn2: // their many parts are copied at once
		c.b, c.owned = slices.Clone(c.b), true
	}
	if c.err == nil {
		m.code(c)
	}
	if c.err == nil && len(c.b) > 0 {
		c.err = fmt.Errorf("%w: %d", ErrLong, len(c.b))
	}
	if c.err != nil {
		return xid, nil, fmt.Errorf("decode %T: %w", m, c.err)
	}
	return xid, m, nil
}

// OtherMessage is a message that this package does not know, as it was on the wire.
type OtherMessage struct {
	Type    uint8
	Vendor  uint32
	Subtype uint32
	Data    []byte
}

func (m *OtherMessage) kind() messageKind { return messageKind{m.Type, m.Vendor, m.Subtype} }
func (m *OtherMessage) code(c *coder)     { c.rest(&m.Data) }
