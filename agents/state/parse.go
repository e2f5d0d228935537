package state

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/api"
)

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

// Wire is the reference as it is sent.
func (r Ref) Wire() *api.Ref { return &api.Ref{Kind: api.Kind(r.Kind), Id: r.ID} }

func checkID(s string) error {
	ok := len(s) >= 1 && len(s) <= 64
	for _, c := range []byte(s) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:/", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("%q is not an id: 1 to 64 letters, digits and -_.:/", s)
	}
	return nil
}

// ErrUnknownKind is what Parse says of an object of a kind that this version does not know. It is left out: whatever needs it came with a later version.
var ErrUnknownKind = errors.New("an object of a kind that is not known here")

// Parse checks an object and reads its addresses. The error names all that is wrong with it.
func Parse(o *api.Object) (Object, error) {
	p := &parser{}
	var out Object
	switch k := o.GetKind().(type) {
	case *api.Object_Host:
		out = p.host(k.Host)
	case *api.Object_Network:
		out = p.network(k.Network)
	case *api.Object_Subnet:
		out = p.subnet(k.Subnet)
	case *api.Object_Port:
		out = p.port(k.Port)
	case *api.Object_Router:
		out = p.router(k.Router)
	case *api.Object_FloatingIp:
		out = p.floatingIP(k.FloatingIp)
	case *api.Object_SecurityGroup:
		out = p.securityGroup(k.SecurityGroup)
	case *api.Object_AddressSet:
		out = p.addressSet(k.AddressSet)
	case *api.Object_SnatAddress:
		out = p.snatAddress(k.SnatAddress)
	case *api.Object_Neighbor:
		out = p.neighbor(k.Neighbor)
	case *api.Object_SecurityLog:
		out = p.securityLog(k.SecurityLog)
	case *api.Object_Mirror:
		out = p.mirror(k.Mirror)
	default:
		return nil, ErrUnknownKind
	}
	if len(p.errs) > 0 {
		return nil, fmt.Errorf("%s: %w", out.Ref(), errors.Join(p.errs...))
	}
	return out, nil
}

// parser gathers what is wrong with one object.
type parser struct{ errs []error }

func (p *parser) fail(field string, err error) {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", field, err))
	}
}

func (p *parser) want(ok bool, field, format string, args ...any) {
	if !ok {
		p.errs = append(p.errs, fmt.Errorf(field+": "+format, args...))
	}
}

func (p *parser) id(field, s string) string {
	p.fail(field, checkID(s))
	return s
}

// maybeID is an id that may be absent.
func (p *parser) maybeID(field, s string) string {
	if s != "" {
		p.fail(field, checkID(s))
	}
	return s
}

func (p *parser) ids(field string, list []string) []string {
	out := slices.Clone(list)
	for _, s := range list {
		p.fail(field, checkID(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p *parser) key(n uint32) uint32 {
	p.want(n >= 1 && n <= MaxKey, "key", "%d is not in [1, %d]", n, MaxKey)
	return n
}

func (p *parser) number(field string, n, low, high uint32) uint32 {
	p.want(n >= low && n <= high, field, "%d is not in [%d, %d]", n, low, high)
	return n
}

func (p *parser) mac(field, s string) MAC {
	m, err := ParseMAC(s)
	p.fail(field, err)
	if err == nil {
		p.want(m>>40&1 == 0 && m != 0, field, "%s is not the address of one interface", s)
	}
	return m
}

func (p *parser) maybeMAC(field, s string) MAC {
	if s == "" {
		return 0
	}
	return p.mac(field, s)
}

func (p *parser) addr(field, s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err == nil && (a.Zone() != "" || a.Is4In6()) {
		err = fmt.Errorf("%q: write an IPv4 address like 10.0.0.5, an IPv6 one without a zone", s)
	}
	p.fail(field, err)
	return a
}

func (p *parser) maybeAddr(field, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return p.addr(field, s)
}

func (p *parser) addrs(field string, list []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, p.addr(field, s))
	}
	return out
}

// prefix reads a prefix, or an address that stands for the prefix of all its bits, without the bits behind its length.
func (p *parser) prefix(field, s string) netip.Prefix { return p.interfacePrefix(field, s).Masked() }

func (p *parser) interfacePrefix(field, s string) netip.Prefix {
	if !strings.Contains(s, "/") {
		a := p.addr(field, s)
		if !a.IsValid() {
			return netip.Prefix{}
		}
		return netip.PrefixFrom(a, a.BitLen())
	}
	x, err := netip.ParsePrefix(s)
	if err == nil && x.Addr().Is4In6() {
		err = fmt.Errorf("%q: write an IPv4 prefix like 10.0.0.0/24", s)
	}
	p.fail(field, err)
	return x
}

func (p *parser) interfacePrefixes(field string, list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, p.interfacePrefix(field, s))
	}
	return out
}

