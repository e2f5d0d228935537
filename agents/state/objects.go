package state

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/api"
)

// Host is a machine with an agent.
type Host struct {
	ID         string
	Key        uint32
	Site       string
	TunnelEnds []TunnelEnd
	Gateway    bool
}

// TunnelEnd is an address for tunnelled packets, for hosts that share its zone.
type TunnelEnd struct {
	Address netip.Addr
	Zone    string
	Encap   Encap
	Port    uint16 // UDP, never 0
}

// MAC is the host's own Ethernet address on physical networks: what many hosts would say with one address, each says with its own, so that the
// network's switches do not see an address move all the time. It is administered locally; its last 3 bytes are the host's key.
func (h *Host) MAC() MAC { return 0x0a4877<<24 | MAC(h.Key) }

// Encap is how tunnels wrap packets.
type Encap uint8

// The encapsulations.
const (
	VXLAN  Encap = 0
	Geneve Encap = 1
)

// String is "vxlan" or "geneve", as Open vSwitch calls the types of its ports.
func (e Encap) String() string {
	if e == Geneve {
		return "geneve"
	}
	return "vxlan"
}

// Reach is the tunnel end of other that a host sends to: the first that shares a zone, a family and an encapsulation with one of its own.
func (h *Host) Reach(other *Host) (TunnelEnd, bool) {
	_, its, ok := h.Way(other)
	return its, ok
}

// Way is the tunnel end that a host sends from to other, and the one of other's that it sends to.
func (h *Host) Way(other *Host) (mine, its TunnelEnd, ok bool) {
	for _, mine := range h.TunnelEnds {
		for _, its := range other.TunnelEnds {
			if mine.Zone == its.Zone && mine.Encap == its.Encap && mine.Address.Is4() == its.Address.Is4() {
				return mine, its, true
			}
		}
	}
	return TunnelEnd{}, TunnelEnd{}, false
}

// Source is the address that all tunnelled packets of the host come from; invalid where it has several for an encapsulation, or none.
func (h *Host) Source(e Encap) netip.Addr {
	var out netip.Addr
	for _, end := range h.TunnelEnds {
		switch {
		case end.Encap != e || end.Address == out:
		case out.IsValid():
			return netip.Addr{}
		default:
			out = end.Address
		}
	}
	return out
}

// SegmentKind is how a network's frames travel between hosts.
type SegmentKind uint8

// The kinds of segments.
const (
	Overlay SegmentKind = 0
	VLAN    SegmentKind = 1
	Flat    SegmentKind = 2
)

// String is the kind as the state file has it.
func (k SegmentKind) String() string { return api.Segment_Kind(k).String() }

// Network is a broadcast domain.
type Network struct {
	ID        string
	Key       uint32
	Project   string
	MTU       int // never 0
	Segment   SegmentKind
	Physical  string // of VLAN and Flat
	VLAN      uint16 // of VLAN
	External  bool
	Learn     bool
	DNSDomain string
}

// IPv6Mode is how addresses and options are found.
type IPv6Mode uint8

// The modes.
const (
	IPv6None      IPv6Mode = 0
	SLAAC         IPv6Mode = 1
	DHCPStateless IPv6Mode = 2
	DHCPStateful  IPv6Mode = 3
)

// String is the mode as the state file has it.
func (m IPv6Mode) String() string { return api.Subnet_IPv6Mode(m).String() }

// Subnet is a range of addresses of a network.
type Subnet struct {
	ID             string
	Network        string
	CIDR           netip.Prefix // masked
	Gateway        netip.Addr   // invalid: none
	DHCP           bool
	DNSServers     []netip.Addr
	HostRoutes     []Route
	RAMode         IPv6Mode
	AddressMode    IPv6Mode
	LeaseSeconds   uint32 // never 0
	MetadataByDHCP bool
}

// Route is a way to a destination.
type Route struct {
	Destination netip.Prefix // masked
	NextHop     netip.Addr
}

