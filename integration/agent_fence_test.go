package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Security groups of agents: what is allowed passes and nothing else, connections end with the rule that let them in, and members come and go.
func TestAgentsFence(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	ctx := t.Context()
	h := f.bed.Hosts()
	server, port := f.vm("server", h[0], hosts.VMConfig{})
	beside, _ := f.vm("beside", h[0], hosts.VMConfig{})
	away, _ := f.vm("away", h[1], hosts.VMConfig{})
	friend, _ := f.vm("friend", h[2], hosts.VMConfig{})
	port.SecurityGroups = []string{"server"}
	tcp := func(id string, family api.SecurityRule_Family, dst uint32) *api.SecurityRule {
		return &api.SecurityRule{Id: id, Family: family, ProtocolPlusOne: 7, PortMin: dst, PortMax: dst}
	}
	group := &api.SecurityGroup{Id: "server", Rules: []*api.SecurityRule{
		tcp("web4", api.SecurityRule_IPV4, 80), tcp("web6", api.SecurityRule_IPV6, 80),
		{Id: "friends4", RemoteSet: "friends"}, {Id: "friends6", Family: api.SecurityRule_IPV6, RemoteSet: "friends"},
	}}
	friends := &api.AddressSet{Id: "friends"}
	f.state.SecurityGroups = append(f.state.SecurityGroups, group)
	f.state.AddressSets = append(f.state.AddressSets, friends)
	f.settle(ctx)
	serve(server, 80)
	serve(server, 81)
	serve(away, 81)

	to := func(i int, port uint16) netip.AddrPort { return netip.AddrPortFrom(server.IPs[i].Addr(), port) }
	for i := range server.IPs {
		for _, from := range []*hosts.VM{beside, away} {
			f.exchanges(ctx, from, "tcp", to(i, 80))
			f.cut(ctx, from, "tcp", to(i, 81), from, to(i, 80))
			f.cut(ctx, from, "udp", to(i, 80), from, to(i, 80))
			from.MustNotReach(server.IPs[i].Addr())
		}
		// No egress rule: it speaks to nobody, though it answers.
		f.cut(ctx, server, "tcp", netip.AddrPortFrom(away.IPs[i].Addr(), 81), away, to(i, 80))
	}

	// A connection that stands ends with its rule; one of its kind begins when the rule is back.
	held := f.hold(ctx, away.Node, to(0, 80))
	held6 := f.hold(ctx, beside.Node, to(1, 80))
	group.Rules = group.Rules[2:]
	f.settle(ctx)
	for _, c := range []*connection{held, held6} {
		if err := c.say(ctx, time.Second); err == nil {
			t.Errorf("the connection from %s goes on without a rule", c.from.Name)
		}
	}
	group.Rules = append(group.Rules, tcp("web4", api.SecurityRule_IPV4, 80), tcp("web6", api.SecurityRule_IPV6, 80))
	f.settle(ctx)
	f.exchanges(ctx, away, "tcp", to(0, 80))
	f.exchanges(ctx, beside, "tcp", to(1, 80))
	held.end()
	held6.end()

	// A member of a remote group joins, holds a connection, and leaves.
	f.cut(ctx, friend, "tcp", to(0, 81), beside, to(0, 80))
	for _, p := range friend.IPs {
		friends.Addresses = append(friends.Addresses, p.Addr().String())
	}
	f.settle(ctx)
	for i := range server.IPs {
		for _, network := range []string{"tcp", "udp"} {
			f.exchanges(ctx, friend, network, to(i, 81))
		}
		friend.MustReach(server.IPs[i].Addr())
	}
	away.MustNotReach(server.IPs[0].Addr())
	held = f.hold(ctx, friend.Node, to(0, 81))
	friends.Addresses = nil
	f.settle(ctx)
	if err := held.say(ctx, time.Second); err == nil {
		t.Error("the connection of who is a member no more goes on")
	}
	held.end()
	f.cut(ctx, friend, "udp", to(0, 81), friend, to(0, 80))
	friend.MustNotReach(server.IPs[1].Addr())
}

// exchanges fails the test unless an exchange goes well within a while.
func (f *fleet) exchanges(ctx context.Context, from *hosts.VM, network string, to netip.AddrPort) {
	f.t.Helper()
	f.await(ctx, fmt.Sprintf("%s speaks %s to %s", from.Name, network, to), func() error {
		_, err := from.Talk(ctx, network, to)
		return err
	})
}

// cut fails the test when an exchange goes well that should not. Another one, which is known to go well, tells how long to wait.
func (f *fleet) cut(ctx context.Context, from *hosts.VM, network string, to netip.AddrPort, other *hosts.VM, passes netip.AddrPort) {
	f.t.Helper()
	began := time.Now()
	f.exchanges(ctx, other, "tcp", passes)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond+2*time.Since(began))
	defer cancel()
	if seen, err := from.Talk(short, network, to); err == nil {
		f.t.Errorf("%s speaks %s to %s, as %s, which no rule allows", from.Name, network, to, seen)
	}
}

// connection is one that stands.
type connection struct {
	net.Conn
	from *hosts.Node
	in   *bufio.Reader
}

func newConnection(c net.Conn, from *hosts.Node) *connection {
	return &connection{c, from, bufio.NewReader(c)}
}

func (f *fleet) hold(ctx context.Context, from *hosts.Node, to netip.AddrPort) *connection {
	f.t.Helper()
	c, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		f.t.Fatal(err)
	}
	held := newConnection(c, from)
	f.t.Cleanup(held.end)
	if err := held.say(ctx, 60*time.Second); err != nil {
		f.t.Fatal(err)
	}
	return held
}

// say has an exchange over the connection.
func (c *connection) say(ctx context.Context, limit time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	line, err := c.in.ReadString('\n')
	if err == nil && line == "" {
		err = errors.New("nothing")
	}
	return err
}

// end forgets the connection without a word to the other side, which would be heard or not.
func (c *connection) end() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
