package packets_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/packets"
)

// guests are VMs a and b on one host and c on another, all of group "g", whose members are the set "members".
type guests struct {
	*packets.Fleet
	t       *testing.T
	a, b, c *hosts.VM
}

// addresses of the n-th guest of a subnet, and its way out.
func addresses(subnet, n int) hosts.VMConfig {
	v4, v6 := fmt.Sprintf("10.0.%d.", subnet), fmt.Sprintf("fd0%d::", subnet)
	return hosts.VMConfig{IPs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("%s%d/24", v4, n)), netip.MustParsePrefix(fmt.Sprintf("%s%d/64", v6, n))},
		Gateways: []netip.Addr{netip.MustParseAddr(v4 + "254"), netip.MustParseAddr(v6 + "ff")}}
}

func newGuests(t *testing.T) *guests {
	t.Helper()
	f := packets.Up(t, hosts.Config{})
	f.Set(&state.Network{ID: "net", Key: 7, MTU: 1450})
	g := &guests{Fleet: f, t: t}
	member := func(p *state.Port) { p.SecurityGroups = []string{"g"} }
	g.a, _ = f.Guest("a", f.Host("s1h1"), "net", addresses(0, 1), member)
	g.b, _ = f.Guest("b", f.Host("s1h1"), "net", addresses(0, 2), member)
	g.c, _ = f.Guest("c", f.Host("s1h2"), "net", addresses(0, 3), member)
	for _, vm := range []*hosts.VM{g.a, g.b, g.c} {
		for i := range 2 {
			for _, network := range []string{"tcp", "udp"} {
				vm.Serve(network, netip.AddrPortFrom(vm.IPs[i].Addr(), 80))
			}
		}
	}
	return g
}

func egress(v6 bool) state.SecurityRule {
	return state.SecurityRule{Egress: true, V6: v6, Protocol: -1, ICMPType: -1, ICMPCode: -1}
}

func ingress(v6 bool, protocol int, port uint16) state.SecurityRule {
	return state.SecurityRule{V6: v6, Protocol: protocol, PortMin: port, PortMax: port, ICMPType: -1, ICMPCode: -1}
}

func from(set string, r state.SecurityRule) state.SecurityRule {
	r.RemoteSet = set
	return r
}

// rules makes what group g allows, beside all that leaves.
func (g *guests) rules(rules ...state.SecurityRule) {
	g.t.Helper()
	g.Set(&state.SecurityGroup{ID: "g", Rules: append(rules, egress(false), egress(true))})
}

// soon bounds an exchange that should not happen; over TCP it leaves the time of one retransmission.
const soon = 1500 * time.Millisecond

func (g *guests) talk(from, to *hosts.VM, network string, family int, want bool) {
	g.t.Helper()
	ctx := g.t.Context()
	if !want {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, soon)
		defer cancel()
	}
	at := netip.AddrPortFrom(to.IPs[family].Addr(), 80)
	if _, err := from.Talk(ctx, network, at); (err == nil) != want {
		g.t.Errorf("%s from %s to %s: %v, want it to pass: %t", network, from.Name, at, err, want)
	}
}

