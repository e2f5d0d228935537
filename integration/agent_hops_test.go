package integration

import (
	"fmt"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Two guests are the next hops of one route, and both have the address that it leads to. While one of them is gone all connections find the other one: it was
// unplugged from the sender's own host, its port was put down, its host has told that nothing is plugged.
func TestAgentsPassDeadHopsOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	ctx := t.Context()
	h := f.bed.Hosts()
	f.network("red", 11, 1450, "10.1.0.0/24", "fd01::/64")
	f.router("r1", 21, "red 10.1.0.1/24 fd01::1/64").Routes = []*api.StaticRoute{{Destination: "10.9.0.0/24", NextHops: []string{"10.1.0.12", "10.1.0.13"}}}
	from, _ := f.guest("from", h[0], "red", hosts.VMConfig{}, "10.1.0.11/24", "fd01::11/64")
	first, near := f.guest("first", h[0], "red", hosts.VMConfig{}, "10.1.0.12/24", "fd01::12/64")
	second, away := f.guest("second", h[1], "red", hosts.VMConfig{}, "10.1.0.13/24", "fd01::13/64")
	for _, vm := range []*hosts.VM{first, second} {
		vm.Run("ip", "addr", "add", "10.9.0.1/32", "dev", "lo")
		vm.Serve("tcp", at("10.9.0.1", 7))
	}
	for _, p := range []*api.Port{near, away} {
		p.AllowedPairs = []*api.AddressPair{{Prefix: "10.9.0.0/24"}}
	}
	f.settle(ctx)
	from.MustReach(second.IPs[0].Addr()) // the switches know each other
	connect := func(what string) {
		t.Helper()
		f.await(ctx, what, func() error {
			for i := range 20 {
				if _, err := from.Talk(ctx, "tcp", at("10.9.0.1", 7)); err != nil {
					return fmt.Errorf("connection %d: %w", i+1, err)
				}
			}
			return nil
		})
	}
	connect("both are there")
	near.Down = true
	f.settle(ctx)
	connect("the near one's port is down")
	near.Down, away.Unplugged = false, true
	f.settle(ctx)
	connect("the other host has told that nothing is plugged")
	away.Unplugged = false
	f.settle(ctx)
	first.Unplug()
	connect("the near one was unplugged")
}
