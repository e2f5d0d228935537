package hosts_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// twoVMs are a VM at each of two hosts, joined by flows over VXLAN.
type twoVMs struct {
	a, b   *hosts.VM
	v4, v6 netip.Addr // of b
}

func join(t *testing.T, first, second *hosts.Host) *twoVMs {
	t.Helper()
	vms := map[*hosts.Host]*hosts.VM{}
	bed := first.Bed()
	for i, h := range []*hosts.Host{first, second} {
		vms[h] = bed.VM(fmt.Sprintf("vm%d", i+1), h, hosts.VMConfig{
			IPs: []netip.Prefix{prefix(fmt.Sprintf("10.0.0.%d/24", i+1)), prefix(fmt.Sprintf("fd00::%d/64", i+1))}})
		h.AddVXLAN("vxlan0")
	}
	w := &twoVMs{a: vms[first], b: vms[second], v4: addr("10.0.0.2"), v6: addr("fd00::2")}
	w.flows(t)
	return w
}

// flows makes the two hosts a wire between the VMs.
func (w *twoVMs) flows(t *testing.T) {
	t.Helper()
	for _, end := range []struct{ here, there *hosts.VM }{{w.a, w.b}, {w.b, w.a}} {
		h := end.here.Host()
		vxlan := h.OFPort("vxlan0")
		h.AddFlows(hosts.Integration,
			fmt.Sprintf("in_port=%d,actions=set_field:77->tun_id,set_field:%s->tun_dst,output:%d", end.here.OFPort(), end.there.Host().UnderlayIP, vxlan),
			fmt.Sprintf("in_port=%d,tun_id=77,actions=output:%d", vxlan, end.here.OFPort()))
	}
}

func (w *twoVMs) mustTalk(t *testing.T) {
	t.Helper()
	w.a.MustReach(w.v4)
	w.a.MustReach(w.v6)
}

func TestHostsJoinedByVXLAN(t *testing.T) {
	t.Parallel()
	for _, sites := range []int{1, 2} {
		t.Run(fmt.Sprintf("sites=%d", sites), func(t *testing.T) {
			t.Parallel()
			bed := hosts.Up(t, hosts.Config{Sites: sites, Hosts: 2})
			other := bed.Hosts()[len(bed.Hosts())-1]
			w := join(t, bed.Host("s1h1"), other)
			w.mustTalk(t)
			for _, network := range []string{"tcp", "udp"} {
				for _, dst := range []netip.Addr{w.v4, w.v6} {
					at := netip.AddrPortFrom(dst, 7)
					w.b.Serve(network, at)
					seen, err := w.a.Talk(t.Context(), network, at)
					if err != nil || !strings.HasSuffix(seen.Addr().String(), "1") {
						t.Errorf("%s to %s: answered to %s, %v", network, at, seen, err)
					}
				}
			}
			// A whole segment over the tunnel: the VM's MTU leaves room for the tunnel's headers.
			if err := w.a.Ping(t.Context(), w.v4, "-M", "do", "-s", "1422"); err != nil {
				t.Errorf("ping of 1450 bytes: %v", err)
			}
		})
	}
}

func TestSwitchStartsAgain(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{})
	w := join(t, bed.Host("s1h1"), bed.Host("s1h2"))
	w.mustTalk(t)
	h := bed.Host("s1h2")
	for _, tt := range []struct {
		name string
		do   func()
		lost bool // flows
	}{
		{"database restarted", h.RestartDB, false},
		{"switch restarted", h.RestartSwitch, true},
		{"switch killed", func() { h.KillSwitch(); w.a.MustNotReach(w.v4); h.StartSwitch() }, true},
	} {
		tt.do()
		if tt.lost {
			if n := h.FlowCount(hosts.Integration); n != 0 {
				t.Errorf("%s: %d flows, want none", tt.name, n)
			}
			w.flows(t)
		}
		w.mustTalk(t)
	}
}