func (p *parser) host(m *api.Host) *Host {
	out := &Host{ID: p.id("id", m.GetId()), Key: p.key(m.GetKey()), Site: p.maybeID("site", m.GetSite()), Gateway: m.GetGateway()}
	for _, e := range m.GetTunnelEnds() {
		port, address := e.GetPort(), p.addr("tunnel_ends", e.GetAddress())
		// Packets that did not come by a tunnel of that family have the address of all zeros: whoever sent them would be taken for the host.
		p.want(!address.IsUnspecified() && !address.IsMulticast(), "tunnel_ends", "%s is no address that a host sends from", address)
		p.want(e.GetEncapsulation() <= api.Encapsulation_GENEVE, "tunnel_ends", "encapsulation %d is not known here", e.GetEncapsulation())
		if port == 0 {
			port = map[api.Encapsulation]uint32{api.Encapsulation_VXLAN: 4789, api.Encapsulation_GENEVE: 6081}[e.GetEncapsulation()]
		}
		out.TunnelEnds = append(out.TunnelEnds, TunnelEnd{
			Address: address, Zone: p.maybeID("tunnel_ends zone", e.GetZone()),
			Encap: Encap(e.GetEncapsulation()), Port: uint16(p.number("tunnel_ends port", port, 1, math.MaxUint16)), //nolint:gosec // checked
		})
	}
	return out
}

func (p *parser) network(m *api.Network) *Network {
	out := &Network{
		ID: p.id("id", m.GetId()), Key: p.key(m.GetKey()), Project: m.GetProject(), MTU: 1450, External: m.GetExternal(), Learn: m.GetLearn(),
		DNSDomain: strings.TrimSuffix(m.GetDnsDomain(), "."), Segment: SegmentKind(m.GetSegment().GetKind()), //nolint:gosec // checked below
		Physical: p.maybeID("physical_network", m.GetSegment().GetPhysicalNetwork()),
	}
	if m.GetMtu() != 0 {
		out.MTU = int(p.number("mtu", m.GetMtu(), 68, math.MaxUint16))
	}
	switch s := m.GetSegment(); s.GetKind() {
	case api.Segment_OVERLAY:
	case api.Segment_VLAN:
		out.VLAN = uint16(p.number("segment vlan", s.GetVlan(), 1, 4094)) //nolint:gosec // checked
		p.want(out.Physical != "", "segment physical_network", "a VLAN is on a physical network: name it")
	case api.Segment_FLAT:
		p.want(out.Physical != "", "segment physical_network", "a flat network is on a physical network: name it")
	default:
		p.want(false, "segment kind", "%d is not known here", s.GetKind())
	}
	return out
}

func (p *parser) subnet(m *api.Subnet) *Subnet {
	out := &Subnet{
		ID: p.id("id", m.GetId()), Network: p.id("network", m.GetNetwork()), CIDR: p.prefix("cidr", m.GetCidr()),
		Gateway: p.maybeAddr("gateway", m.GetGateway()), DHCP: m.GetDhcp(), DNSServers: p.addrs("dns_servers", m.GetDnsServers()),
		RAMode: p.ipv6Mode("ra_mode", m.GetRaMode()), AddressMode: p.ipv6Mode("address_mode", m.GetAddressMode()),
		LeaseSeconds: m.GetLeaseSeconds(), MetadataByDHCP: m.GetMetadataByDhcp(),
	}
	if out.LeaseSeconds == 0 {
		out.LeaseSeconds = 86400
	}
	if out.Gateway.IsValid() && out.CIDR.IsValid() {
		p.want(out.Gateway.Is4() == out.CIDR.Addr().Is4(), "gateway", "%s is not of the family of %s", out.Gateway, out.CIDR)
	}
	for _, r := range m.GetHostRoutes() {
		out.HostRoutes = append(out.HostRoutes, Route{p.prefix("host_routes", r.GetDestination()), p.addr("host_routes", r.GetNextHop())})
	}
	return out
}

func (p *parser) ipv6Mode(field string, m api.Subnet_IPv6Mode) IPv6Mode {
	p.want(m >= 0 && m <= api.Subnet_DHCPV6_STATEFUL, field, "%d is not known here", m)
	return IPv6Mode(m) //nolint:gosec // checked
}

