package apps

import (
	"encoding/binary"
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
	q := &c.four
	q.own = own
	if !q.read(c.UDP.Payload) || !q.isRequest() {
		return Malformed
	}
	// A relay's packets are not its own guest's, and a guest behind a guest has no address from us.
	if !q.gateway().IsUnspecified() || q.mac() != c.Port.MAC {
		return Foreign
	}
	return d.answer(c, q)
}

// question4 is a message of a DHCPv4 client. What the answer is made in is used again for the next one.
type question4 struct {
	client4
	own    []lease
	answer options4
	buf    []byte
}

// find is the lease of an address.
func (q *question4) find(addr netip.Addr) (lease, bool) {
	i := slices.IndexFunc(q.own, func(l lease) bool { return l.addr == addr })
	if i < 0 {
		return lease{}, false
	}
	return q.own[i], true
}

func (d *dhcp4) answer(c *Case, q *question4) Outcome {
	switch q.kind() {
	case dhcpv4.MessageTypeDiscover:
		l, ok := q.find(q.requested())
		if !ok {
			l = q.own[0]
		}
		if q.has(dhcpv4.OptionRapidCommit) { // RFC 4039
			return q.reply(c, dhcpv4.MessageTypeAck, l)
		}
		return q.reply(c, dhcpv4.MessageTypeOffer, l)
	case dhcpv4.MessageTypeRequest:
		return q.request(c)
	case dhcpv4.MessageTypeInform:
		l, ok := q.find(q.client())
		if !ok {
			l = lease{q.client(), q.own[0].subnet} // an address that it has by itself
		}
		if l.addr.IsUnspecified() {
			l.addr = c.Src
		}
		if l.addr.IsUnspecified() {
			return Malformed // nowhere to answer to
		}
		return q.reply(c, dhcpv4.MessageTypeInform, l)
	case dhcpv4.MessageTypeDecline:
		d.alarm.raise(c, "dhcp address declined", "address", q.requested().String())
		return Noted
	case dhcpv4.MessageTypeRelease:
		return Noted
	}
	return Malformed // BOOTP, and what only servers say
}

// request answers a DHCPREQUEST in the client's four states (RFC 2131 section 4.3.2).
func (q *question4) request(c *Case) Outcome {
	wanted := q.client() // RENEWING and REBINDING
	if server, ok := q.address(dhcpv4.OptionServerIdentifier); ok {
		if !slices.ContainsFunc(q.own, func(l lease) bool { return serverID(l.subnet) == server }) {
			return Silent // SELECTING, and it has chosen another server
		}
		if wanted.IsUnspecified() {
			wanted = q.requested()
		}
	} else if wanted.IsUnspecified() {
		wanted = q.requested() // INIT-REBOOT
	}
	if wanted.IsUnspecified() {
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
	o := q.options(c, l)
	yours := l.addr
	if kind == dhcpv4.MessageTypeInform {
		kind, yours, o.leaseless = dhcpv4.MessageTypeAck, netip.IPv4Unspecified(), true
	}
	o.first(dhcpv4.OptionDHCPMessageType.Code(), byte(kind))
	o.first(dhcpv4.OptionServerIdentifier.Code(), serverID(l.subnet).AsSlice()...)
	if kind == dhcpv4.MessageTypeAck && q.has(dhcpv4.OptionRapidCommit) && q.kind() == dhcpv4.MessageTypeDiscover {
		o.first(dhcpv4.OptionRapidCommit.Code())
	}
	o.collect()
	c.toPort(q.frame(c, kind, l, yours, o))
	return Answered
}

// refuse sends a NAK.
func (q *question4) refuse(c *Case) Outcome {
	l := q.own[0]
	o := q.options(c, l)
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
	case !q.client().IsUnspecified():
		e.dst = q.client()
	case q.broadcast():
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
	b := append(q.buf[:0], make([]byte, fixed4Size)...)
	b[0], b[1], b[2] = byte(dhcpv4.OpcodeBootReply), byte(iana.HWTypeEthernet), 6
	copy(b[4:], q.xid())
	binary.BigEndian.PutUint16(b[10:], q.flags())
	if kind == dhcpv4.MessageTypeAck {
		copy(b[12:16], q.fixed[12:])
	}
	copy(b[16:20], yours.AsSlice())
	if kind != dhcpv4.MessageTypeNak {
		copy(b[20:24], o.nextServer.AsSlice())
		copy(b[44:107], o.serverName)
		copy(b[108:235], o.bootFile)
	}
	copy(b[28:34], q.fixed[28:])
	cookie := cookie4()
	copy(b[fixed4Size-4:], cookie[:])
	b = append(o.write(b), dhcpv4.OptionEnd.Code())
	if n := minimal - len(b); n > 0 {
		b = append(b, make([]byte, n)...)
	}
	q.buf = b
	return b
}

func broadcast4() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }
