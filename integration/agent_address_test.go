package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// addressScene has a network whose guests get IPv4 by DHCP and IPv6 by router advertisements, and one whose leases are short and whose guests get
// IPv6 by DHCP.
type addressScene struct {
	*fleet
	a, b, c, d  *hosts.VM
	portA       *api.Port
	autoC, give netip.Addr
}

// Real DHCP clients and the kernel get addresses from agents, and go on getting them while nobody tells the agents anything.
func TestAgentsServeAddresses(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"udhcpc", "dhclient", "rdisc6"} {
		ovstest.Need(t, p)
	}
	s := newAddressScene(t)
	for _, part := range []struct {
		name string
		test func(context.Context)
	}{
		{"dhclient", s.dhclient}, {"udhcpc", s.udhcpc}, {"SLAAC", s.slaac}, {"DHCPv6", s.dhcpv6}, {"renewal", s.renewal}, {"again after a boot", s.reboot},
		{"another address than before", s.nak}, {"no news", s.noNews},
	} {
		s.inGroup(t, part.name, part.test)
	}
}

func newAddressScene(t *testing.T) *addressScene {
	t.Helper()
	s := &addressScene{fleet: newFleet(t, 3)}
	for _, sub := range s.network("n2", 2, 1400, "10.2.0.0/24", "fd02::/64") {
		if sub.Dhcp = true; sub.Id == "n2-4" {
			sub.DnsServers = []string{"10.2.0.53", "192.0.2.53"}
			sub.HostRoutes = []*api.Route{{Destination: "172.20.0.0/16", NextHop: "10.2.0.9"}}
			sub.LeaseSeconds = 3600
		} else {
			sub.DnsServers = []string{"2001:db8::53"}
			sub.RaMode, sub.AddressMode = api.Subnet_SLAAC, api.Subnet_SLAAC
		}
	}
	for _, sub := range s.network("n3", 3, 1450, "10.3.0.0/24", "fd03::/64") {
		if sub.Dhcp = true; sub.Id == "n3-4" {
			sub.LeaseSeconds = 6
		} else {
			sub.DnsServers = []string{"2001:db8::54"}
			sub.RaMode, sub.AddressMode = api.Subnet_DHCPV6_STATEFUL, api.Subnet_DHCPV6_STATEFUL
		}
	}
	s.router("r1", 21, "n2 10.2.0.1/24 fd02::1/64", "n3 10.3.0.1/24 fd03::1/64")
	h := s.bed.Hosts()
	for i, vm := range []**hosts.VM{&s.a, &s.b, &s.c, &s.d} {
		*vm = s.bed.VM(string(rune('a'+i)), h[i%3], hosts.VMConfig{IPv6: true})
	}
	s.portA = s.bind(s.a, "n2", "10.2.0.11/24", eui64("fd02::", s.a.MAC)+"/64")
	s.bind(s.b, "n2", "10.2.0.12/24", eui64("fd02::", s.b.MAC)+"/64")
	s.autoC = mustAddr(eui64("fd02::", s.c.MAC))
	s.bind(s.c, "n2", "10.2.0.13/24", s.autoC.String()+"/64")
	s.give = mustAddr("fd03::abc")
	s.bind(s.d, "n3", "10.3.0.14/24", s.give.String()+"/64")
	s.settle(t.Context())
	return s
}

// eui64 is the address that stateless autoconfiguration makes of a hardware address (RFC 4291 appendix A).
func eui64(prefix string, mac net.HardwareAddr) string {
	a := mustAddr(prefix).As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a).String()
}

// told fails the test unless a client was told so.
func (s *addressScene) told(l hosts.Lease, want map[string]string) {
	s.t.Helper()
	for name, value := range want {
		if got := strings.Join(strings.Fields(strings.ReplaceAll(l.Told[name], ",", " ")), " "); got != value {
			s.t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func (s *addressScene) dhclient(ctx context.Context) {
	l, err := s.a.DHClient(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.told(l, map[string]string{"address": "10.2.0.11/255.255.255.0", "reason": "BOUND", "new_routers": "10.2.0.1", "new_domain_name_servers": "10.2.0.53 192.0.2.53",
		"new_interface_mtu": "1400", "new_dhcp_lease_time": "3600", "new_dhcp_server_identifier": "10.2.0.1", "new_host_name": "host-10-2-0-11",
		"new_rfc3442_classless_static_routes": "16 172 20 10 2 0 9 0 10 2 0 1"})
	s.a.MustReach(mustAddr("10.3.0.1"))
}

func (s *addressScene) udhcpc(ctx context.Context) {
	l, err := s.b.UDHCPC(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.told(l, map[string]string{"ip": "10.2.0.12", "mask": "24", "router": "10.2.0.1", "dns": "10.2.0.53 192.0.2.53", "mtu": "1400", "lease": "3600",
		"serverid": "10.2.0.1", "staticroutes": "172.20.0.0/16 10.2.0.9 0.0.0.0/0 10.2.0.1"})
	s.b.MustReach(mustAddr("10.2.0.11"))
}

func (s *addressScene) slaac(ctx context.Context) {
	got, err := s.c.AwaitAddr(ctx, netip.MustParsePrefix("fd02::/64"))
	if err != nil || got != s.autoC {
		s.t.Errorf("SLAAC gave %s, want %s: %v", got, s.autoC, err)
	}
	s.c.MustReach(mustAddr("fd03::1")) // by the default route that the advertisement makes
	out := s.c.Run("rdisc6", "-1", "eth0")
	for _, want := range []string{"fd02::/64", "1400 bytes", "2001:db8::53", "Stateful address conf.    :           No"} {
		if !strings.Contains(out, want) {
			s.t.Errorf("the router advertisement has no %s:\n%s", want, out)
		}
	}
	if out := s.d.Run("rdisc6", "-1", "eth0"); !strings.Contains(out, "Stateful address conf.    :          Yes") {
		s.t.Errorf("the router advertisement of n3 does not send guests to DHCPv6:\n%s", out)
	}
}

func (s *addressScene) dhcpv6(ctx context.Context) {
	l, err := s.d.DHClient(ctx, "-6", "-pf", s.bed.Dir+"/d6.dhclient", "-lf", s.bed.Dir+"/d6.leases")
	if err != nil {
		s.t.Fatal(err)
	}
	if l.Addr.Addr() != s.give {
		s.t.Errorf("DHCPv6 gave %s, want %s", l.Addr, s.give)
	}
	s.told(l, map[string]string{"new_dhcp6_name_servers": "2001:db8::54"})
	s.d.MustReach(s.autoC)
	s.c.MustReach(s.give)
}

// A lease of six seconds is renewed after about three.
func (s *addressScene) renewal(ctx context.Context) {
	if _, err := s.d.DHClient(ctx); err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.bed.Dir, "d.lease")
	s.await(ctx, "the lease is renewed", func() error {
		raw, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(raw), "\nreason=RENEW\n") {
			err = errors.New("not yet")
		}
		return err
	})
	s.d.MustReach(mustAddr("10.3.0.1"))
}

// stop ends a's client as a power failure would: it has its lease written down.
func (s *addressScene) stop() {
	s.t.Helper()
	file := filepath.Join(s.bed.Dir, "a.dhclient")
	raw, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(syscall.Kill(pid, syscall.SIGKILL), os.Remove(file)); err != nil {
		s.t.Fatal(err)
	}
	s.a.Run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
}

// again gets an address as a guest that has booted again.
func (s *addressScene) again(ctx context.Context, address, reason string) {
	s.t.Helper()
	s.stop()
	l, err := s.a.DHClient(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.told(l, map[string]string{"address": address + "/255.255.255.0", "reason": reason})
	s.a.MustReach(mustAddr("10.2.0.12"))
}

func (s *addressScene) reboot(ctx context.Context) {
	capture := s.a.Capture("eth0", "udp port 67")
	s.again(ctx, "10.2.0.11", "REBOOT") // it asks for what it had, which is an answer of one message
	lines, err := capture.Stop()
	said := strings.Join(lines, "\n")
	if n := strings.Count(said, "BOOTP/DHCP, "); err != nil || n != 2 {
		s.t.Errorf("it took %d messages, want 2: %v\n%s", n, err, said)
	}
}

// The port has another address by now: who asks for the one that it had is told that this is over.
func (s *addressScene) nak(ctx context.Context) {
	s.portA.FixedIps[0].Address = "10.2.0.21"
	s.settle(ctx)
	capture := s.a.Capture("eth0", "udp port 67 and udp[250] = 6") // the message type: an option that stands first
	s.again(ctx, "10.2.0.21", "BOUND")
	if _, err := capture.Await(ctx, "10.2.0.1.67"); err != nil {
		s.t.Errorf("no DHCPNAK came: %v", err)
	}
	if _, err := capture.Stop(); err != nil {
		s.t.Error(err)
	}
}

// While nobody tells the agent anything, and right after it was started again, guests get their addresses.
func (s *addressScene) noNews(ctx context.Context) {
	h := s.a.Host()
	if err := os.Remove(s.file(h)); err != nil {
		s.t.Fatal(err)
	}
	s.await(ctx, "the agent complains of the file", func() error {
		said, err := os.ReadFile(filepath.Join(h.Dir, "agent.out"))
		if err == nil && !strings.Contains(string(said), "state file was not taken") {
			err = fmt.Errorf("it said %s", said)
		}
		return err
	})
	s.again(ctx, "10.2.0.21", "REBOOT")
	s.agents[h.Name].Kill()
	s.commit()
	s.start(h, "--state", s.file(h))
	s.again(ctx, "10.2.0.21", "REBOOT")
}
