package apps

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	dhcp4ServerPort = 67
	dhcp4ClientPort = 68
)

// dhcp4 is the DHCPv4 server of all subnets that have DHCP (RFC 2131). It keeps no leases: a port's addresses are its own for as long as
// it exists, so each host gives the same answer, and a restart forgets nothing.
type dhcp4 struct{ alarm *alarms }

// lease is an address of a port that DHCP tells it.
type lease struct {
	addr   netip.Addr
	subnet *state.Subnet
}

// leases are the port's addresses of subnets that a filter takes.
func leases(c *Case, want func(*state.Subnet) bool) []lease {
	var out []lease
	for _, f := range c.Port.FixedIPs {
		if s := state.Find[*state.Subnet](c.View, f.Subnet); s != nil && s.CIDR.Addr().Is4() == f.Address.Is4() && want(s) {
			out = append(out, lease{f.Address, s})
		}
	}
	return out
}

func (d *dhcp4) direct(c *Case) Outcome {
	if !c.Is4 || c.UDP == nil || c.UDP.DstPort != dhcp4ServerPort {
		return Passed
	}
	if c.Port == nil || c.Net == nil {
		return Foreign
	}
	own := leases(c, func(s *state.Subnet) bool { return s.DHCP && s.CIDR.Addr().Is4() })
	if len(own) == 0 {
		return Passed // somebody else's server may answer
	}
	req, err := dhcpv4.FromBytes(c.UDP.Payload)
	if err != nil || req.OpCode != dhcpv4.OpcodeBootRequest || req.HWType != iana.HWTypeEthernet || len(req.ClientHWAddr) != 6 {
		return Malformed
	}
	// A relay's packets are not its own guest's, and a guest behind a guest has no address from us.
	if !unspecified(req.GatewayIPAddr) || state.MACOf(req.ClientHWAddr) != c.Port.MAC {
		return Foreign
	}
	return d.answer(c, &question4{DHCPv4: req, own: own})
}

// question4 is a message of a DHCPv4 client.
type question4 struct {
	*dhcpv4.DHCPv4
	own []lease
}

// find is the lease of an address.
func (q *question4) find(a net.IP) (lease, bool) {
	addr := addr4(a)
	i := slices.IndexFunc(q.own, func(l lease) bool { return l.addr == addr })
	if i < 0 {
		return lease{}, false
	}
	return q.own[i], true
}

func (d *dhcp4) answer(c *Case, q *question4) Outcome {
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		l, ok := q.find(q.RequestedIPAddress())
		if !ok {
			l = q.own[0]
		}
		if q.Options.Has(dhcpv4.OptionRapidCommit) { // RFC 4039
			return q.reply(c, dhcpv4.MessageTypeAck, l)
		}
		return q.reply(c, dhcpv4.MessageTypeOffer, l)
	case dhcpv4.MessageTypeRequest:
		return q.request(c)
	case dhcpv4.MessageTypeInform:
		l, ok := q.find(q.ClientIPAddr)
		if !ok {
			l = lease{addr4(q.ClientIPAddr), q.own[0].subnet} // an address that it has by itself
		}
		if l.addr.IsUnspecified() {
			l.addr = c.Src
		}
		if l.addr.IsUnspecified() {
			return Malformed // nowhere to answer to
		}
		return q.reply(c, dhcpv4.MessageTypeInform, l)
	case dhcpv4.MessageTypeDecline:
		d.alarm.raise(c, "dhcp address declined", "address", q.RequestedIPAddress().String())
		return Noted
	case dhcpv4.MessageTypeRelease:
		return Noted
	}
	return Malformed // BOOTP, and what only servers say
}

// request answers a DHCPREQUEST in the client's four states (RFC 2131 section 4.3.2).
func (q *question4) request(c *Case) Outcome {
	wanted := q.ClientIPAddr // RENEWING and REBINDING
	if server := q.ServerIdentifier(); server != nil {
		if !slices.ContainsFunc(q.own, func(l lease) bool { return serverID(l.subnet) == addr4(server) }) {
			return Silent // SELECTING, and it has chosen another server
		}
		if unspecified(wanted) {
			wanted = q.RequestedIPAddress()
		}
	} else if unspecified(wanted) {
		wanted = q.RequestedIPAddress() // INIT-REBOOT
	}
	if unspecified(wanted) {
		return Malformed
	}
	l, ok := q.find(wanted)
	if !ok {
		// The port is ours, and so are all its addresses: nobody else could say yes.
		return q.refuse(c)
	}
	return q.reply(c, dhcpv4.MessageTypeAck, l)
}