// Port is an interface in a network.
type Port struct {
	ID              string
	Key             uint32
	Network         string
	Project         string
	MAC             MAC
	FixedIPs        []FixedIP
	AllowedPairs    []AddressPair // with the port's own MAC filled in
	PortSecurity    bool
	SecurityGroups  []string // sorted
	Host            string
	NextHost        string
	BindingEpoch    uint64
	Down            bool
	Foreign         bool
	Parent          string
	ParentVLAN      uint16
	QoS             QoS
	DHCPOptions     []DHCPOption
	DNSName         string
	Device          string
	DisableMetadata bool
	Unplugged       bool // its host has said so
}

// FixedIP is an address of a port.
type FixedIP struct {
	Subnet  string
	Address netip.Addr
}

// AddressPair is what a port may send from besides its own.
type AddressPair struct {
	Prefix netip.Prefix // masked
	MAC    MAC
}

// QoS are limits; 0 is none.
type QoS struct {
	EgressKbps, EgressBurstKbit   uint64
	IngressKbps, IngressBurstKbit uint64
	EgressPPS, IngressPPS         uint64
	DSCP                          int // -1: left as it is
}

// DHCPOption is an option that the port's owner chose.
type DHCPOption struct {
	Code  uint16
	V6    bool
	Value string
}

// On says whether the port is to be plugged on a host, now or after its migration.
func (p *Port) On(host string) bool { return host != "" && (p.Host == host || p.NextHost == host) }

// Bound says whether the port is somewhere: on a host, or with others. One that is not keeps its addresses for others' allowed address pairs, as the port of a
// virtual IP does that load balancers share: an address of it is at who has announced it.
func (p *Port) Bound() bool { return p.Host != "" || p.NextHost != "" || p.Foreign }

// Router joins networks.
type Router struct {
	ID         string
	Key        uint32
	Project    string
	Interfaces []RouterInterface
	Routes     []StaticRoute
	Gateway    *Gateway // nil: none
	Down       bool
}

// RouterInterface is a router's port in a network.
type RouterInterface struct {
	Network   string
	MAC       MAC
	Addresses []netip.Prefix // not masked: the address, and the length of its prefix
}

// StaticRoute is a route of a router; without next hops, what goes there is dropped.
type StaticRoute struct {
	Destination netip.Prefix // masked
	NextHops    []netip.Addr // of the destination's family
}

// SnatMode is how a gateway hides addresses.
type SnatMode uint8

// The modes.
const (
	SnatNone    SnatMode = 0
	SnatGateway SnatMode = 1
	SnatHost    SnatMode = 2
	SnatBlocks  SnatMode = 3
)

// String is the mode as the state file has it.
func (m SnatMode) String() string { return api.SnatMode(m).String() }

// Gateway is a router's interface to an external network.
type Gateway struct {
	Network   string
	MAC       MAC
	Addresses []netip.Prefix // not masked
	NextHops  []netip.Addr
	Snat      SnatMode
	Hosts     []string
}

// SnatAddress is an address, or a block of its ports, that a host translates to.
type SnatAddress struct {
	ID        string
	Network   string
	Router    string
	Host      string
	Address   netip.Addr
	MAC       MAC
	FirstPort uint16
	Ports     int // 65536: all
	Owner     string
	Lease     string
}

// FloatingIP is an external address that stands for a port.
type FloatingIP struct {
	ID      string
	Network string
	Router  string
	Address netip.Addr
	MAC     MAC
	Port    string // "": of nobody
	FixedIP netip.Addr
}

// SecurityGroup is a list of what is allowed.
type SecurityGroup struct {
	ID        string
	Project   string
	Stateless bool
	Rules     []SecurityRule
}

// SecurityRule allows something.
type SecurityRule struct {
	ID               string
	Egress           bool
	V6               bool
	Protocol         int // -1: any
	PortMin, PortMax uint16
	ICMPType         int          // -1: any
	ICMPCode         int          // -1: any
	Remote           netip.Prefix // invalid: everybody, or RemoteSet
	RemoteSet        string
}