func (p *parser) port(m *api.Port) *Port {
	out := &Port{
		ID: p.id("id", m.GetId()), Key: p.key(m.GetKey()), Network: p.id("network", m.GetNetwork()), Project: m.GetProject(),
		MAC: p.mac("mac", m.GetMac()), PortSecurity: m.GetPortSecurity(), SecurityGroups: p.ids("security_groups", m.GetSecurityGroups()),
		Host: p.maybeID("host", m.GetHost()), NextHost: p.maybeID("next_host", m.GetNextHost()), BindingEpoch: m.GetBindingEpoch(),
		Down: m.GetDown(), Foreign: m.GetRole() == api.Port_FOREIGN, Parent: p.maybeID("parent", m.GetParent()),
		DNSName: m.GetDnsName(), Device: m.GetDevice(), DisableMetadata: m.GetDisableMetadata(), Unplugged: m.GetUnplugged(),
	}
	p.want(m.GetRole() <= api.Port_FOREIGN, "role", "%d is not known here", m.GetRole())
	if out.Parent != "" {
		out.ParentVLAN = uint16(p.number("parent_vlan", m.GetParentVlan(), 1, 4094)) //nolint:gosec // checked
		p.want(out.Parent != out.ID, "parent", "a port cannot be its own subport")
	}
	for _, f := range m.GetFixedIps() {
		out.FixedIPs = append(out.FixedIPs, FixedIP{p.maybeID("fixed_ips subnet", f.GetSubnet()), p.addr("fixed_ips", f.GetAddress())})
	}
	for _, a := range m.GetAllowedPairs() {
		pair := AddressPair{p.prefix("allowed_pairs", a.GetPrefix()), p.maybeMAC("allowed_pairs mac", a.GetMac())}
		if pair.MAC == 0 {
			pair.MAC = out.MAC
		}
		out.AllowedPairs = append(out.AllowedPairs, pair)
	}
	for _, o := range m.GetDhcpOptions() {
		high := uint32(255)
		if o.GetV6() {
			high = math.MaxUint16
		}
		out.DHCPOptions = append(out.DHCPOptions, DHCPOption{uint16(p.number("dhcp_options code", o.GetCode(), 1, high)), o.GetV6(), o.GetValue()}) //nolint:gosec // checked
	}
	q := m.GetQos()
	out.QoS = QoS{q.GetEgressKbps(), q.GetEgressBurstKbit(), q.GetIngressKbps(), q.GetIngressBurstKbit(), q.GetEgressPps(), q.GetIngressPps(),
		int(p.number("qos dscp_plus_one", q.GetDscpPlusOne(), 0, 64)) - 1}
	for _, n := range []uint64{q.GetEgressKbps(), q.GetEgressBurstKbit(), q.GetIngressKbps(), q.GetIngressBurstKbit(), q.GetEgressPps(), q.GetIngressPps()} {
		p.want(n <= math.MaxUint32, "qos", "%d is more than a meter can count", n)
	}
	return out
}

func (p *parser) router(m *api.Router) *Router {
	out := &Router{ID: p.id("id", m.GetId()), Key: p.key(m.GetKey()), Project: m.GetProject(), Down: m.GetDown()}
	for _, i := range m.GetInterfaces() {
		out.Interfaces = append(out.Interfaces, RouterInterface{p.id("interfaces network", i.GetNetwork()), p.mac("interfaces mac", i.GetMac()),
			p.interfacePrefixes("interfaces addresses", i.GetAddresses())})
	}
	for _, r := range m.GetRoutes() {
		route := StaticRoute{p.prefix("routes destination", r.GetDestination()), p.addrs("routes next_hops", r.GetNextHops())}
		for _, hop := range route.NextHops {
			p.want(hop.Is4() == route.Destination.Addr().Is4(), "routes", "the next hop %s is not of the family of %s", hop, route.Destination)
		}
		out.Routes = append(out.Routes, route)
	}
	if g := m.GetGateway(); g != nil {
		p.want(g.GetSnat() >= 0 && g.GetSnat() <= api.SnatMode_SNAT_BLOCKS, "gateway snat", "%d is not known here", g.GetSnat())
		out.Gateway = &Gateway{p.id("gateway network", g.GetNetwork()), p.mac("gateway mac", g.GetMac()),
			p.interfacePrefixes("gateway addresses", g.GetAddresses()), p.addrs("gateway next_hops", g.GetNextHops()),
			SnatMode(g.GetSnat()), slices.Clone(g.GetHosts())} //nolint:gosec // checked
		for _, h := range g.GetHosts() {
			p.id("gateway hosts", h)
		}
	}
	return out
}

func (p *parser) floatingIP(m *api.FloatingIP) *FloatingIP {
	out := &FloatingIP{
		ID: p.id("id", m.GetId()), Network: p.id("network", m.GetNetwork()), Router: p.maybeID("router", m.GetRouter()),
		Address: p.addr("address", m.GetAddress()), MAC: p.mac("mac", m.GetMac()), Port: p.maybeID("port", m.GetPort()),
		FixedIP: p.maybeAddr("fixed_ip", m.GetFixedIp()),
	}
	if out.Port != "" && out.Address.IsValid() {
		p.want(out.FixedIP.IsValid() && out.FixedIP.Is4() == out.Address.Is4(), "fixed_ip", "it stands for an address of its own family: name it")
	}
	return out
}

