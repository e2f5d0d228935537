package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// routeScene is three networks: red and blue have one router, and green is behind another one, beyond a network that takes smaller packets.
type routeScene struct {
	*fleet
	red, blue, green *hosts.VM
}

// Guests of different networks and hosts reach each other through routers that are everywhere, and routers say what is wrong with a packet.
func TestAgentsRouteBetweenNetworks(t *testing.T) {
	t.Parallel()
	s := &routeScene{fleet: newFleet(t, 3)}
	s.network("red", 11, 1450, "10.1.0.0/24", "fd01::/64")
	s.network("blue", 12, 1450, "10.2.0.0/24", "fd02::/64")
	s.network("green", 13, 1450, "10.3.0.0/24", "fd03::/64")
	s.network("narrow", 14, 1300, "10.4.0.0/24", "fd04::/64")
	r1 := s.router("r1", 21, "red 10.1.0.1/24 fd01::1/64", "blue 10.2.0.1/24 fd02::1/64", "narrow 10.4.0.1/24 fd04::1/64")
	r2 := s.router("r2", 22, "green 10.3.0.1/24 fd03::1/64", "narrow 10.4.0.2/24 fd04::2/64")
	r1.Routes = []*api.StaticRoute{{Destination: "10.3.0.0/24", NextHops: []string{"10.4.0.2"}}, {Destination: "fd03::/64", NextHops: []string{"fd04::2"}}}
	r2.Routes = []*api.StaticRoute{{Destination: "10.0.0.0/14", NextHops: []string{"10.4.0.1"}}, {Destination: "fd00::/12", NextHops: []string{"fd04::1"}}}
	h := s.bed.Hosts()
	s.red, _ = s.guest("red", h[0], "red", hosts.VMConfig{}, "10.1.0.11/24", "fd01::11/64")
	s.blue, _ = s.guest("blue", h[1], "blue", hosts.VMConfig{}, "10.2.0.12/24", "fd02::12/64")
	s.green, _ = s.guest("green", h[2], "green", hosts.VMConfig{}, "10.3.0.13/24", "fd03::13/64")
	s.settle(t.Context())
	for _, vm := range []*hosts.VM{s.red, s.blue, s.green} {
		serve(vm, 7)
	}
	for _, part := range []struct {
		name string
		test func(context.Context)
	}{{"all to all", s.all}, {"TTL", s.ttl}, {"too big", s.tooBig}, {"the router itself", s.itself}} {
		s.inGroup(t, part.name, part.test)
	}
}

func (s *routeScene) all(ctx context.Context) {
	vms := []*hosts.VM{s.red, s.blue, s.green}
	for _, from := range vms {
		for _, to := range vms {
			if from == to {
				continue
			}
			for i, p := range to.IPs {
				from.MustReach(p.Addr())
				s.talks(ctx, from.Node, netip.AddrPortFrom(p.Addr(), 7), from.IPs[i].Addr().String())
			}
		}
	}
}

// says fails the test unless ping is told all the words by somebody on the way.
func (s *routeScene) says(ctx context.Context, from *hosts.VM, dst string, args []string, words ...string) {
	s.t.Helper()
	s.await(ctx, fmt.Sprintf("ping %s %s", strings.Join(args, " "), dst), func() error {
		out, err := from.Exec(ctx, "ping", append(append([]string{"-n", "-c", "1", "-W", "2"}, args...), dst)...)
		said := out
		if err != nil { // ping ends with 1 where no answer came, as it should here
			said += err.Error()
		}
		for _, w := range words {
			if !strings.Contains(said, w) {
				return fmt.Errorf("nobody says %q: %s", w, said)
			}
		}
		return nil
	})
}

func (s *routeScene) ttl(ctx context.Context) {
	s.says(ctx, s.red, "10.2.0.12", []string{"-t", "1"}, "From 10.1.0.1 ", "Time to live exceeded")
	s.says(ctx, s.red, "fd02::12", []string{"-t", "1"}, "From fd01::1 ", "Time exceeded: Hop limit")
	s.says(ctx, s.red, "10.2.0.12", []string{"-t", "2"}, "1 received")
	// By the second router on the way too, as it is called by its side of the network that the packet came from.
	s.says(ctx, s.red, "10.3.0.13", []string{"-t", "2"}, "From 10.4.0.2 ", "Time to live exceeded")
	s.says(ctx, s.red, "fd03::13", []string{"-t", "2"}, "From fd04::2 ", "Time exceeded: Hop limit")
	s.says(ctx, s.red, "10.3.0.13", []string{"-t", "3"}, "1 received")
	s.says(ctx, s.red, "fd03::13", []string{"-t", "3"}, "1 received")
}

func (s *routeScene) tooBig(ctx context.Context) {
	s.says(ctx, s.red, "10.3.0.13", []string{"-M", "do", "-s", "1400"}, "From 10.1.0.1 ", "Frag needed and DF set (mtu = 1300)")
	s.says(ctx, s.red, "fd03::13", []string{"-M", "do", "-s", "1380"}, "From fd01::1 ", "Packet too big: mtu=1300")
	s.says(ctx, s.red, "10.3.0.13", []string{"-M", "do", "-s", "1272"}, "1 received") // 28 bytes of headers
	s.says(ctx, s.red, "fd03::13", []string{"-M", "do", "-s", "1252"}, "1 received")  // 48
	// Both ends have no idea, and say that they take 1450: TCP gets through by what the routers say.
	s.red.Run("ip", "route", "flush", "cache")
	s.red.Run("ip", "-6", "route", "flush", "cache")
	for _, p := range s.green.IPs {
		if err := transfer(ctx, s.red, netip.AddrPortFrom(p.Addr(), 7)); err != nil {
			s.t.Errorf("TCP from red to %s, and back: %v", p.Addr(), err)
		}
	}
}

// transfer sends lines much longer than a packet, and reads them back.
func transfer(ctx context.Context, from *hosts.VM, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all was read
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	line := append(bytes.Repeat([]byte{'x'}, 20_000), '\n')
	in := bufio.NewReader(c)
	for range 5 {
		if _, err := c.Write(line); err != nil {
			return err
		}
		got, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(got, line) {
			return fmt.Errorf("%d bytes came back, which are not those that were sent", len(got))
		}
	}
	return nil
}

// What a router itself is asked for: an echo is answered, a port is not there.
func (s *routeScene) itself(ctx context.Context) {
	for _, a := range []string{"10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1"} {
		s.red.MustReach(mustAddr(a))
		s.refused(ctx, s.red.Node, "udp", at(a, 9))
		s.refused(ctx, s.red.Node, "tcp", at(a, 9))
	}
}
