package network

import (
	"errors"
	"net/netip"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// subnet is a subnet's row with its decoded spec.
type subnet struct {
	row  *index.Resource
	spec SubnetSpec
}

func (s *Service) subnets(tx *cascade.Tx, network ident.TopID) ([]subnet, error) {
	rows, err := s.living(tx, network, sites.Subnet)
	if err != nil {
		return nil, err
	}
	out := make([]subnet, len(rows))
	for i, r := range rows {
		spec, err := SpecOf[SubnetSpec](r)
		if err != nil {
			return nil, err
		}
		out[i] = subnet{r, spec}
	}
	return out, nil
}

// allocate gives a new port its MAC and its addresses: those that it names or, as
// Neutron does, one of IPv4 and one of IPv6 where the network has them, and its own in every automatic subnet.
func (s *Service) allocate(tx *cascade.Tx, port ident.TopID, network *index.Resource, spec *PortSpec) error {
	if err := s.giveMAC(tx, port, network.ID, spec); err != nil {
		return err
	}
	all, err := s.subnets(tx, network.ID)
	if err != nil {
		return err
	}
	asked, named := spec.FixedIPs, spec.FixedIPs != nil
	spec.FixedIPs = []FixedIP{}
	if named {
		err = s.giveNamed(tx, port, network.ID, all, asked, spec)
	} else {
		err = s.giveAny(tx, port, network.ID, all, spec)
	}
	if err != nil || isRouterPort(spec.DeviceOwner) {
		return err
	}
	return s.giveAuto(tx, port, all, spec)
}

func (s *Service) giveMAC(tx *cascade.Tx, port, network ident.TopID, spec *PortSpec) error {
	if spec.MAC == "" {
		mac, err := s.ipam.AnyMAC(tx.Tx, network, port)
		if errors.Is(err, ipam.ErrExhausted) {
			return typed(fault.Unavailable, "MacAddressGenerationFailure", "Unable to generate unique mac on network %s.", network)
		}
		spec.MAC = mac.String()
		return err
	}
	mac, err := ipam.ParseMAC(spec.MAC)
	if err != nil {
		return badRequest("Invalid input for mac_address. Reason: '%s' is not a valid MAC address.", spec.MAC)
	}
	spec.MAC = mac.String()
	err = s.ipam.TakeMAC(tx.Tx, network, mac, port)
	if errors.Is(err, ipam.ErrTaken) {
		return conflict("MacAddressInUse", "Unable to complete operation for network %s. The mac address %s is in use.", network, mac)
	}
	return err
}

// giveNamed gives what fixed_ips asks for: an address, any address of a subnet, or both.
func (s *Service) giveNamed(tx *cascade.Tx, port, network ident.TopID, all []subnet, asked []FixedIP, spec *PortSpec) error {
	for _, want := range asked {
		n, err := choose(all, want, network)
		if err != nil {
			return err
		}
		ip := ""
		switch {
		case n.spec.Auto() && !isRouterPort(spec.DeviceOwner):
			if want.IP != "" {
				return badRequest("IPv6 address %s can not be directly assigned to a port on subnet %s as the subnet is configured for automatic addresses.", want.IP, n.row.ID)
			}
			continue // giveAuto brings it
		case want.IP == "":
			ip, err = s.giveFrom(tx, port, network, n.row.ID)
		default:
			ip, err = s.giveOne(tx, port, n, want.IP)
		}
		if err != nil {
			return err
		}
		spec.FixedIPs = append(spec.FixedIPs, FixedIP{Subnet: n.row.ID, IP: ip})
	}
	return nil
}

// choose finds the subnet that an entry of fixed_ips means.
func choose(all []subnet, want FixedIP, network ident.TopID) (*subnet, error) {
	addr, err := netip.ParseAddr(want.IP)
	if want.IP != "" && err != nil {
		return nil, badRequest("Invalid input for fixed_ips. Reason: '%s' is not a valid IP address.", want.IP)
	}
	for i := range all {
		n := &all[i]
		switch {
		case want.Subnet != "" && want.Subnet != n.row.ID:
		case want.Subnet != "" && want.IP != "" && !n.spec.Prefix().Contains(addr):
			return nil, typed(fault.BadRequest, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", want.IP)
		case want.Subnet != "" || want.IP != "" && n.spec.Prefix().Contains(addr):
			return n, nil
		}
	}
	switch {
	case want.Subnet != "":
		return nil, invalid("Failed to create port on network %s, because fixed_ips included invalid subnet %s", network, want.Subnet)
	case want.IP != "":
		return nil, typed(fault.BadRequest, "InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", want.IP)
	default:
		return nil, invalid("IP allocation requires subnet_id or ip_address")
	}
}

func (s *Service) giveOne(tx *cascade.Tx, port ident.TopID, n *subnet, ip string) (string, error) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "", badRequest("Invalid input for fixed_ips. Reason: '%s' is not a valid IP address.", ip)
	}
	if first, last := ipam.Ends(n.spec.Prefix()); addr.Is4() && n.spec.Prefix().Bits() < 31 && (addr == first || addr == last) {
		return "", typed(fault.BadRequest, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", ip)
	}
	switch err := s.ipam.Take(tx.Tx, n.row.ID, addr, port); {
	case errors.Is(err, ipam.ErrTaken):
		return "", conflict("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", addr, n.row.ID)
	case errors.Is(err, ipam.ErrReserved):
		return "", conflict("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s: it is reserved for the infrastructure of the sites", addr, n.row.ID)
	case errors.Is(err, ipam.ErrOutside):
		return "", typed(fault.BadRequest, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", ip)
	default:
		return addr.String(), err
	}
}

func (s *Service) giveFrom(tx *cascade.Tx, port, network ident.TopID, among ...ident.TopID) (string, error) {
	for _, id := range among {
		addr, err := s.ipam.Any(tx.Tx, id, port)
		if err == nil {
			return addr.String(), nil
		}
		if !errors.Is(err, ipam.ErrExhausted) {
			return "", err
		}
	}
	return "", conflict("IpAddressGenerationFailure", "No more IP addresses available on network %s.", network)
}

func (s *Service) giveAny(tx *cascade.Tx, port, network ident.TopID, all []subnet, spec *PortSpec) error {
	for _, version := range []int{4, 6} {
		var among []ident.TopID
		for _, n := range all {
			if n.spec.IPVersion == version && !n.spec.Auto() {
				among = append(among, n.row.ID)
			}
		}
		if len(among) == 0 {
			continue
		}
		ip, err := s.giveFrom(tx, port, network, among...)
		if err != nil {
			return err
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.spec.Prefix().Contains(addr) {
				spec.FixedIPs = append(spec.FixedIPs, FixedIP{Subnet: n.row.ID, IP: ip})
			}
		}
	}
	return nil
}

func (s *Service) giveAuto(tx *cascade.Tx, port ident.TopID, all []subnet, spec *PortSpec) error {
	for i := range all {
		n := &all[i]
		if !n.spec.Auto() {
			continue
		}
		ip, err := s.autoAddress(tx, port, n.row.ID, &n.spec, spec.MAC)
		if err != nil {
			return err
		}
		spec.FixedIPs = append(spec.FixedIPs, FixedIP{Subnet: n.row.ID, IP: ip})
	}
	return nil
}

// autoAddress records the address that a host with the MAC gives itself.
func (s *Service) autoAddress(tx *cascade.Tx, port, subnet ident.TopID, spec *SubnetSpec, text string) (string, error) {
	mac, err := ipam.ParseMAC(text)
	if err != nil {
		return "", err
	}
	addr, err := ipam.EUI64(spec.Prefix(), mac)
	if err != nil {
		return "", err
	}
	if err := s.ipam.Take(tx.Tx, subnet, addr, port); errors.Is(err, ipam.ErrTaken) {
		return "", conflict("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", addr, subnet)
	} else if err != nil {
		return "", err
	}
	return addr.String(), nil
}

// reallocate gives a port the addresses that it lacks. Those that it loses stay
// its own until no site has them: at once when it is at none, else when the change was pushed (settleAddresses).
func (s *Service) reallocate(tx *cascade.Tx, r *index.Resource, spec *PortSpec, before []FixedIP) error {
	all, err := s.subnets(tx, r.ParentID)
	if err != nil {
		return err
	}
	asked := spec.FixedIPs
	spec.FixedIPs = []FixedIP{}
	var missing []FixedIP
	for _, want := range asked {
		if had, ok := held(before, want); ok {
			spec.FixedIPs = append(spec.FixedIPs, had)
		} else {
			missing = append(missing, want)
		}
	}
	if err := s.giveNamed(tx, r.ID, r.ParentID, all, missing, spec); err != nil {
		return err
	}
	if !isRouterPort(spec.DeviceOwner) { // its own addresses cannot be taken from a host
		for _, had := range before {
			for i := range all {
				if all[i].row.ID == had.Subnet && all[i].spec.Auto() {
					if _, ok := held(spec.FixedIPs, had); !ok {
						spec.FixedIPs = append(spec.FixedIPs, had)
					}
				}
			}
		}
	}
	bound, err := s.core.Bindings.OfTopIn(tx.Tx, r.ID)
	if err != nil || len(bound) > 0 {
		return err
	}
	return s.releaseOthers(tx, r.ID, spec)
}

// held finds the address that an entry of fixed_ips means among those that a port has.
func held(have []FixedIP, want FixedIP) (FixedIP, bool) {
	for _, h := range have {
		if (want.Subnet == "" || want.Subnet == h.Subnet) && (want.IP == "" || sameIP(want.IP, h.IP)) {
			return h, true
		}
	}
	return FixedIP{}, false
}

func sameIP(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x == y
}

// releaseOthers gives back what the port has in the address store and not in its spec.
func (s *Service) releaseOthers(tx *cascade.Tx, port ident.TopID, spec *PortSpec) error {
	all, err := s.ipam.Of(tx.Tx, port)
	if err != nil {
		return err
	}
	for _, a := range all {
		if _, ok := held(spec.FixedIPs, FixedIP{Subnet: a.Subnet, IP: a.Address.String()}); ok {
			continue
		}
		if err := s.ipam.ReleaseAddress(tx.Tx, a.Subnet, a.Address, port); err != nil {
			return err
		}
	}
	return nil
}