func (p *parser) securityGroup(m *api.SecurityGroup) *SecurityGroup {
	out := &SecurityGroup{ID: p.id("id", m.GetId()), Project: m.GetProject(), Stateless: m.GetStateless()}
	for i, r := range m.GetRules() {
		field := fmt.Sprintf("rules[%d]", i)
		rule := SecurityRule{
			ID: r.GetId(), Egress: r.GetDirection() == api.SecurityRule_EGRESS, V6: r.GetFamily() == api.SecurityRule_IPV6,
			Protocol: int(p.number(field, r.GetProtocolPlusOne(), 0, 256)) - 1,
			PortMin:  uint16(p.number(field, r.GetPortMin(), 0, math.MaxUint16)), PortMax: uint16(p.number(field, r.GetPortMax(), 0, math.MaxUint16)), //nolint:gosec // checked
			ICMPType: int(p.number(field, r.GetIcmpTypePlusOne(), 0, 256)) - 1, ICMPCode: int(p.number(field, r.GetIcmpCodePlusOne(), 0, 256)) - 1,
			RemoteSet: p.maybeID(field, r.GetRemoteSet()),
		}
		if r.GetRemotePrefix() != "" {
			rule.Remote = p.prefix(field, r.GetRemotePrefix())
			p.want(rule.RemoteSet == "", field, "it names a prefix and a set: one of them")
			p.want(!rule.Remote.IsValid() || rule.Remote.Addr().Is6() == rule.V6, field, "%s is not of the rule's family", rule.Remote)
		}
		p.want(rule.PortMin <= rule.PortMax, field, "the ports end before they begin")
		p.want(!rule.HasPorts() || slices.Contains(portProtocols, rule.Protocol), field, "protocol %d has no ports", rule.Protocol)
		p.want(rule.ICMPType < 0 || rule.Protocol == icmpOf(rule.V6), field, "only ICMP has types")
		p.want(rule.ICMPCode < 0 || rule.ICMPType >= 0, field, "a code without a type")
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// portProtocols are those whose ports a switch can match. UDP-Lite and DCCP have ports that Open vSwitch does not read.
var portProtocols = []int{6, 17, 132}

func icmpOf(v6 bool) int {
	if v6 {
		return 58
	}
	return 1
}

func (p *parser) addressSet(m *api.AddressSet) *AddressSet {
	out := &AddressSet{ID: p.id("id", m.GetId()), Set: p.maybeID("set", m.GetSet())}
	if out.Set == "" {
		out.Set = out.ID
	}
	p.want(len(m.GetAddresses()) <= 1024, "addresses", "%d in one part; 1,024 at most: make another part of the set", len(m.GetAddresses()))
	for _, s := range m.GetAddresses() {
		out.Prefixes = append(out.Prefixes, p.prefix("addresses", s))
	}
	slices.SortFunc(out.Prefixes, netip.Prefix.Compare)
	out.Prefixes = slices.Compact(out.Prefixes)
	return out
}

func (p *parser) snatAddress(m *api.SnatAddress) *SnatAddress {
	out := &SnatAddress{
		ID: p.id("id", m.GetId()), Network: p.id("network", m.GetNetwork()), Router: p.maybeID("router", m.GetRouter()),
		Host: p.id("host", m.GetHost()), Address: p.addr("address", m.GetAddress()), MAC: p.mac("mac", m.GetMac()),
		FirstPort: uint16(p.number("first_port", m.GetFirstPort(), 0, math.MaxUint16)), Ports: int(m.GetPorts()), //nolint:gosec // checked
		Owner: p.maybeID("owner", m.GetOwner()), Lease: m.GetLease(),
	}
	if n := m.GetPorts(); n == 0 {
		out.Ports = 1 << 16
	} else {
		p.want(n >= 64 && n <= 1<<15 && n&(n-1) == 0, "ports", "%d is not a power of two in [64, 32768]", n)
		p.want(n == 0 || m.GetFirstPort()%n == 0, "first_port", "%d is not a multiple of %d", m.GetFirstPort(), n)
	}
	p.want(out.Address.Is4() || !out.Address.IsValid(), "address", "%s: only IPv4 is translated", out.Address)
	if out.Owner == "" {
		out.Owner = out.Host
	}
	return out
}

func (p *parser) neighbor(m *api.Neighbor) *Neighbor {
	return &Neighbor{
		ID: p.id("id", m.GetId()), Network: p.id("network", m.GetNetwork()), Address: p.addr("address", m.GetAddress()), MAC: p.mac("mac", m.GetMac()),
		Port: p.maybeID("port", m.GetPort()), Host: p.maybeID("host", m.GetHost()), Epoch: m.GetEpoch(), Lease: m.GetLease(),
	}
}
