package apps

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/headwater-cloud/headwater/agents/state"
)

// options4 gathers the options of an answer and writes those that fit, first those that the protocol wants, then those that the client asked for
// in its order, then the rest (RFC 2131 section 4.3.1, RFC 2132 section 9.8).
type options4 struct {
	c         *Case
	q         *question4
	l         lease
	leaseless bool // to an INFORM: nothing of times

	head  []option4
	own   []option4
	bytes []byte // what most values lie in
	// What stands in the fixed fields: boot clients read there.
	nextServer netip.Addr
	serverName string
	bootFile   string
}

type option4 struct {
	code  uint8
	value []byte
}

// options begins the options of an answer.
func (q *question4) options(c *Case, l lease) *options4 {
	o := &q.answer
	*o = options4{c: c, q: q, l: l, nextServer: netip.IPv4Unspecified(), head: o.head[:0], own: o.own[:0], bytes: o.bytes[:0]}
	if id, _ := q.get(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		o.head = append(o.head, option4{dhcpv4.OptionClientIdentifier.Code(), id}) // RFC 6842
	}
	return o
}

// first adds an option that always stands in front.
func (o *options4) first(code uint8, value ...byte) {
	o.head = append(o.head, option4{code, o.keep(value)})
}

// keep copies a value to where it takes no memory of its own.
func (o *options4) keep(value []byte) []byte {
	if value == nil {
		return nil
	}
	from := len(o.bytes)
	o.bytes = append(o.bytes, value...)
	return o.bytes[from:len(o.bytes):len(o.bytes)]
}

func (o *options4) keepAddr(a netip.Addr) []byte {
	b := a.As4()
	return o.keep(b[:])
}

// collect makes all options that the port can have.
func (o *options4) collect() {
	s, n := o.l.subnet, o.c.Net
	if o.l.subnet.CIDR.Contains(o.l.addr) {
		mask := uint32(math.MaxUint32) << (32 - s.CIDR.Bits())
		o.add32(dhcpv4.OptionSubnetMask, mask)
		o.add32(dhcpv4.OptionBroadcastAddress, num4(s.CIDR.Addr())|^mask)
	}
	if s.Gateway.Is4() {
		o.add(dhcpv4.OptionRouter, o.keepAddr(s.Gateway))
	}
	servers := len(o.bytes)
	for _, a := range s.DNSServers {
		if a.Is4() {
			o.keepAddr(a)
		}
	}
	o.add(dhcpv4.OptionDomainNameServer, o.bytes[servers:len(o.bytes):len(o.bytes)])
	o.add(dhcpv4.OptionHostName, []byte(hostName(o.c.Port, o.l.addr)))
	o.add(dhcpv4.OptionDomainName, []byte(n.DNSDomain))
	o.add(dhcpv4.OptionDNSDomainSearchList, encodeNames(n.DNSDomain))
	o.add(dhcpv4.OptionInterfaceMTU, o.keep([]byte{byte(n.MTU >> 8), byte(n.MTU)}))
	routes := encodeRoutes(guestRoutes(s))
	o.add(dhcpv4.OptionClasslessStaticRoute, routes)
	o.own = appendOption(o.own, 249, routes) // the same before RFC 3442, for Windows
	if !o.leaseless {
		o.times(s.LeaseSeconds)
	}
	o.chosen()
}

// times are the lease's length, and when it is renewed and rebound (RFC 2131 section 4.4.5).
func (o *options4) times(seconds uint32) {
	o.add32(dhcpv4.OptionIPAddressLeaseTime, seconds)
	if seconds != math.MaxUint32 {
		o.add32(dhcpv4.OptionRenewTimeValue, seconds/2)
		o.add32(dhcpv4.OptionRebindingTimeValue, uint32(uint64(seconds)*7/8)) //nolint:gosec // less than seconds
	}
}

// nextServerCode is the number that dnsmasq, and so Neutron, gives to the address of the next server in the header.
const nextServerCode = 255

// fixed4 are the options of the protocol itself, which a port's owner cannot choose.
var fixed4 = map[uint16]bool{50: true, 52: true, 53: true, 54: true, 55: true, 57: true, 61: true, 80: true, 82: true}

// chosen puts the options that the port's owner chose into the place of ours. One whose value cannot be read is left out.
func (o *options4) chosen() {
	for _, x := range o.c.Port.DHCPOptions {
		if x.V6 || fixed4[x.Code] || o.leaseless && (x.Code == 51 || x.Code == 58 || x.Code == 59) {
			continue
		}
		value, err := encodeOption(optionForms4, x)
		if err != nil {
			continue
		}
		if x.Code == nextServerCode {
			o.nextServer, _ = netip.AddrFromSlice(value[:4])
			continue
		}
		o.own = appendOption(o.own, uint8(x.Code), value) //nolint:gosec // at most 255, see state.Parse
		switch x.Code {
		case 66:
			o.serverName = x.Value
			if a, err := netip.ParseAddr(x.Value); err == nil && a.Is4() && o.nextServer.IsUnspecified() {
				o.nextServer = a
			}
		case 67:
			o.bootFile = x.Value
		case 150:
			if o.nextServer.IsUnspecified() {
				o.nextServer, _ = netip.AddrFromSlice(value[:4])
			}
		}
	}
}

