package hosts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// VMConfig is what a VM is made of; the zero value is a VM without an address.
type VMConfig struct {
	MAC       net.HardwareAddr // of eth0; MACOf the name when nil
	IPs       []netip.Prefix   // none: a DHCP client's task
	Gateways  []netip.Addr     // default routes
	IfaceID   string           // a random UUID when empty
	MTU       int              // 50 below the underlay's when 0, which is what VXLAN over IPv4 takes
	IPv6      bool             // eth0 speaks IPv6 though it has no such address yet: link-local, router advertisements
	OFPort    int              // the OpenFlow port number to ask for; the switch's choice when 0
	Unplugged bool             // Plug is the test's task
	Migrates  bool             // Migrate may be called; costs the VM a bridge between eth0 and the host
}

// VM is a namespace whose eth0 is plugged into a host's br-int.
type VM struct {
	*Node
	MAC     net.HardwareAddr
	IPs     []netip.Prefix
	IfaceID string
	Tap     string // the host's end of eth0, by the compute service's rule for its name

	cfg  VMConfig
	host *Host
	nics int // that it ever had
	nic  string
}

// VM makes a VM on a host and plugs it in.
func (b *Bed) VM(name string, h *Host, cfg VMConfig) *VM {
	b.t.Helper()
	vm, err := b.newVM(name, h, cfg)
	if err != nil {
		b.t.Fatalf("make VM %s: %v", name, err)
	}
	if !cfg.Unplugged {
		vm.Plug()
	}
	return vm
}

func (b *Bed) newVM(name string, h *Host, cfg VMConfig) (*VM, error) {
	if cfg.MAC == nil {
		cfg.MAC = MACOf(name)
	}
	if cfg.IfaceID == "" {
		cfg.IfaceID = ident.NewUUID()
	}
	if cfg.MTU == 0 {
		cfg.MTU = b.cfg.UnderlayMTU - 50
	}
	settings := noIPv6()
	if cfg.IPv6 || slices.ContainsFunc(cfg.IPs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		settings = nil
	}
	node, err := b.newNode(name, settings)
	if err != nil {
		return nil, err
	}
	vm := &VM{Node: node, MAC: cfg.MAC, IPs: slices.Clone(cfg.IPs), IfaceID: cfg.IfaceID, Tap: "tap" + cfg.IfaceID[:min(11, len(cfg.IfaceID))], cfg: cfg, host: h}
	b.mu.Lock()
	b.vms[name] = vm
	b.mu.Unlock()
	return vm, vm.make()
}

// make gives the VM its eth0 and what belongs to it.
func (vm *VM) make() error {
	var commands []string
	if vm.cfg.Migrates {
		commands = append(commands, fmt.Sprintf("link add eth0 address %s mtu %d type bridge forward_delay 0 stp_state 0 mcast_snooping 0", vm.MAC, vm.cfg.MTU))
	}
	if err := vm.ip(commands...); err != nil {
		return err
	}
	if _, err := vm.wire(vm.host); err != nil {
		return err
	}
	if vm.cfg.Migrates {
		if err := errors.Join(wholeChecksums(vm.Node, "eth0"), vm.ip(fmt.Sprintf("link set %s master eth0", vm.nic))); err != nil {
			return err
		}
	}
	commands = []string{"link set eth0 up"}
	for _, p := range vm.IPs {
		commands = append(commands, fmt.Sprintf("addr add %s dev eth0%s", p, nodad(p.Addr())))
	}
	for _, g := range vm.cfg.Gateways {
		commands = append(commands, fmt.Sprintf("route add default via %s dev eth0", g))
	}
	return vm.ip(commands...)
}

// wire makes a pair of devices, one the VM's and one a host's, and returns the VM's.
func (vm *VM) wire(h *Host) (string, error) {
	nic, address := "eth0", "address "+vm.MAC.String()
	if vm.cfg.Migrates {
		vm.nics++
		nic, address = fmt.Sprintf("nic%d", vm.nics), ""
	}
	if err := ipBatch("", fmt.Sprintf("link add %s %s mtu %d netns %s type veth peer name %s mtu %d netns %s",
		nic, address, vm.cfg.MTU, vm.ns, vm.Tap, vm.cfg.MTU, h.ns)); err != nil {
		return "", err
	}
	vm.nic = nic
	return nic, errors.Join(wholeChecksums(vm.Node, nic), h.ip("link set "+vm.Tap+" up"), vm.ip("link set "+nic+" up"))
}

// Host is where the VM is plugged in.
func (vm *VM) Host() *Host { return vm.host }

// OFPort is the VM's OpenFlow port number at its host.
func (vm *VM) OFPort() int {
	vm.bed.t.Helper()
	return vm.host.OFPort(vm.Tap)
}

// Plug makes the VM's device a port of br-int, as a compute service does when it starts a server, and returns when the
// switch has it.
func (vm *VM) Plug() {
	vm.bed.t.Helper()
	vm.plug(vm.host)
}

func (vm *VM) plug(h *Host) {
	vm.bed.t.Helper()
	args := []string{"--may-exist", "add-port", Integration, vm.Tap, "--", "set", "Interface", vm.Tap, "external_ids:iface-id=" + vm.IfaceID,
		fmt.Sprintf("external_ids:attached-mac=%q", vm.MAC), "external_ids:iface-status=active"}
	if vm.cfg.OFPort != 0 {
		args = append(args, fmt.Sprintf("ofport_request=%d", vm.cfg.OFPort))
	}
	h.Vsctl(args...)
}

// Unplug takes the VM's port away.
func (vm *VM) Unplug() {
	vm.bed.t.Helper()
	vm.host.Vsctl("--if-exists", "del-port", Integration, vm.Tap)
}

// Delete unplugs the VM and removes it.
func (vm *VM) Delete() {
	vm.bed.t.Helper()
	vm.Unplug()
	vm.bed.mu.Lock()
	delete(vm.bed.vms, vm.Name)
	vm.bed.mu.Unlock()
	if err := vm.forget(); err != nil {
		vm.bed.t.Fatalf("delete VM %s: %v", vm.Name, err)
	}
}

// Migration is a VM on its way to another host.
type Migration struct {
	vm     *VM
	to     *Host
	nic    string
	before string // the nic at the source
}

// Migrate plugs the VM in at a second host too, as a live migration does before it copies memory: the iface-id is at both
// hosts, the VM still runs at the first. The VM needs VMConfig.Migrates.
func (vm *VM) Migrate(to *Host) *Migration {
	vm.bed.t.Helper()
	if !vm.cfg.Migrates || to == vm.host {
		vm.bed.t.Fatalf("VM %s does not migrate from %s to %s", vm.Name, vm.host.Name, to.Name)
	}
	m := &Migration{vm: vm, to: to, before: vm.nic}
	var err error
	if m.nic, err = vm.wire(to); err != nil {
		vm.bed.t.Fatalf("wire VM %s to %s: %v", vm.Name, to.Name, err)
	}
	vm.plug(to)
	return m
}

// CutOver lets the VM run at the new host: from one packet to the next what it sends and receives goes there. It says
// nothing to the network; probe.Announce does what a hypervisor does then.
func (m *Migration) CutOver() {
	m.vm.bed.t.Helper()
	if err := m.vm.ip(fmt.Sprintf("link set %s nomaster", m.before), fmt.Sprintf("link set %s master eth0", m.nic)); err != nil {
		m.vm.bed.t.Fatalf("cut VM %s over: %v", m.vm.Name, err)
	}
}

// Finish unplugs the VM at the host where it ran before.
func (m *Migration) Finish() {
	m.vm.bed.t.Helper()
	m.vm.Unplug()
	if err := m.vm.ip("link del " + m.before); err != nil {
		m.vm.bed.t.Fatalf("finish the migration of %s: %v", m.vm.Name, err)
	}
	m.vm.host = m.to
}