func TestOutside(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{Hosts: 1, Outside: hosts.Segments()})
	h := bed.Host("s1h1")
	wireOutside(h)
	ex := h.OFPort("int-ex")
	for i, s := range hosts.Segments() {
		vm := bed.VM(fmt.Sprintf("vm%d", s.VLAN), h, hosts.VMConfig{MTU: 1500,
			IPs:      []netip.Prefix{host(s.Gateways[0], 20), host(s.Gateways[1], 20)},
			Gateways: []netip.Addr{s.Gateways[0].Addr(), s.Gateways[1].Addr()}})
		port := vm.OFPort()
		push, pop := "", ""
		match := "vlan_tci=0/0x1fff"
		if s.VLAN != 0 {
			push, pop, match = fmt.Sprintf("push_vlan:0x8100,set_field:%d->vlan_vid,", 0x1000|s.VLAN), "pop_vlan,", fmt.Sprintf("dl_vlan=%d", s.VLAN)
		}
		h.AddFlows(hosts.Integration, fmt.Sprintf("in_port=%d,actions=%soutput:%d", port, push, ex), fmt.Sprintf("in_port=%d,%s,actions=%soutput:%d", ex, match, pop, port))
		capture := bed.Outside(1).Capture(h.Name, "icmp or (vlan and icmp)")
		for j, far := range hosts.Far() {
			vm.MustReach(s.Gateways[j].Addr())
			vm.MustReach(far)
			at := netip.AddrPortFrom(far, uint16(80+i))
			bed.Outside(1).Serve("tcp", at)
			if seen, err := vm.Talk(t.Context(), "tcp", at); err != nil || seen.Addr() != vm.IPs[j].Addr() {
				t.Errorf("VLAN %d to %s: answered to %s, %v", s.VLAN, at, seen, err)
			}
		}
		line, err := capture.Await(t.Context(), "echo request")
		if tagged := strings.Contains(line, "vlan 100"); err != nil || tagged != (s.VLAN == 100) {
			t.Errorf("VLAN %d: captured %q, %v", s.VLAN, line, err)
		}
		if _, err := capture.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// Real clients get their addresses from a real server, and nothing of the machine changes.
func TestDHCPClients(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{Hosts: 1, Outside: hosts.Segments()[:1]})
	h, outside := bed.Host("s1h1"), bed.Outside(1)
	wireOutside(h)
	for _, p := range []string{"dnsmasq", "udhcpc", "dhclient"} {
		ovstest.Need(t, p)
	}
	resolvers, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	server, err := outside.Start(filepath.Join(bed.Dir, "dnsmasq.log"), "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--interface=gw0", "--bind-interfaces", "--no-ping", "--pid-file=", "--log-facility=-", "--dhcp-leasefile="+filepath.Join(bed.Dir, "dnsmasq.leases"), "--enable-ra",
		"--dhcp-range=203.0.113.50,203.0.113.60,1h", "--dhcp-range=2001:db8:113::100,2001:db8:113::1ff,slaac,64,1h", "--dhcp-option=option:mtu,1400")
	if err != nil {
		t.Fatal(err)
	}
	h.AddFlows(hosts.Integration, "actions=NORMAL")
	vms := map[string]*hosts.VM{}
	for _, name := range []string{"udhcpc", "dhclient"} {
		vms[name] = bed.VM(name, h, hosts.VMConfig{IPv6: true, MTU: 1500})
	}
	for name, get := range map[string]func(context.Context, ...string) (hosts.Lease, error){"udhcpc": vms["udhcpc"].UDHCPC, "dhclient": vms["dhclient"].DHClient} {
		lease, err := get(t.Context())
		if err != nil || !prefix("203.0.113.0/24").Contains(lease.Addr.Addr()) || lease.Addr.Bits() != 24 {
			t.Errorf("%s: lease %v, %v", name, lease.Addr, err)
		}
		vms[name].MustReach(hosts.Far()[0])
		if link := vms[name].Run("ip", "link", "show", "dev", "eth0"); !strings.Contains(link, " mtu 1400 ") {
			t.Errorf("%s: the MTU that was told is 1400: %s", name, link)
		}
	}
	if a, err := vms["udhcpc"].AwaitAddr(t.Context(), prefix("2001:db8:113::/64")); err != nil || !strings.Contains(a.String(), "ff:fe") {
		t.Errorf("SLAAC gave %s, %v", a, err)
	}
	lease, err := vms["dhclient"].DHClient(t.Context(), "-6")
	if err != nil || !prefix("2001:db8:113::100/120").Contains(lease.Addr.Addr()) {
		t.Errorf("DHCPv6 gave %v, %v", lease, err)
	}
	vms["dhclient"].MustReach(hosts.Far()[1])
	server.Stop()
	if now, err := os.ReadFile("/etc/resolv.conf"); err != nil || !bytes.Equal(now, resolvers) {
		t.Errorf("the machine's resolv.conf was changed: %v", err)
	}
}

// wireOutside joins br-int and br-ex.
func wireOutside(h *hosts.Host) {
	h.Vsctl("add-port", hosts.Integration, "int-ex", "--", "set", "Interface", "int-ex", "type=patch", "options:peer=ex-int",
		"--", "add-port", hosts.Provider, "ex-int", "--", "set", "Interface", "ex-int", "type=patch", "options:peer=int-ex")
}