func (o *options4) add(code dhcpv4.OptionCode, value []byte) {
	if len(value) > 0 {
		o.own = append(o.own, option4{code.Code(), value})
	}
}

func (o *options4) add32(code dhcpv4.OptionCode, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	o.own = append(o.own, option4{code.Code(), o.keep(b[:])})
}

// appendOption adds an option, in the place of one of the same code. One without a value takes it away.
func appendOption(list []option4, code uint8, value []byte) []option4 {
	for i := range list {
		if list[i].code == code {
			list[i].value = value
			return list
		}
	}
	return append(list, option4{code, value})
}

// write appends the options to a message.
func (o *options4) write(b []byte) []byte {
	limit := o.limit()
	for _, x := range o.head {
		b = x.append(b, limit)
	}
	list, asked := o.q.get(dhcpv4.OptionParameterRequestList)
	for _, code := range list {
		for i := range o.own {
			if o.own[i].code == code {
				b = o.own[i].append(b, limit)
				o.own[i].value = nil
			}
		}
	}
	for _, x := range o.own {
		if !asked || always4(x.code) || o.isChosen(x.code) {
			b = x.append(b, limit)
		}
	}
	return b
}

// always4 are the options that a client gets though it did not ask: without them its address is of no use.
func always4(code uint8) bool { return code == 1 || code == 51 || code == 58 || code == 59 }

func (o *options4) isChosen(code uint8) bool {
	for _, x := range o.c.Port.DHCPOptions {
		if !x.V6 && x.Code == uint16(code) {
			return true
		}
	}
	return false
}

// limit is how long a message may be: what the client takes, but at least what all take, and at most what the network carries.
func (o *options4) limit() int {
	size := 576
	if v, _ := o.q.get(dhcpv4.OptionMaximumDHCPMessageSize); len(v) == 2 {
		size = max(size, int(binary.BigEndian.Uint16(v)))
	}
	return min(size, max(o.c.Net.MTU, 576)) - 28 - 1 // less the headers of IP and UDP, and the end's byte
}

// append writes the option, in parts of 255 bytes (RFC 3396), if it fits.
func (x option4) append(b []byte, limit int) []byte {
	if x.value == nil && x.code != dhcpv4.OptionRapidCommit.Code() {
		return b
	}
	if len(b)+len(x.value)+2*(len(x.value)/256+1) > limit {
		return b
	}
	rest := x.value
	for {
		n := min(len(rest), 255)
		b = append(append(b, x.code, byte(n)), rest[:n]...)
		if rest = rest[n:]; len(rest) == 0 {
			return b
		}
	}
}

// hostName is the name that a port's guest gets: its own, or one made of its address as Neutron makes it.
func hostName(p *state.Port, a netip.Addr) string {
	if p.DNSName != "" {
		return p.DNSName
	}
	name := a.AppendTo([]byte("host-"))
	for i, c := range name {
		if c == '.' || c == ':' {
			name[i] = '-'
		}
	}
	return string(name)
}

// guestRoutes are the routes that a guest of the subnet is told. With any there stands the default route too, since a client that takes
// these does not look at the router option (RFC 3442).
func guestRoutes(s *state.Subnet) []state.Route {
	var out []state.Route
	for _, r := range s.HostRoutes {
		if r.Destination.Addr().Is4() && r.NextHop.Is4() {
			out = append(out, r)
		}
	}
	if s.MetadataByDHCP || !s.Gateway.IsValid() {
		m := state.MetadataIPv4()
		out = append(out, state.Route{Destination: netip.PrefixFrom(m, 32), NextHop: netip.IPv4Unspecified()}) // on the link itself
	}
	if s.Gateway.Is4() && len(out) > 0 {
		out = append(out, state.Route{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), NextHop: s.Gateway})
	}
	return out
}

// encodeRoutes is the form of RFC 3442.
func encodeRoutes(routes []state.Route) []byte {
	var b []byte
	for _, r := range routes {
		n := r.Destination.Bits()
		b = append(append(b, byte(n)), r.Destination.Addr().AsSlice()[:(n+7)/8]...)
		b = append(b, r.NextHop.AsSlice()...)
	}
	return b
}

func num4(a netip.Addr) uint32 { return binary.BigEndian.Uint32(a.AsSlice()) }
