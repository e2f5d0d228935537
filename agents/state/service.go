package state

import "net/netip"

// ServiceMAC is the Ethernet address of what a host's agent offers to its guests where no router's interface stands for it: DHCP and metadata. It is
// administered locally, and the same on every network and host, so that a guest that migrates finds it again. Its last bytes are those of MetadataIPv4.
const ServiceMAC MAC = 0x0200a9fea9fe

// MetadataIPv4 is where guests ask for their metadata. It is also the address of the agent's DHCP server on subnets without a gateway.
func MetadataIPv4() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 169, 254}) }

// MetadataIPv6 is where guests ask for their metadata over IPv6.
func MetadataIPv6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 12: 0xa9, 13: 0xfe, 14: 0xa9, 15: 0xfe})
}