// HasPorts says whether the rule names ports.
func (r *SecurityRule) HasPorts() bool { return r.PortMin != 0 || r.PortMax != 0 }

// AddressSet is a part of a set of addresses.
type AddressSet struct {
	ID       string
	Set      string
	Prefixes []netip.Prefix // masked, sorted, none twice
}

// Neighbor says who has an address now.
type Neighbor struct {
	ID      string
	Network string
	Address netip.Addr
	MAC     MAC
	Port    string
	Host    string
	Epoch   uint64
	Lease   string
}

// Plug is a port that the host's switch has. Its id is the port's.
type Plug struct {
	ID     string
	OFPort uint32
	Zone   uint16 // of connection tracking, the port's own
}

// Uplink is the switch's port towards the bridge of a physical network. Its id is the physical network's name.
type Uplink struct {
	ID     string
	OFPort uint32
}

// Tunnel is the switch's port for an encapsulation at a UDP port. Its id is TunnelID.
type Tunnel struct {
	ID     string
	Encap  Encap
	Port   uint16
	OFPort uint32
}

// TunnelID is the id of the Tunnel that reaches an end.
func TunnelID(e Encap, port uint16) string { return e.String() + "/" + itoa(port) }

// Zone are the connection tracking zones of a router, or of an external network, on this host. Its id is the router's, or NetworkZone of the network's.
type Zone struct {
	ID   string
	Snat uint16 // of connections that begin inside; of a network: of those whose address several routers share
	Dnat uint16 // of floating IPs; unused of a network
}

// NetworkZone is the id of an external network's Zone.
func NetworkZone(network string) string { return "network:" + network }

// Down says that a host is known to be dead. Its id is the host's.
type Down struct {
	ID string
}

// Tap watches packets that a port of this host sends: copies of them go to the agent where they come in, where they leave a host and where
// they are dropped. What is zero is not asked.
type Tap struct {
	ID               string
	Slot             uint8 // marks them on their way, from 1
	Port             string
	Source, Dest     netip.Prefix
	Protocol         int // -1: any
	SrcPort, DstPort uint16
}

// Ref names the object.
func (h *Host) Ref() Ref { return Ref{KindHost, h.ID} }

// Ref names the object.
func (o *Network) Ref() Ref { return Ref{KindNetwork, o.ID} }

// Ref names the object.
func (o *Subnet) Ref() Ref { return Ref{KindSubnet, o.ID} }

// Ref names the object.
func (p *Port) Ref() Ref { return Ref{KindPort, p.ID} }

// Ref names the object.
func (o *Router) Ref() Ref { return Ref{KindRouter, o.ID} }

// Ref names the object.
func (o *FloatingIP) Ref() Ref { return Ref{KindFloatingIP, o.ID} }

// Ref names the object.
func (o *SecurityGroup) Ref() Ref { return Ref{KindSecurityGroup, o.ID} }

// Ref names the object.
func (o *AddressSet) Ref() Ref { return Ref{KindAddressSet, o.ID} }

// Ref names the object.
func (o *SnatAddress) Ref() Ref { return Ref{KindSnatAddress, o.ID} }

// Ref names the object.
func (o *Neighbor) Ref() Ref { return Ref{KindNeighbor, o.ID} }

// Ref names the object.
func (o *Plug) Ref() Ref { return Ref{KindPlug, o.ID} }

// Ref names the object.
func (o *Uplink) Ref() Ref { return Ref{KindUplink, o.ID} }

// Ref names the object.
func (o *Tunnel) Ref() Ref { return Ref{KindTunnel, o.ID} }

// Ref names the object.
func (o *Zone) Ref() Ref { return Ref{KindZone, o.ID} }

// Ref names the object.
func (o *Tap) Ref() Ref { return Ref{KindTap, o.ID} }

// Ref names the object.
func (o *Down) Ref() Ref { return Ref{KindDown, o.ID} }