// open is a connection from one guest to another.
func (g *guests) open(from, to *hosts.VM, family int) net.Conn {
	g.t.Helper()
	c, err := from.Dial(g.t.Context(), "tcp", netip.AddrPortFrom(to.IPs[family].Addr(), 80).String())
	if err != nil {
		g.t.Fatalf("connect from %s to %s: %v", from.Name, to.Name, err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange says whether a line comes back over a connection.
func (g *guests) exchange(c net.Conn, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), limit)
	defer cancel()
	_, err := hosts.Exchange(ctx, c)
	return err
}

func TestGroupsAllowAndDeny(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	g.rules(ingress(false, 6, 80), ingress(true, 17, 80))
	for _, pair := range [][2]*hosts.VM{{g.a, g.b}, {g.c, g.a}} {
		g.talk(pair[0], pair[1], "tcp", 0, true)
		g.talk(pair[0], pair[1], "udp", 1, true)
		g.talk(pair[0], pair[1], "udp", 0, false)
		g.talk(pair[0], pair[1], "tcp", 1, false)
		pair[0].MustNotReach(pair[1].IPs[0].Addr())
	}
	g.rules(ingress(false, 1, 0), ingress(true, 58, 0))
	for i := range 2 {
		g.a.MustReach(g.b.IPs[i].Addr())
		g.a.MustReach(g.c.IPs[i].Addr())
		g.a.MustReach(g.c.IPs[i].Addr(), "-s", "4000") // in fragments
	}
	g.Set(&state.SecurityGroup{ID: "g", Rules: []state.SecurityRule{ingress(false, 1, 0)}})
	g.a.MustNotReach(g.b.IPs[0].Addr()) // what leaves needs a rule too
}

// A connection that a rule had allowed ends with the rule, from either end; a rule that comes back restores it.
func TestRuleCutsConnections(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	allowed := []state.SecurityRule{ingress(false, 6, 80), ingress(true, 6, 80)}
	g.rules(allowed...)
	type link struct {
		name string
		conn net.Conn
	}
	var links []link
	for i := range 2 {
		links = append(links, link{"on one host", g.open(g.b, g.a, i)}, link{"between hosts", g.open(g.c, g.a, i)})
	}
	for _, l := range links {
		if err := g.exchange(l.conn, 10*time.Second); err != nil {
			t.Errorf("%s: before: %v", l.name, err)
		}
	}
	g.rules()
	for _, l := range links {
		if err := g.exchange(l.conn, soon); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Errorf("%s: the rule is gone, and what it had allowed goes on: %v", l.name, err)
		}
	}
	g.rules(allowed...)
	for _, l := range links {
		if err := g.exchange(l.conn, 20*time.Second); err != nil { // retransmitted
			t.Errorf("%s: the rule is back: %v", l.name, err)
		}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// An error about a connection reaches who began it, though no rule lets ICMP in.
func TestErrorsAreRelated(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	g.rules(ingress(false, 17, 9), ingress(true, 17, 9))
	for _, to := range []*hosts.VM{g.b, g.c} {
		for i := range 2 {
			c, err := g.a.Dial(t.Context(), "udp", netip.AddrPortFrom(to.IPs[i].Addr(), 9).String()) // nobody listens
			if err != nil {
				t.Fatal(err)
			}
			if err := g.exchange(c, 10*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("to %s: %v, want that it is refused", c.RemoteAddr(), err)
			}
			_ = c.Close()
		}
	}
}

func TestMembersJoinAndLeave(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	members := func(vms ...*hosts.VM) {
		set := &state.AddressSet{ID: "members", Set: "members"}
		for _, vm := range vms {
			for _, p := range vm.IPs {
				set.Prefixes = append(set.Prefixes, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
			}
		}
		g.Set(set)
	}
	members(g.b)
	g.rules(from("members", ingress(false, 6, 80)), from("members", ingress(true, 6, 80)))
	for i := range 2 {
		g.talk(g.b, g.a, "tcp", i, true)
		g.talk(g.c, g.a, "tcp", i, false)
	}
	members(g.b, g.c)
	var open []net.Conn
	for i := range 2 {
		g.talk(g.c, g.a, "tcp", i, true)
		open = append(open, g.open(g.c, g.a, i))
	}
	members(g.b)
	for i, c := range open {
		g.talk(g.c, g.a, "tcp", i, false)
		if err := g.exchange(c, soon); err == nil {
			t.Errorf("a member that left keeps its connection to %s", c.RemoteAddr())
		}
		g.talk(g.b, g.a, "tcp", i, true)
	}
}

func TestStatelessGroups(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	set := func(rules ...state.SecurityRule) {
		g.Set(&state.SecurityGroup{ID: "g", Stateless: true, Rules: rules})
	}
	there, back := ingress(false, 6, 80), ingress(false, 6, 0)
	out := egress(false)
	out.Protocol = 6
	set(there, out)
	g.talk(g.c, g.a, "tcp", 0, false) // answers come to a port that no rule names
	set(there, back, out)
	g.talk(g.c, g.a, "tcp", 0, true)
	g.talk(g.a, g.b, "tcp", 0, true)
	g.talk(g.a, g.b, "udp", 0, false)
	for _, h := range g.Hosts() {
		if tracked := h.Appctl("dpctl/dump-conntrack"); strings.Contains(tracked, "10.0.0.") {
			t.Errorf("%s tracks what is stateless:\n%s", h.Name, tracked)
		}
	}
}

// A datagram in fragments is one datagram: those behind the first have no port, and yet pass where the port is allowed, in the first
// packet of a connection and in all that follow.
func TestFragments(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	g.rules(ingress(false, 17, 80), ingress(true, 17, 80))
	for _, to := range []*hosts.VM{g.b, g.c} {
		for i := range 2 {
			at := netip.AddrPortFrom(to.IPs[i].Addr(), 80).String()
			for _, size := range []int{4000, 100} { // the connection begins with fragments, and without
				c, err := g.a.Dial(t.Context(), "udp", at)
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{size, 5000, 100, 3000} {
					if err := echo(c, size); err != nil {
						t.Errorf("%d bytes to %s: %v", size, at, err)
					}
				}
				_ = c.Close()
			}
		}
	}
}

// echo sends a datagram and waits for it to come back.
func echo(c net.Conn, size int) error {
	sent := strings.Repeat("x", size)
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(sent)); err != nil {
		return err
	}
	got := make([]byte, 64<<10)
	n, err := c.Read(got)
	if err == nil && !strings.HasSuffix(string(got[:n]), " "+sent) {
		return fmt.Errorf("%d bytes came back", n)
	}
	return err
}

// What a router passes on is held against the groups of both ends, like what stays in a network.
func TestGroupsOfRoutedPackets(t *testing.T) {
	t.Parallel()
	g := newGuests(t)
	member := func(p *state.Port) { p.SecurityGroups = []string{"g"} }
	here, _ := g.Guest("d", g.Host("s1h1"), "far", addresses(1, 1), member)
	there, _ := g.Guest("e", g.Host("s1h2"), "far", addresses(1, 2), member)
	g.Set(&state.Network{ID: "far", Key: 8, MTU: 1450}, &state.Router{ID: "r", Key: 1, Interfaces: []state.RouterInterface{
		{Network: "net", MAC: 0xfa163e0000fd, Addresses: gateways(0)}, {Network: "far", MAC: 0xfa163e0000fe, Addresses: gateways(1)}}})
	members := func(vms ...*hosts.VM) {
		set := &state.AddressSet{ID: "members", Set: "members"}
		for _, vm := range vms {
			for _, p := range vm.IPs {
				set.Prefixes = append(set.Prefixes, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
			}
		}
		g.Set(set)
	}
	members(here, there)
	g.rules(from("members", ingress(false, 6, 80)), from("members", ingress(true, 6, 80)))
	for i := range 2 {
		for _, vm := range []*hosts.VM{here, there} {
			for _, to := range []*hosts.VM{g.a, g.c} {
				g.talk(vm, to, "tcp", i, true)
			}
		}
		g.talk(here, g.c, "udp", i, false)
	}
	open := g.open(there, g.a, 0)
	members(here)
	if err := g.exchange(open, soon); err == nil {
		t.Error("a member that left keeps its connection through the router")
	}
	g.talk(here, g.a, "tcp", 0, true)
}

// gateways are the router's addresses on a subnet.
func gateways(subnet int) []netip.Prefix {
	var out []netip.Prefix
	for i, a := range addresses(subnet, 1).Gateways {
		out = append(out, netip.PrefixFrom(a, []int{24, 64}[i]))
	}
	return out
}