// host is the n-th address of a subnet.
func host(p netip.Prefix, n byte) netip.Prefix {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

func TestDummyPorts(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{Hosts: 1})
	h := bed.Host("s1h1")
	names := h.DummyPorts(200)
	var ids []string
	for i := range names {
		ids = append(ids, fmt.Sprintf("port-%d", i))
	}
	h.Bind(names, ids)
	if got := h.Vsctl("--bare", "--columns=name", "find", "Interface", "external_ids:iface-id=port-199"); got != names[199] {
		t.Errorf("port-199 is bound to %q, want %q", got, names[199])
	}
	if h.OFPort(names[199]) <= 0 {
		t.Errorf("%s has no port number", names[199])
	}
	h.RemovePorts(names)
	if got := strings.Fields(h.Vsctl("list-ports", hosts.Integration)); len(got) != 0 {
		t.Errorf("%d ports are left", len(got))
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{Hosts: 1})
	h := bed.Host("s1h1")
	vm := bed.VM("vm", h, hosts.VMConfig{})
	h.AddFlows(hosts.Integration, "table=0,priority=5,arp,actions=IN_PORT", "table=0,priority=1,actions=drop")
	if got := h.DumpFlows(hosts.Integration); len(got) != 2 || !strings.Contains(got[0], "arp actions=IN_PORT") {
		t.Errorf("flows are %q", got)
	}
	for flow, want := range map[string]string{"arp": "Datapath actions: ", "ip": "Datapath actions: drop"} {
		if got := h.Trace(hosts.Integration, fmt.Sprintf("in_port=%d,%s", vm.OFPort(), flow)); !strings.Contains(got, want) {
			t.Errorf("trace of %s has no %q:\n%s", flow, want, got)
		}
	}
}

