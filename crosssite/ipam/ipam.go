// Package ipam hands out the addresses and MACs of the networks that Top made:
// each at most once, whatever runs at the same time, because the database
// itself forbids the second. Nothing here knows a port; an owner is an id.
//
// A subnet's pools are kept as ranges that are free. The next free address is
// the first of the lowest range and costs the same in a subnet of ten addresses
// and of ten million; an address that comes back is merged with its neighbours.
//
// Each site needs a few addresses of a subnet for itself (its DHCP servers
// ...): a slice at the end of the pools, which Top gives to nobody.
package ipam

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// DefaultBaseMAC is Neutron's base_mac: the first three octets are kept, the others are drawn.
const DefaultBaseMAC = "fa:16:3e:00:00:00"

// DefaultSlice is the number of addresses that are kept for a site's own use in
// a subnet: two DHCP agents and four more (crosssite/README.md: Slices).
const DefaultSlice = 6

// Config is what a Store is made of.
type Config struct {
	DB *dbschema.DB
	// BaseMAC is the start of every drawn MAC: its first three octets, or four when the fourth is not 0,
	// as Neutron's base_mac. Default DefaultBaseMAC. Its lowest bit of the first octet must be 0 (unicast).
	BaseMAC string
	// Random is where MACs are drawn from; nil is crypto/rand.
	Random io.Reader
}

// Store allocates and releases.
type Store struct {
	db     *dbschema.DB
	base   MAC
	fixed  int // octets of base that are kept
	random io.Reader
}

// New returns a Store.
func New(cfg Config) (*Store, error) {
	if cfg.BaseMAC == "" {
		cfg.BaseMAC = DefaultBaseMAC
	}
	base, err := ParseMAC(cfg.BaseMAC)
	if err != nil {
		return nil, fmt.Errorf("base MAC: %w", err)
	}
	if base[0]&1 != 0 {
		return nil, fmt.Errorf("base MAC %s is a multicast address", base)
	}
	s := &Store{db: cfg.DB, base: base, fixed: 3, random: cfg.Random}
	if base[3] != 0 {
		s.fixed = 4
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	return s, nil
}

// draw returns a random MAC above the base.
func (s *Store) draw() (MAC, error) {
	m := s.base
	if _, err := io.ReadFull(s.random, m[s.fixed:]); err != nil {
		return m, fmt.Errorf("draw a MAC: %w", err)
	}
	return m, nil
}

// Allocation is one address that an owner has.
type Allocation struct {
	Subnet  ident.TopID
	Address netip.Addr
}
