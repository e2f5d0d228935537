package hosts

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Segment is a network of the physical network outside, with its gateways' addresses.
type Segment struct {
	VLAN     uint16 // 0: untagged
	Gateways []netip.Prefix
}

// Segments are an untagged segment and one with VLAN 100, each with an IPv4 and an IPv6 subnet from the ranges for documentation.
func Segments() []Segment {
	return []Segment{
		{Gateways: []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")}},
		{VLAN: 100, Gateways: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:198::1/64")}},
	}
}

// Far is the addresses of a machine behind the gateways: what a route to anywhere leads to.
func Far() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8:fff::80")}
}

// Outside is the physical network at a site: a switch to which each host's br-ex is wired, the gateways of its
// segments, and beyond them the far addresses. Packets are tagged by its Open vSwitch, which needs nothing of the kernel for that.
type Outside struct {
	*Node
	Switch
	Segments []Segment

	site int
}

// outsideBridge is the physical switch; its ports to hosts are trunks and bear the hosts' names.
const outsideBridge = "br-out"

func (b *Bed) newOutside(site int) (*Outside, error) {
	node, err := b.newNode(fmt.Sprintf("out%d", site), map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
	if err != nil {
		return nil, err
	}
	o := &Outside{Node: node, Segments: slices.Clone(b.cfg.Outside), site: site}
	o.Switch, err = b.newSwitch(node)
	return o, err
}

func (o *Outside) start() error {
	b := o.bed
	if err := o.boot(nil); err != nil {
		return err
	}
	args := []string{"add-br", outsideBridge, "--", "set", "Bridge", outsideBridge, "datapath_type=netdev", "fail_mode=standalone", hwaddr(o.Name)}
	var commands []string
	for _, h := range b.hosts {
		if h.Site != o.site {
			continue
		}
		if err := wholeChecksums(o.Node, h.Name); err != nil {
			return err
		}
		commands = append(commands, fmt.Sprintf("link set %s up", h.Name))
		args = append(args, "--", "add-port", outsideBridge, h.Name)
	}
	for _, s := range o.Segments {
		device := s.Device()
		args = append(args, "--", "add-port", outsideBridge, device)
		if s.VLAN != 0 {
			args = append(args, fmt.Sprintf("tag=%d", s.VLAN))
		}
		args = append(args, "--", "set", "Interface", device, "type=internal", fmt.Sprintf("mac=%q", MACOf(o.Name+device)))
		for _, gateway := range s.Gateways {
			commands = append(commands, fmt.Sprintf("addr add %s dev %s%s", gateway, device, nodad(gateway.Addr())))
		}
		commands = append(commands, "link set "+device+" up")
	}
	for _, far := range Far() {
		commands = append(commands, fmt.Sprintf("addr add %s dev lo", netip.PrefixFrom(far, far.BitLen())))
	}
	if _, err := o.vsctl(b.ctx, args...); err != nil {
		return err
	}
	if err := o.ip(commands...); err != nil {
		return err
	}
	for _, s := range o.Segments {
		if err := wholeChecksums(o.Node, s.Device()); err != nil {
			return err
		}
	}
	return nil
}

// Behind is the host by whose link the physical switch last heard an Ethernet address, or "".
func (o *Outside) Behind(mac string) string {
	o.bed.t.Helper()
	ports := map[string]string{}
	for _, h := range o.bed.hosts {
		if h.Site == o.site {
			ports[strconv.Itoa(o.OFPort(h.Name))] = h.Name
		}
	}
	for line := range strings.Lines(o.Appctl("fdb/show", outsideBridge)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == mac {
			return ports[f[0]]
		}
	}
	return ""
}

// Device is the interface in Outside that has the segment's gateways.
func (s Segment) Device() string { return fmt.Sprintf("gw%d", s.VLAN) }

// nodad spares an address the second that detecting duplicates takes.
func nodad(a netip.Addr) string {
	if a.Is6() {
		return " nodad"
	}
	return ""
}
