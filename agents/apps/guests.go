package apps

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/state"
)

// guest is who asks for metadata: an address behind a port. Tenants choose the same addresses; within the agent each guest has
// another one, by which it is known.
type guest struct {
	port uint32     // key
	addr netip.Addr // its own
}

// guests give each guest a number, and remember how to reach it.
type guests struct {
	most, each int // in all, and of one port

	mu      sync.Mutex // guards the fields below
	numbers map[guest]uint32
	known   []contact           // by number less one
	ports   map[uint32][]uint32 // numbers by port
}

// contact is the way back to a guest.
type contact struct {
	guest
	mac, asked state.MAC // its address, and the one that it asked
	seen       time.Time
}

func newGuests(most, each int) *guests {
	return &guests{most: most, each: each, numbers: map[guest]uint32{}, ports: map[uint32][]uint32{}}
}

// guestIdle is how long a guest that says nothing keeps its number, where another needs it. It is longer than any connection here may last.
const guestIdle = 5 * time.Minute

// enter is the number of a guest, in [1, most]; 0: there are too many, in all or behind its port.
func (g *guests) enter(c contact) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.numbers[c.guest]
	if n == 0 {
		if n = g.free(c); n == 0 {
			return 0
		}
		g.numbers[c.guest] = n
		g.ports[c.port] = append(g.ports[c.port], n)
	}
	g.known[n-1] = c
	return n
}

func (g *guests) free(c contact) uint32 {
	if own := g.ports[c.port]; len(own) >= g.each {
		for _, n := range own {
			if g.idle(n, c.seen) {
				return n
			}
		}
		return 0
	}
	if len(g.known) < g.most {
		g.known = append(g.known, contact{})
		return uint32(len(g.known)) //nolint:gosec // at most g.most
	}
	for i := range g.known {
		if n := uint32(i + 1); g.idle(n, c.seen) { //nolint:gosec // at most g.most
			return n
		}
	}
	return 0
}

// idle says whether a number is one that its guest has no use for any more. It is nobody's then.
func (g *guests) idle(n uint32, now time.Time) bool {
	old := g.known[n-1]
	if now.Sub(old.seen) <= guestIdle {
		return false
	}
	delete(g.numbers, old.guest)
	own := slices.DeleteFunc(g.ports[old.port], func(x uint32) bool { return x == n })
	if g.ports[old.port] = own; len(own) == 0 {
		delete(g.ports, old.port)
	}
	return true
}

// find is the guest of a number.
func (g *guests) find(n uint32) (contact, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n < 1 || int(n) > len(g.known) {
		return contact{}, false
	}
	return g.known[n-1], true
}

// insideAddress is a guest's address within the agent, of the family of its own: 10.0.0.0 or fd00:: and its number.
func insideAddress(n uint32, four bool) netip.Addr {
	if four {
		return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

// guestNumber is the number in such an address; 0: it is none.
func guestNumber(a netip.Addr) uint32 {
	a = a.Unmap()
	b := a.AsSlice()
	if len(b) < 4 {
		return 0
	}
	n := binary.BigEndian.Uint32(b[len(b)-4:]) & 0xffffff
	if insideAddress(n, a.Is4()) != a {
		return 0
	}
	return n
}

// readdress puts another address into an IP packet with TCP, as the source or the destination, and corrects the checksums (RFC 1624). It
// returns false for what is no such packet.
func readdress(ip []byte, destination bool, a netip.Addr) bool {
	var at, size, tcp int
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4 && a.Is4():
		at, size, tcp = 12, 4, int(ip[0]&15)*4
		if ip[9] != byte(layers.IPProtocolTCP) || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return false
		}
	case len(ip) >= 40 && ip[0]>>4 == 6 && a.Is6():
		at, size, tcp = 8, 16, 40
		if ip[6] != byte(layers.IPProtocolTCP) {
			return false
		}
	default:
		return false
	}
	if len(ip) < tcp+20 || tcp < 20 {
		return false
	}
	if destination {
		at += size
	}
	place, now := ip[at:at+size], a.AsSlice()
	if size == 4 {
		correct(ip[10:], place, now)
	}
	correct(ip[tcp+16:], place, now)
	copy(place, now)
	return true
}

// correct makes a checksum right after the words of was have become those of now.
func correct(sum, was, now []byte) {
	n := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(was); i += 2 {
		n += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(now[i:]))
	}
	binary.BigEndian.PutUint16(sum, ^fold(n))
}
