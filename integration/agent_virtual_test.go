package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// virtualScene has two guests on two hosts that share an address with VRRP's Ethernet address (RFC 9568 section 7.3), as keepalived with use_vmac has it, and clients
// beside both and on a third host, which have that Ethernet address in their tables and ask for nothing.
type virtualScene struct {
	*fleet
	server  *server
	masters []*hosts.VM
	clients []*hosts.VM
}

const (
	virtualIP  = "10.0.9.9"
	virtualMAC = "00:00:5e:00:01:33"
)

// What is for a virtual Ethernet address reaches the guest that has it, on whichever host: before anybody is told who that is, and after it has moved.
func TestAgentsFollowVirtualAddress(t *testing.T) {
	t.Parallel()
	s := newVirtualScene(t)
	ctx := t.Context()
	for _, round := range []struct {
		name     string
		announce bool
	}{{"not announced", false}, {"announced", true}, {"moved", true}, {"moved back", true}} {
		s.inGroup(t, round.name, func(ctx context.Context) { s.moves(ctx, round.announce) })
		if round.announce {
			s.masters[0], s.masters[1] = s.masters[1], s.masters[0]
		}
	}
	s.refusesOthers(ctx)
}

func newVirtualScene(t *testing.T) *virtualScene {
	t.Helper()
	s := &virtualScene{fleet: newBareFleet(t, 3)}
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var ports []*api.Port
	for i, h := range s.bed.Hosts() {
		client, p := s.vm(fmt.Sprint("c", i), h, hosts.VMConfig{})
		client.Run("ip", "neigh", "replace", virtualIP, "lladdr", virtualMAC, "dev", "eth0", "nud", "permanent")
		s.clients, ports = append(s.clients, client), append(ports, p)
	}
	for i, h := range s.bed.Hosts()[:2] {
		vm, p := s.vm(fmt.Sprint("m", i), h, hosts.VMConfig{})
		p.AllowedPairs = []*api.AddressPair{{Prefix: virtualIP, Mac: virtualMAC}, {Prefix: virtualIP}}
		vm.Run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_ignore=1")
		s.masters, ports = append(s.masters, vm), append(ports, p)
	}
	s.server = s.serve(ca)
	s.join(ca)
	s.server.awaitReady(t.Context(), s.fleet, ports...)
	for _, c := range s.clients {
		for _, m := range s.masters {
			c.MustReach(m.IPs[0].Addr())
		}
	}
	return s
}

// moves gives the first of the masters the address, and takes it from the other, as a failover does. Where it announces that, all who are told so send it what is for the address, and the other nothing.
func (s *virtualScene) moves(ctx context.Context, announce bool) {
	s.t.Helper()
	owner, other := s.masters[0], s.masters[1]
	_, _ = other.Exec(ctx, "ip", "link", "del", "vrrp0") // it may not have it
	if _, err := owner.Exec(ctx, "ip", "link", "show", "vrrp0"); err != nil {
		owner.Run("sh", "-c", "ip link add vrrp0 link eth0 address "+virtualMAC+" type macvlan mode private && ip addr add "+virtualIP+"/32 dev vrrp0 && ip link set vrrp0 up")
	}
	began := time.Now()
	if announce {
		owner.Run("sh", "-c", "arping -q -c 1 -A -I vrrp0 "+virtualIP+" >/dev/null 2>&1 &") // which stays for a second after it has sent
		s.told(ctx, owner)
	}
	for _, c := range s.clients {
		s.await(ctx, "what "+c.Name+" sends comes to "+owner.Name, func() error { return c.Ping(ctx, mustAddr(virtualIP), "-c", "1", "-W", "0.1") })
	}
	s.t.Logf("%s was reached at %s by all %s after the announcement", virtualIP, owner.Name, time.Since(began).Round(time.Millisecond))
	if !announce {
		return
	}
	s.await(ctx, other.Name+" is sent nothing", func() error {
		sent := other.Capture("eth0", "icmp and dst "+virtualIP)
		for _, c := range s.clients {
			c.MustReach(mustAddr(virtualIP))
		}
		lines, err := sent.Stop()
		if err == nil && strings.Join(lines, "") != "" {
			err = fmt.Errorf("it got %v", lines)
		}
		return err
	})
}

// told hands on to all hosts what a host says of who has the address, as Top does.
func (s *virtualScene) told(ctx context.Context, owner *hosts.VM) {
	s.t.Helper()
	var said *api.Neighbor
	s.await(ctx, "the server is told that "+owner.Name+" has the address", func() error {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		if n := len(s.server.neighbors); n > 0 && s.server.neighbors[n-1].GetPort() == owner.IfaceID {
			said = s.server.neighbors[n-1]
			return nil
		}
		return fmt.Errorf("it was told %v", s.server.neighbors)
	})
	if _, err := s.server.feed.Commit(ctx, []*api.Object{{Kind: &api.Object_Neighbor{Neighbor: said}}}, nil); err != nil {
		s.t.Fatal(err)
	}
}

// refusesOthers has a client say that it has the address: it may not, and nothing changes.
func (s *virtualScene) refusesOthers(ctx context.Context) {
	s.t.Helper()
	thief := s.clients[2]
	thief.Run("ip", "neigh", "del", virtualIP, "dev", "eth0")
	thief.Run("sh", "-c", "ip link add vrrp0 link eth0 address "+virtualMAC+" type macvlan mode private && ip addr add "+virtualIP+"/32 dev vrrp0 && ip link set vrrp0 up")
	stolen := thief.Capture("eth0", "icmp and dst "+virtualIP)
	_, _ = thief.Exec(ctx, "arping", "-q", "-c", "1", "-A", "-I", "vrrp0", virtualIP)
	for _, c := range s.clients[:2] {
		c.MustReach(mustAddr(virtualIP))
	}
	if lines, err := stolen.Stop(); err != nil || strings.Join(lines, "") != "" {
		s.t.Errorf("%s may not have %s, and got what is for it: %v\n%v", thief.Name, virtualIP, err, lines)
	}
}