// serverID is the address that the server of a subnet has. Without a gateway it is the metadata address: it needs no address of the tenant's, is
// the same on all hosts, and hosts answer ARP for it anyway, so that a client that renews finds it.
func serverID(s *state.Subnet) netip.Addr {
	if s.Gateway.Is4() {
		return s.Gateway
	}
	return state.MetadataIPv4()
}

// reply sends an OFFER or an ACK; of MessageTypeInform, an ACK without a lease.
func (q *question4) reply(c *Case, kind dhcpv4.MessageType, l lease) Outcome {
	o := newOptions4(c, q, l)
	yours := l.addr
	if kind == dhcpv4.MessageTypeInform {
		kind, yours, o.leaseless = dhcpv4.MessageTypeAck, netip.IPv4Unspecified(), true
	}
	o.first(dhcpv4.OptionDHCPMessageType.Code(), byte(kind))
	o.first(dhcpv4.OptionServerIdentifier.Code(), serverID(l.subnet).AsSlice()...)
	if kind == dhcpv4.MessageTypeAck && q.Options.Has(dhcpv4.OptionRapidCommit) && q.MessageType() == dhcpv4.MessageTypeDiscover {
		o.first(dhcpv4.OptionRapidCommit.Code())
	}
	o.collect()
	c.toPort(q.frame(c, kind, l, yours, o))
	return Answered
}

// refuse sends a NAK.
func (q *question4) refuse(c *Case) Outcome {
	l := q.own[0]
	o := newOptions4(c, q, l)
	o.first(dhcpv4.OptionDHCPMessageType.Code(), byte(dhcpv4.MessageTypeNak))
	o.first(dhcpv4.OptionServerIdentifier.Code(), serverID(l.subnet).AsSlice()...)
	o.first(dhcpv4.OptionMessage.Code(), []byte("not an address of this port")...)
	c.toPort(q.frame(c, dhcpv4.MessageTypeNak, l, netip.IPv4Unspecified(), o))
	return Refused
}

// frame is an answer on its way to the client (RFC 2131 section 4.1).
func (q *question4) frame(c *Case, kind dhcpv4.MessageType, l lease, yours netip.Addr, o *options4) []byte {
	e := ends{srcMAC: serviceSource(c.View, l.subnet), dstMAC: c.Port.MAC, src: serverID(l.subnet)}
	switch {
	case kind == dhcpv4.MessageTypeNak:
		e.dst = broadcast4()
	case !unspecified(q.ClientIPAddr):
		e.dst = addr4(q.ClientIPAddr)
	case q.IsBroadcast():
		e.dst = broadcast4()
	case yours.IsUnspecified():
		e.dst = l.addr // INFORM of a client that did not say its address
	default:
		e.dst = yours
	}
	if e.dst == broadcast4() {
		e.dstMAC = broadcast
	}
	return c.write.datagram(e, dhcp4ServerPort, dhcp4ClientPort, q.message(kind, yours, o))
}

// minimal is the size of a BOOTP message: some clients drop what is shorter.
const minimal = 300

// message is an answer from the op field on (RFC 2131 section 4.3.1, table 3).
func (q *question4) message(kind dhcpv4.MessageType, yours netip.Addr, o *options4) []byte {
	b := make([]byte, 240, 576)
	b[0], b[1], b[2] = byte(dhcpv4.OpcodeBootReply), byte(iana.HWTypeEthernet), 6
	copy(b[4:], q.TransactionID[:])
	binary.BigEndian.PutUint16(b[10:], q.Flags)
	if kind == dhcpv4.MessageTypeAck {
		copy(b[12:16], q.ClientIPAddr.To4())
	}
	copy(b[16:20], yours.AsSlice())
	if kind != dhcpv4.MessageTypeNak {
		copy(b[20:24], o.nextServer.AsSlice())
		copy(b[44:107], o.serverName)
		copy(b[108:235], o.bootFile)
	}
	copy(b[28:44], q.ClientHWAddr)
	copy(b[236:], []byte{99, 130, 83, 99})
	b = append(o.write(b), dhcpv4.OptionEnd.Code())
	if n := minimal - len(b); n > 0 {
		b = append(b, make([]byte, n)...)
	}
	return b
}

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// addr4 is an address of 4 bytes; what is none is 0.0.0.0.
func addr4(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok {
		return netip.IPv4Unspecified()
	}
	return a
}

func unspecified(ip net.IP) bool { return addr4(ip).IsUnspecified() }
