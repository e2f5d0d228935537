// Package state is a replica of the desired network state, as far as one host or one site holds it: the objects of agents/api, checked and
// with their addresses parsed, beside what the host itself knows (which ports are plugged, which bridges lead outside), with the indexes that
// compilers, packet services and traces need.
//
// An Object is never changed once it is made; a change is another object in its place. References may dangle: whoever follows one
// copes with nothing being there.
package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Kind is what an object is. Those of agents/api have its numbers; those of the host itself follow from Plug on.
type Kind uint8

// The kinds.
const (
	KindHost Kind = 1 + iota
	KindNetwork
	KindSubnet
	KindPort
	KindRouter
	KindFloatingIP
	KindSecurityGroup
	KindAddressSet
	KindSnatAddress
	KindNeighbor
	KindSecurityLog
	KindMirror

	KindPlug   Kind = 64 + iota // below: of this host, told by its own switch
	KindUplink                  // a bridge to a physical network
	KindTunnel                  // the switch's port for an encapsulation
	KindZone                    // connection tracking zones of a router or an external network
	KindTap                     // packets that are watched
	KindDown                    // another host that is known to be dead
)

// String is the kind in words, such as "security-group".
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// KindNamed is the kind that a word of String means.
func KindNamed(word string) (Kind, bool) {
	i := slices.Index(kindNames[:], word)
	return Kind(max(i, 0)), word != "" && i >= 0 //nolint:gosec // there are fewer than 256
}

var kindNames = [...]string{
	KindHost: "host", KindNetwork: "network", KindSubnet: "subnet", KindPort: "port", KindRouter: "router", KindFloatingIP: "floating-ip",
	KindSecurityGroup: "security-group", KindAddressSet: "address-set", KindSnatAddress: "snat-address", KindNeighbor: "neighbor",
	KindSecurityLog: "security-log", KindMirror: "mirror",
	KindPlug: "plug", KindUplink: "uplink", KindTunnel: "tunnel", KindZone: "zone", KindTap: "tap", KindDown: "down",
}

// Ref names an object.
type Ref struct {
	Kind Kind
	ID   string
}

// String is the kind and the id.
func (r Ref) String() string { return r.Kind.String() + " " + r.ID }

// MarshalText is String; "" of no reference.
func (r Ref) MarshalText() ([]byte, error) {
	if r == (Ref{}) {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what MarshalText has written.
func (r *Ref) UnmarshalText(text []byte) error {
	word, id, _ := strings.Cut(string(text), " ")
	kind, ok := KindNamed(word)
	if !ok && len(text) > 0 {
		return fmt.Errorf("kind %q: there is none", word)
	}
	*r = Ref{}
	if ok {
		*r = Ref{kind, id}
	}
	return nil
}

// Compare orders references so that what is referred to comes before what refers to it, as a rule, and else by id.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, other.Kind), cmp.Compare(r.ID, other.ID))
}

// Object is one of the pointers to structs of this package that have a Ref.
type Object interface{ Ref() Ref }

// MAC is an Ethernet address of 48 bits.
type MAC uint64

// ParseMAC reads the forms that net.ParseMAC reads, of 48 bits.
func ParseMAC(s string) (MAC, error) {
	raw, err := net.ParseMAC(s)
	if err != nil || len(raw) != 6 {
		return 0, fmt.Errorf("%q is not an Ethernet address; write it like fa:16:3e:00:00:01", s)
	}
	return MACOf(raw), nil
}

// MACOf is the address of 6 bytes.
func MACOf(raw []byte) MAC {
	return MAC(uint64(binary.BigEndian.Uint16(raw))<<32 | uint64(binary.BigEndian.Uint32(raw[2:])))
}

// Bytes are its 6 bytes.
func (m MAC) Bytes() net.HardwareAddr {
	return net.HardwareAddr{byte(m >> 40), byte(m >> 32), byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}

// String is the usual form, fa:16:3e:00:00:01.
func (m MAC) String() string { return m.Bytes().String() }

// LinkLocal is the IPv6 address that the address makes of itself (RFC 4291, appendix A).
func (m MAC) LinkLocal() netip.Addr { return m.EUI64(netip.MustParsePrefix("fe80::/64")) }

// EUI64 is the address that SLAAC makes of it in a prefix of 64 bits.
func (m MAC) EUI64(p netip.Prefix) netip.Addr {
	a, b := p.Addr().As16(), m.Bytes()
	copy(a[8:], []byte{b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]})
	return netip.AddrFrom16(a)
}

// MaxKey is the highest key: 21 bits.
const MaxKey = 1<<21 - 1
