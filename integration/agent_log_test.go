package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/seclog"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// flood sends datagrams as fast as it can: how many, where to, which port.
const flood = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[1])):
    s.sendto(b"x", (sys.argv[2], int(sys.argv[3])))
`

// What security groups let begin and what they drop is recorded: a connection once, with its port and its rule; a flood as far as its rate allows, at nobody else's cost.
func TestAgentsLog(t *testing.T) {
	t.Parallel()
	f := newBareFleet(t, 2)
	ctx := t.Context()
	h := f.bed.Hosts()
	const rate, burst = 20, 40
	f.commit()
	for _, h := range h {
		f.start(h, "--sg-log", f.log(h), "--sg-log-rate", fmt.Sprint(rate), "--sg-log-burst", fmt.Sprint(burst))
	}
	f.state.Subnets[0].Dhcp = true
	server, port := f.vm("server", h[0], hosts.VMConfig{})
	beside, besidePort := f.vm("beside", h[0], hosts.VMConfig{})
	client, clientPort := f.vm("client", h[1], hosts.VMConfig{})
	for _, p := range []*api.Port{port, besidePort, clientPort} {
		p.Project = "tenant"
	}
	port.SecurityGroups = []string{"server"}
	web := func(id string, family api.SecurityRule_Family, dst uint32) *api.SecurityRule {
		return &api.SecurityRule{Id: id, Family: family, ProtocolPlusOne: 7, PortMin: dst, PortMax: dst}
	}
	group := &api.SecurityGroup{Id: "server", Rules: []*api.SecurityRule{web("web4", api.SecurityRule_IPV4, 80), web("web6", api.SecurityRule_IPV6, 80), web("alt4", api.SecurityRule_IPV4, 8080)}}
	f.state.SecurityGroups = append(f.state.SecurityGroups, group)
	f.state.SecurityLogs = []*api.SecurityLog{{Id: "log-server", Project: "tenant", SecurityGroup: "server"},
		{Id: "log-client", Project: "tenant", Port: clientPort.Id, Event: api.SecurityLog_ACCEPT}}
	f.settle(ctx)
	serve(server, 80)
	serve(server, 8080)

	// Both ends have one record of each connection, with the rule that let it by there.
	var mine netip.AddrPort
	for _, tt := range []struct {
		ip         int
		port       uint16
		rule, from string
	}{{0, 80, "web4", "egress-ipv4"}, {0, 8080, "alt4", "egress-ipv4"}, {1, 80, "web6", "egress-ipv6"}} {
		at := netip.AddrPortFrom(server.IPs[tt.ip].Addr(), tt.port)
		held := f.hold(ctx, client.Node, at)
		for range 20 {
			if err := held.say(ctx, 60*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		mine = held.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
		held.end()
		f.recorded(ctx, h[0], mine, seclog.Record{Action: seclog.Accept, Direction: "ingress", Port: port.Id, Project: "tenant", Logs: []string{"log-server"},
			SecurityGroup: "server", Rules: []string{tt.rule}, Protocol: "tcp", Destination: at.Addr().String(), DestinationPort: &tt.port})
		f.recorded(ctx, h[1], mine, seclog.Record{Action: seclog.Accept, Direction: "egress", Port: clientPort.Id, Project: "tenant", Logs: []string{"log-client"},
			SecurityGroup: "all", Rules: []string{tt.from}, Protocol: "tcp", Destination: at.Addr().String(), DestinationPort: &tt.port})
	}
	to := netip.AddrPortFrom(server.IPs[0].Addr(), 80)

	// What no rule allows, and a connection whose rule goes.
	f.cut(ctx, client, "tcp", netip.AddrPortFrom(to.Addr(), 81), client, to)
	f.dropped(ctx, h[0], "in-denied", func(r seclog.Record) bool { return goesTo(r, 81) && r.Port == port.Id && r.Direction == "ingress" })
	held := f.hold(ctx, client.Node, to)
	group.Rules = group.Rules[2:]
	f.settle(ctx)
	if err := held.say(ctx, time.Second); err == nil {
		t.Error("the connection goes on without a rule")
	}
	f.dropped(ctx, h[0], "in-cut", func(r seclog.Record) bool { return goesTo(r, 80) && *r.SourcePort == sourcePort(held) })
	held.end()

	f.flooded(ctx, h[0], client, beside, netip.AddrPortFrom(to.Addr(), 9), rate, burst)
	// Its sender may send it: that is one connection, which nobody has answered.
	sent, err := f.records(h[1])
	if err != nil {
		t.Fatal(err)
	}
	if sent = slices.DeleteFunc(sent, func(r seclog.Record) bool { return !goesTo(r, 9) }); len(sent) != 1 || sent[0].Action != seclog.Accept {
		t.Errorf("of the flood its sender's host has %d records, want one: %+.3v", len(sent), sent)
	}

	// Without the log there are no flows and no records; another log of the same host has its own still.
	f.state.SecurityLogs[0] = &api.SecurityLog{Id: "log-beside", Project: "tenant", Port: besidePort.Id}
	f.settle(ctx)
	unseen := f.spoke(ctx, client, netip.AddrPortFrom(to.Addr(), 8080))
	seen := f.spoke(ctx, beside, netip.AddrPortFrom(to.Addr(), 8080))
	f.await(ctx, "the connection from "+seen.String(), func() error {
		list, err := f.records(h[0])
		if slices.ContainsFunc(list, from(unseen)) {
			t.Fatalf("a connection is recorded of which no log is asked for")
		}
		if err == nil && !slices.ContainsFunc(list, from(seen)) {
			err = errors.New("it is not recorded")
		}
		return err
	})
}

// flooded has a guest send much that is dropped: of that there is a bounded number of records, the host's other guests are answered, and the connections that are accepted are recorded.
func (f *fleet) flooded(ctx context.Context, h *hosts.Host, attacker, victim *hosts.VM, to netip.AddrPort, rate, burst int) {
	f.t.Helper()
	const packets = 30_000
	began := time.Now()
	before, err := f.records(h)
	if err != nil {
		f.t.Fatal(err)
	}
	var flooding errgroup.Group
	flooding.Go(func() error {
		_, err := attacker.Exec(ctx, "python3", "-c", flood, fmt.Sprint(packets), to.Addr().String(), fmt.Sprint(to.Port()))
		return err
	})
	s, err := probe.Open(victim, "eth0")
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // all was read
	offers, _, err := s.Offers(ctx, 50, 1)
	if err != nil || len(offers.Times) < 25 { // a busy machine's switch in user space loses some
		f.t.Errorf("%d of 50 DHCP offers while another guest floods: %v", len(offers.Times), err)
	}
	mine := f.spoke(ctx, victim, netip.AddrPortFrom(to.Addr(), 8080))
	if err := flooding.Wait(); err != nil {
		f.t.Fatal(err)
	}
	f.await(ctx, "the connection beside the flood", func() error {
		list, err := f.records(h)
		if err == nil && !slices.ContainsFunc(list, from(mine)) {
			err = errors.New("it is not recorded")
		}
		return err
	})
	f.await(ctx, "what had no record is counted", func() error {
		out, err := f.tool(ctx, h, "metrics")
		if err == nil && (!strings.Contains(out, `headwater_seclog_lost_total{reason="meter"}`) || strings.Contains(out, `headwater_seclog_lost_total{reason="meter"} 0`)) {
			err = errors.New("it is not")
		}
		return err
	})
	list, err := f.records(h)
	if err != nil {
		f.t.Fatal(err)
	}
	n := 0
	for _, r := range list[len(before):] {
		if r.Action == seclog.Drop && goesTo(r, to.Port()) {
			n++
		}
	}
	most := burst + int(float64(rate)*(time.Since(began).Seconds()+1))
	f.t.Logf("%d records of %d packets, %d of 50 DHCP offers beside them, p50 %s", n, packets, len(offers.Times), offers.Times.Quantile(0.5))
	if n == 0 || n > most {
		f.t.Errorf("%d records of %d packets that were dropped, want some, and %d at most", n, packets, most)
	}
}

// spoke has an exchange over TCP, and returns the address that it was from.
func (f *fleet) spoke(ctx context.Context, vm *hosts.VM, to netip.AddrPort) (seen netip.AddrPort) {
	f.t.Helper()
	f.await(ctx, fmt.Sprintf("%s speaks to %s", vm.Name, to), func() (err error) {
		seen, err = vm.Talk(ctx, "tcp", to)
		return err
	})
	return seen
}

// log is the file with the records of a host.
func (f *fleet) log(h *hosts.Host) string { return filepath.Join(h.Dir, "security.log") }

// records are those that a host has written.
func (f *fleet) records(h *hosts.Host) (out []seclog.Record, err error) {
	raw, err := os.ReadFile(f.log(h))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1] // the last line may be half there
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var r seclog.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", lines.Text(), err)
		}
		out = append(out, r)
	}
	return out, nil
}

// from selects the records of packets from an address.
func from(a netip.AddrPort) func(seclog.Record) bool {
	return func(r seclog.Record) bool {
		return r.Source == a.Addr().String() && r.SourcePort != nil && *r.SourcePort == a.Port()
	}
}

// goesTo says whether a record is of a packet to a port.
func goesTo(r seclog.Record, port uint16) bool {
	return r.DestinationPort != nil && *r.DestinationPort == port
}

func sourcePort(c *connection) uint16 {
	return c.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port() //nolint:errcheck,forcetypeassert // of TCP
}

// recorded waits for the record of what came from an address, and fails the test unless there is one of it, as it should be.
func (f *fleet) recorded(ctx context.Context, h *hosts.Host, a netip.AddrPort, want seclog.Record) {
	f.t.Helper()
	var found []seclog.Record
	f.await(ctx, fmt.Sprintf("%s records what came from %s", h.Name, a), func() error {
		list, err := f.records(h)
		if found = slices.DeleteFunc(list, func(r seclog.Record) bool { return !from(a)(r) }); err == nil && len(found) == 0 {
			err = fmt.Errorf("it has %d other records", len(list))
		}
		return err
	})
	got := found[0]
	if time.Since(got.Time) > time.Hour || got.Host != h.Name || got.Network != "n1" || got.Bytes == 0 || !goesTo(got, *want.DestinationPort) {
		f.t.Errorf("%s: the record is %+v", h.Name, got)
	}
	want.Time, want.Host, want.Network, want.Bytes, want.Source, want.SourcePort, want.DestinationPort = got.Time, got.Host, got.Network, got.Bytes, got.Source, got.SourcePort, got.DestinationPort
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); len(found) != 1 || g != w {
		f.t.Errorf("%s has %d records, the first\n%s, want one\n%s", h.Name, len(found), g, w)
	}
}

// dropped waits for the record of something that was dropped for a reason.
func (f *fleet) dropped(ctx context.Context, h *hosts.Host, reason string, is func(seclog.Record) bool) {
	f.t.Helper()
	f.await(ctx, h.Name+" records what is dropped: "+reason, func() error {
		list, err := f.records(h)
		if err == nil && !slices.ContainsFunc(list, func(r seclog.Record) bool { return r.Action == seclog.Drop && r.Reason == reason && is(r) }) {
			err = fmt.Errorf("it has %d records", len(list))
		}
		return err
	})
}