// A stream of pings counts what it loses: nothing while the network stands, and exactly what was sent while the switch was gone.
func TestStreamSeesLoss(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{})
	w := join(t, bed.Host("s1h1"), bed.Host("s1h2"))
	for _, p := range []probe.Path{{Src: addr("10.0.0.1"), Dst: w.v4}, {Src: addr("fd00::1"), Dst: w.v6}} {
		socket := open(t, w.a)
		stream, err := socket.Stream(t.Context(), p, 2*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Await(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		if r := stop(t, stream); r.Sent < 20 || len(r.Lost) > 0 || r.RTT.Quantile(0.5) <= 0 {
			t.Errorf("%s: %d sent, %d lost, p50 %v", p.Dst, r.Sent, len(r.Lost), r.RTT.Quantile(0.5))
		}
		if stream, err = socket.Stream(t.Context(), p, 2*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		bed.Host("s1h2").Ofctl("del-flows", hosts.Integration)
		w.a.MustNotReach(w.v4)
		w.flows(t)
		if err := stream.Await(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		if r := stop(t, stream); len(r.Lost) == 0 || len(r.Lost) == r.Sent || r.LongestGap < 100*time.Millisecond {
			t.Errorf("%s, flows gone for a while: %d sent, %d lost, longest gap %v", p.Dst, r.Sent, len(r.Lost), r.LongestGap)
		}
	}
	first, err := open(t, w.a).First(t.Context(), probe.Path{Src: addr("10.0.0.1"), Dst: w.v4}, time.Now(), time.Millisecond)
	if err != nil || first.Resolved <= 0 || first.Reached < first.Resolved {
		t.Errorf("first is %+v, %v", first, err)
	}
	for _, window := range []int{1, 32} {
		a, err := open(t, w.a).Resolutions(t.Context(), 200, window, addr("10.0.0.1"), w.v4)
		if err != nil || len(a.Times) != 200 || a.PerSecond() <= 0 {
			t.Errorf("window %d: %d answered, %d lost, %v", window, len(a.Times), a.Lost, err)
		}
	}
}

func open(t *testing.T, vm *hosts.VM) *probe.Socket {
	t.Helper()
	s, err := probe.Open(vm, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func stop(t *testing.T, s *probe.Stream) probe.Report {
	t.Helper()
	r, err := s.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A VM that migrates is plugged in at both hosts, and runs at one of them.
func TestMigrate(t *testing.T) {
	t.Parallel()
	bed := hosts.Up(t, hosts.Config{Hosts: 3})
	third := bed.Host("s1h3")
	vm := bed.VM("moves", bed.Host("s1h1"), hosts.VMConfig{Migrates: true, IPs: []netip.Prefix{prefix("10.0.0.1/24"), prefix("fd00::1/64")}})
	peer := bed.VM("peer", third, hosts.VMConfig{IPs: []netip.Prefix{prefix("10.0.0.2/24"), prefix("fd00::2/64")}})
	tunnel := third.AddVXLAN("vxlan0")
	wire := func(h *hosts.Host, port, vxlan int) {
		h.AddFlows(hosts.Integration, fmt.Sprintf("in_port=%d,actions=set_field:77->tun_id,set_field:%s->tun_dst,output:%d", port, third.UnderlayIP, vxlan),
			fmt.Sprintf("in_port=%d,actions=output:%d", vxlan, port))
	}
	wire(vm.Host(), vm.OFPort(), vm.Host().AddVXLAN("vxlan0"))
	to := bed.Host("s1h2")
	sends := func(h *hosts.Host) string {
		return fmt.Sprintf("in_port=%d,actions=set_field:77->tun_id,set_field:%s->tun_dst,output:%d", peer.OFPort(), h.UnderlayIP, tunnel)
	}
	third.AddFlows(hosts.Integration, sends(vm.Host()), fmt.Sprintf("in_port=%d,actions=output:%d", tunnel, peer.OFPort()))
	peer.MustReach(addr("10.0.0.1"))
	m := vm.Migrate(to)
	wire(to, to.OFPort(vm.Tap), to.AddVXLAN("vxlan0"))
	peer.MustReach(addr("10.0.0.1")) // it still runs at the first
	capture := peer.Capture("eth0", "arp or rarp or icmp6")
	m.CutOver()
	third.AddFlows(hosts.Integration, sends(to))
	socket := open(t, vm)
	if err := socket.Announce(addr("10.0.0.1"), addr("fd00::1")); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"Reverse Request", vm.MAC.String()}, {"who-has 10.0.0.1 tell 10.0.0.1"}, {"neighbor advertisement, tgt is fd00::1"}} {
		if _, err := capture.Await(t.Context(), words...); err != nil {
			t.Errorf("%v; captured %q", err, capture.Lines())
		}
	}
	peer.MustReach(addr("10.0.0.1"))
	peer.MustReach(addr("fd00::1"))
	m.Finish()
	peer.MustReach(addr("10.0.0.1"))
	if vm.Host() != to || bed.Host("s1h1").Vsctl("list-ports", hosts.Integration) != "vxlan0" {
		t.Errorf("the VM is at %s, and the first host has %q", vm.Host().Name, bed.Host("s1h1").Vsctl("list-ports", hosts.Integration))
	}
}

// abandon is set for the process whose bed is left behind when it is killed.
const abandon = "HEADWATER_TEST_ABANDON"

func TestAbandoned(t *testing.T) {
	if os.Getenv(abandon) != "" {
		bed := hosts.Up(t, hosts.Config{Prefix: os.Getenv(abandon), Hosts: 1})
		fmt.Printf("bed %s %d\n", bed.Dir, bed.Host("s1h1").SwitchPID())
		<-t.Context().Done() // until killed
	}
	t.Parallel()
	hosts.Need(t)
	const prefix = "hwgone"
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAbandoned$")
	cmd.Env = append(os.Environ(), abandon+"="+prefix)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	var daemon int
	if _, err := fmt.Fscanf(out, "bed %s %d\n", &dir, &daemon); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	beside := hosts.Up(t, hosts.Config{Prefix: prefix, Hosts: 1})
	gone(t, dir, daemon)
	hosts.Up(t, hosts.Config{Prefix: prefix, Hosts: 1})
	if _, err := os.Stat(beside.Dir); err != nil {
		t.Errorf("a bed that is in use was removed: %v", err)
	}
}

// What a bed made is gone with its test, and beds beside it stay.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	hosts.Need(t)
	var dir string
	var processes []int
	t.Run("bed", func(t *testing.T) {
		bed := hosts.Up(t, hosts.Config{Hosts: 1, Outside: hosts.Segments()})
		dir, processes = bed.Dir, []int{bed.Host("s1h1").SwitchPID(), bed.Outside(1).SwitchPID()}
		vm := bed.VM("vm", bed.Host("s1h1"), hosts.VMConfig{})
		out := vm.Run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!") // leaves as a DHCP client does
		client, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, client)
		vm.Serve("tcp", netip.MustParseAddrPort("127.0.0.1:7"))
	})
	gone(t, dir, processes...)
}

// gone fails when something of a bed is left.
func gone(t *testing.T, dir string, processes ...int) {
	t.Helper()
	for _, pattern := range []string{dir, "/run/netns/" + filepath.Base(dir) + "-*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left over: %q, %v", left, err)
		}
	}
	for _, pid := range processes {
		// One that has ended and is not yet waited for by its parent, which is the machine's, has no command line.
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
			t.Errorf("process %d is left: %q", pid, line)
		}
	}
}
