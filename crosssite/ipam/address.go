package ipam

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strings"
)

// Range is the addresses from First to Last, both included, of one family.
type Range struct {
	First, Last netip.Addr
}

// Contains reports whether the address is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.First.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// Overlaps reports whether the ranges share an address.
func (r Range) Overlaps(o Range) bool { return r.Contains(o.First) || o.Contains(r.First) }

// Count is the exact number of addresses of the ranges.
func Count(ranges ...Range) *big.Int {
	sum := new(big.Int)
	for _, r := range ranges {
		first, last := r.First.As16(), r.Last.As16()
		n := new(big.Int).Sub(new(big.Int).SetBytes(last[:]), new(big.Int).SetBytes(first[:]))
		sum.Add(sum, n.Add(n, big.NewInt(1)))
	}
	return sum
}

// size is the number of addresses, cut off at the greatest 32-bit int.
func (r Range) size() int {
	if n := Count(r); n.IsInt64() && n.Int64() < math.MaxInt32 {
		return int(n.Int64())
	}
	return math.MaxInt32
}

// String returns "first-last".
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Ends returns the first and the last address of a prefix.
func Ends(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr()
	b := first.AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ = netip.AddrFromSlice(b)
	return first, last
}

// Pools returns the allocation pools of a subnet for which none were named, as
// Neutron computes them (neutron/ipam/utils.py, generate_pools): everything but
// the gateway, IPv4's network and broadcast address, and IPv6's first address. The gateway may be the zero Addr.
func Pools(cidr netip.Prefix, gateway netip.Addr) []Range {
	first, last := Ends(cidr)
	switch {
	case first == last:
		return []Range{{first, last}}
	case first.Is4() && cidr.Bits() <= 30:
		first, last = first.Next(), last.Prev()
	case first.Is6():
		first = first.Next()
	}
	return Without([]Range{{first, last}}, gateway)
}

// Without returns the ranges with some addresses taken out.
func Without(ranges []Range, out ...netip.Addr) []Range {
	for _, a := range out {
		if !a.IsValid() {
			continue
		}
		var kept []Range
		for _, r := range ranges {
			kept = append(kept, r.without(Range{a, a})...)
		}
		ranges = kept
	}
	return ranges
}

// without returns what is left of r when o goes.
func (r Range) without(o Range) []Range {
	if !r.Overlaps(o) {
		return []Range{r}
	}
	var left []Range
	if r.First.Less(o.First) {
		left = append(left, Range{r.First, o.First.Prev()})
	}
	if o.Last.Less(r.Last) {
		left = append(left, Range{o.Last.Next(), r.Last})
	}
	return left
}

// tail splits the last n addresses off the range; n must be in [1, size].
func (r Range) tail(n int) Range {
	return Range{back(r.Last, uint64(n-1)), r.Last}
}

// back returns the address n before a.
func back(a netip.Addr, n uint64) netip.Addr {
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if n > lo {
		hi--
	}
	lo -= n
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	out := netip.AddrFrom16(b)
	if a.Is4() {
		return out.Unmap()
	}
	return out
}

// EUI64 returns the address that a host with the MAC gives itself in a prefix
// (SLAAC, RFC 4291 appendix A). The prefix must be of IPv6 and at most 64 bits long.
func EUI64(prefix netip.Prefix, mac MAC) (netip.Addr, error) {
	if !prefix.Addr().Is6() || prefix.Bits() > 64 {
		return netip.Addr{}, fmt.Errorf("EUI-64 in %s: the prefix must be of IPv6 and at most 64 bits long", prefix)
	}
	b := prefix.Masked().Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b), nil
}

// key is how an address is stored.
func key(a netip.Addr) string {
	b := a.As16()
	return hex.EncodeToString(b[:])
}

func fromKey(text string) (netip.Addr, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 16 {
		return netip.Addr{}, fmt.Errorf("stored address %q is not 32 hexadecimal digits", text)
	}
	return netip.AddrFrom16([16]byte(b)).Unmap(), nil
}

func encodeRanges(ranges []Range) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return strings.Join(texts, ",")
}

func decodeRanges(text string) ([]Range, error) {
	if text == "" {
		return nil, nil
	}
	var out []Range
	for part := range strings.SplitSeq(text, ",") {
		first, last, _ := strings.Cut(part, "-")
		a, err := netip.ParseAddr(first)
		if err != nil {
			return nil, fmt.Errorf("stored pool %q: %w", part, err)
		}
		b, err := netip.ParseAddr(last)
		if err != nil {
			return nil, fmt.Errorf("stored pool %q: %w", part, err)
		}
		out = append(out, Range{a, b})
	}
	return out, nil
}

// MAC is an Ethernet address.
type MAC [6]byte

// String returns the lower-case form with colons.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads six octets, separated by colons or hyphens.
func ParseMAC(text string) (MAC, error) {
	var m MAC
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '-' })
	if len(parts) != 6 {
		return m, fmt.Errorf("%q is not a valid MAC address", text)
	}
	for i, p := range parts {
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 1 {
			return m, fmt.Errorf("%q is not a valid MAC address", text)
		}
		m[i] = b[0]
	}
	return m, nil
}
