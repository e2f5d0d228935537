package apps

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/headwater-cloud/headwater/agents/state"
)

// client4 is a message of a client's (RFC 2131 section 2), read in place: the DHCP library's reader copies each part of it, which is half of what an
// answer would cost. A test holds both against each other.
type client4 struct {
	fixed   []byte    // from the op field up to the options; the packet's own bytes
	options []option4 // each code once
}

// fixed4Size is the length of what stands before the options, the magic cookie included.
const fixed4Size = 240

func cookie4() [4]byte { return [4]byte{99, 130, 83, 99} }

// read takes a message apart, and says whether it can be read.
func (m *client4) read(b []byte) bool {
	m.options = m.options[:0]
	if len(b) < fixed4Size || [4]byte(b[fixed4Size-4:fixed4Size]) != cookie4() {
		return false
	}
	m.fixed = b[:fixed4Size]
	for b = b[fixed4Size:]; len(b) > 0; {
		code := b[0]
		if code == dhcpv4.OptionEnd.Code() {
			return true
		}
		if code == dhcpv4.OptionPad.Code() {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		n := 2 + int(b[1])
		m.option(code, b[2:n:n])
		b = b[n:]
	}
	return false // without an end
}

// option adds an option, or what one goes on with (RFC 3396).
func (m *client4) option(code uint8, value []byte) {
	for i := range m.options {
		if m.options[i].code == code {
			m.options[i].value = append(m.options[i].value, value...) // beyond its capacity, and so a copy
			return
		}
	}
	m.options = append(m.options, option4{code, value})
}

// get is an option's value; has says whether there is one, which may be empty.
func (m *client4) get(code dhcpv4.OptionCode) (value []byte, has bool) {
	for i := range m.options {
		if m.options[i].code == code.Code() {
			return m.options[i].value, true
		}
	}
	return nil, false
}

func (m *client4) has(code dhcpv4.OptionCode) bool {
	_, ok := m.get(code)
	return ok
}

// kind is the type of the message, or MessageTypeNone.
func (m *client4) kind() dhcpv4.MessageType {
	v, _ := m.get(dhcpv4.OptionDHCPMessageType)
	if len(v) != 1 {
		return dhcpv4.MessageTypeNone
	}
	return dhcpv4.MessageType(v[0])
}

// address is the address in an option. ok is false, and the address 0.0.0.0, when there is none.
func (m *client4) address(code dhcpv4.OptionCode) (a netip.Addr, ok bool) {
	v, _ := m.get(code)
	if len(v) != 4 {
		return netip.IPv4Unspecified(), false
	}
	return netip.AddrFrom4([4]byte(v)), true
}

// requested is the address that the client asks for, or 0.0.0.0.
func (m *client4) requested() netip.Addr {
	a, _ := m.address(dhcpv4.OptionRequestedIPAddress)
	return a
}

// isRequest says whether a client with an Ethernet address asks.
func (m *client4) isRequest() bool {
	const hardwareSize = 6
	return m.fixed[0] == byte(dhcpv4.OpcodeBootRequest) && m.fixed[1] == byte(iana.HWTypeEthernet) && m.fixed[2] == hardwareSize
}

func (m *client4) xid() []byte         { return m.fixed[4:8] }
func (m *client4) flags() uint16       { return binary.BigEndian.Uint16(m.fixed[10:]) }
func (m *client4) broadcast() bool     { return m.flags()&0x8000 != 0 }
func (m *client4) client() netip.Addr  { return netip.AddrFrom4([4]byte(m.fixed[12:16])) } // the address that it says it has
func (m *client4) gateway() netip.Addr { return netip.AddrFrom4([4]byte(m.fixed[24:28])) } // the relay that passed it on
func (m *client4) mac() state.MAC      { return state.MACOf(m.fixed[28:34]) }
