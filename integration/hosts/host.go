package hosts

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Host is an emulated hypervisor host.
type Host struct {
	*Node
	Switch
	Site       int        // counted from 1
	UnderlayIP netip.Addr // where tunnels to this host end
	UnderlayV6 netip.Addr // and with Config.UnderlayV6 here too

	dummies int
}

func (b *Bed) newHost(site, n int) (*Host, error) {
	node, err := b.newNode(fmt.Sprintf("s%dh%d", site, n), noIPv6())
	if err != nil {
		return nil, err
	}
	// Open vSwitch reads its devices from sockets: their buffers stand for the rings of a network card, of 4,096 small packets. A kernel before 6.9 has
	// one size for all namespaces, and is left as it is.
	_ = node.set(map[string]string{"core/rmem_default": fmt.Sprint(4 << 20)})
	h := &Host{Node: node, Site: site, UnderlayIP: underlay(site, 10+n)}
	if b.cfg.UnderlayV6 {
		h.UnderlayV6 = underlayV6(site, 10+n)
	}
	h.Switch, err = b.newSwitch(node)
	return h, err
}

// start makes the bridges. br-phy owns the device that leads to the underlay and, on its local port, the tunnels'
// endpoint address: the user-space datapath sends a tunnel's packets only through a bridge of its own whose local port has the route.
func (h *Host) start() error {
	b := h.bed
	if err := wholeChecksums(h.Node, "ul0"); err != nil {
		return err
	}
	if err := h.boot(map[string]string{"system-id": h.Name, "hostname": h.Name, "site": b.sites[h.Site-1].Name}); err != nil {
		return err
	}
	args := []string{"add-br", Underlay, "--", "set", "Bridge", Underlay, "datapath_type=netdev", "fail_mode=standalone",
		hwaddr(h.Name + Underlay), "--", "add-port", Underlay, "ul0",
		"--", "add-br", Integration, "--", "set", "Bridge", Integration, "datapath_type=netdev", "fail_mode=secure",
		"protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15", "other_config:disable-in-band=true", hwaddr(h.Name + Integration)}
	if len(b.cfg.Outside) > 0 {
		if err := wholeChecksums(h.Node, "ex0"); err != nil {
			return err
		}
		args = append(args, "--", "add-br", Provider, "--", "set", "Bridge", Provider, "datapath_type=netdev", "fail_mode=standalone",
			"protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15", hwaddr(h.Name+Provider), "--", "add-port", Provider, "ex0")
	}
	if _, err := h.vsctl(b.ctx, args...); err != nil {
		return err
	}
	commands := []string{fmt.Sprintf("addr add %s/24 dev %s", h.UnderlayIP, Underlay),
		fmt.Sprintf("link set %s mtu %d up", Underlay, b.cfg.UnderlayMTU)}
	if len(b.sites) > 1 {
		commands = append(commands, "route add default via "+underlay(h.Site, 1).String())
	}
	if h.UnderlayV6.IsValid() { // a host's other devices go on without IPv6: they would speak to its VMs
		if err := h.set(map[string]string{"ipv6/conf/" + Underlay + "/disable_ipv6": "0"}); err != nil {
			return err
		}
		commands = append(commands, fmt.Sprintf("addr add %s/64 dev %s nodad", h.UnderlayV6, Underlay))
	}
	if err := h.ip(commands...); err != nil {
		return err
	}
	return wholeChecksums(h.Node, Underlay)
}

// AddVXLAN gives br-int a VXLAN port whose flows say where to and with which key, and returns its OpenFlow
// port number.
func (h *Host) AddVXLAN(name string) int {
	h.bed.t.Helper()
	h.Vsctl("add-port", Integration, name, "--", "set", "Interface", name, "type=vxlan", "options:local_ip="+h.UnderlayIP.String(),
		"options:remote_ip=flow", "options:key=flow")
	return h.OFPort(name)
}

// dummiesEach bounds how many ports one ovs-vsctl makes, for the length of its command line.
const dummiesEach = 2000

// DummyPorts gives br-int n ports without devices behind them, which cost the switch no polling, and returns their
// interfaces' names. They have no iface-id yet: Bind gives them theirs.
func (h *Host) DummyPorts(n int) []string {
	h.bed.t.Helper()
	var names []string
	for range n {
		h.dummies++
		names = append(names, "dm"+strconv.Itoa(h.dummies))
	}
	h.inBulk(nil, len(names), func(i int) []string {
		return []string{"--", "add-port", Integration, names[i], "--", "set", "Interface", names[i], "type=dummy"}
	})
	return names
}

// Bind gives interfaces their iface-ids, as plugging does, and returns once that is written, not when it is done.
func (h *Host) Bind(interfaces, ifaceIDs []string) {
	h.bed.t.Helper()
	h.inBulk([]string{"--no-wait"}, len(interfaces), func(i int) []string {
		return []string{"--", "set", "Interface", interfaces[i], "external_ids:iface-id=" + ifaceIDs[i]}
	})
}

// RemovePorts takes ports from br-int.
func (h *Host) RemovePorts(names []string) {
	h.bed.t.Helper()
	h.inBulk(nil, len(names), func(i int) []string { return []string{"--", "del-port", Integration, names[i]} })
}

// inBulk runs n commands of ovs-vsctl in as few transactions as fit a command line.
func (h *Host) inBulk(options []string, n int, command func(int) []string) {
	h.bed.t.Helper()
	for first := 0; first < n; first += dummiesEach {
		args := options
		for i := first; i < min(n, first+dummiesEach); i++ {
			args = append(args, command(i)...)
		}
		h.Vsctl(args...)
	}
}

// MACOf is a locally administered address that belongs to a name.
func MACOf(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return append(net.HardwareAddr{2}, sum[:5]...)
}

func hwaddr(name string) string { return fmt.Sprintf("other_config:hwaddr=%q", MACOf(name)) }

// wholeChecksums turns offloads of a device off: Open vSwitch reads and writes it as raw packets, where a checksum or
// a segmentation left to the hardware would stay undone; ping would work then and TCP would not.
func wholeChecksums(n *Node, device string) error {
	_, err := n.Exec(n.bed.ctx, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
	return err
}
