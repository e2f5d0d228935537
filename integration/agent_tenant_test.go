package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// network adds a network with a subnet for each prefix, id-4 and id-6, whose gateway is the first address.
func (f *fleet) network(id string, key, mtu uint32, prefixes ...string) []*api.Subnet {
	f.t.Helper()
	f.state.Networks = append(f.state.Networks, &api.Network{Id: id, Key: key, Mtu: mtu})
	var subnets []*api.Subnet
	for _, p := range prefixes {
		cidr := netip.MustParsePrefix(p)
		s := &api.Subnet{Id: fmt.Sprintf("%s-%d", id, family(cidr.Addr())), Network: id, Cidr: p, Gateway: cidr.Addr().Next().String()}
		subnets = append(subnets, s)
	}
	f.state.Subnets = append(f.state.Subnets, subnets...)
	return subnets
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// router adds a router whose interfaces have the addresses "NETWORK ADDRESS/LENGTH ...".
func (f *fleet) router(id string, key uint32, interfaces ...string) *api.Router {
	r := &api.Router{Id: id, Key: key}
	for i, text := range interfaces {
		words := strings.Fields(text)
		r.Interfaces = append(r.Interfaces, &api.RouterInterface{Network: words[0], Mac: fmt.Sprintf("fa:16:3e:0a:%02x:%02x", key, i), Addresses: words[1:]})
	}
	f.state.Routers = append(f.state.Routers, r)
	return r
}

// guest makes a VM that has its addresses already, and its port, which the next commit tells the agents. Its default routes lead to the first
// address of each prefix.
func (f *fleet) guest(name string, h *hosts.Host, network string, cfg hosts.VMConfig, addresses ...string) (*hosts.VM, *api.Port) {
	f.t.Helper()
	for _, a := range addresses {
		p := netip.MustParsePrefix(a)
		cfg.IPs, cfg.Gateways = append(cfg.IPs, p), append(cfg.Gateways, p.Masked().Addr().Next())
	}
	vm := f.bed.VM(name, h, cfg)
	return vm, f.bind(vm, network, addresses...)
}

// bind makes the port of a VM, with the addresses that the VM has or will get.
func (f *fleet) bind(vm *hosts.VM, network string, addresses ...string) *api.Port {
	f.t.Helper()
	f.port++
	p := &api.Port{Id: vm.IfaceID, Key: f.port, Network: network, Project: "project-" + network, Device: "server-" + vm.Name, Mac: vm.MAC.String(), Host: vm.Host().Name,
		PortSecurity: true, BindingEpoch: 1}
	for _, a := range addresses {
		addr := netip.MustParsePrefix(a).Addr()
		p.FixedIps = append(p.FixedIps, &api.FixedIP{Subnet: fmt.Sprintf("%s-%d", network, family(addr)), Address: addr.String()})
	}
	f.allow(p)
	f.state.Ports = append(f.state.Ports, p)
	return p
}

// settle commits, and waits until the switches of all hosts carry out what the file says. An agent that has found neighbours outside has flows for
// them that no file knows, so that this is for tests without an outside.
func (f *fleet) settle(ctx context.Context) {
	f.t.Helper()
	f.commit()
	for _, h := range f.bed.Hosts() {
		f.await(ctx, h.Name+" carries out the file", func() error {
			out, err := f.tool(ctx, h, "plan", "--state", f.file(h))
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			}
			return err
		})
	}
}

// drops are how many packets the switch of a host has dropped, by reason.
func (f *fleet) drops(ctx context.Context, h *hosts.Host) map[string]uint64 {
	f.t.Helper()
	out, err := f.tool(ctx, h, "flows", "--json")
	if err != nil {
		f.t.Fatal(err)
	}
	var list []agent.Flow
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		f.t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, flow := range list {
		if !strings.Contains(flow.About, " ") { // other flows are about an object: "port ...", "network ..."
			counts[flow.About] += flow.Packets
		}
	}
	return counts
}

// talks fails the test unless exchanges over TCP and UDP go well within a while, and the answerer sees one of the addresses.
func (f *fleet) talks(ctx context.Context, from *hosts.Node, to netip.AddrPort, seenAs ...string) {
	f.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		f.await(ctx, fmt.Sprintf("%s talks %s to %s", from.Name, network, to), func() error {
			seen, err := from.Talk(ctx, network, to)
			if err != nil {
				return err
			}
			for _, a := range seenAs {
				if seen.Addr() == netip.MustParseAddr(a) {
					return nil
				}
			}
			return fmt.Errorf("it is seen as %s, want %s", seen, strings.Join(seenAs, " or "))
		})
	}
}

// serve answers over TCP and UDP at all addresses of a VM.
func serve(vm *hosts.VM, port uint16) {
	for _, p := range vm.IPs {
		for _, network := range []string{"tcp", "udp"} {
			vm.Serve(network, netip.AddrPortFrom(p.Addr(), port))
		}
	}
}

// refused fails the test unless what is sent to a port brings the error of ICMP back.
func (f *fleet) refused(ctx context.Context, from *hosts.Node, network string, to netip.AddrPort) {
	f.t.Helper()
	f.await(ctx, fmt.Sprintf("%s %s is refused to %s", network, to, from.Name), func() error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if _, err := from.Talk(ctx, network, to); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("it ended with %w", errors.Join(err))
		}
		return nil
	})
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(a string, port uint16) netip.AddrPort { return netip.AddrPortFrom(mustAddr(a), port) }

// inGroup runs a part of a test of a fleet: its failures are the part's own.
func (f *fleet) inGroup(t *testing.T, name string, test func(ctx context.Context)) {
	t.Helper()
	t.Run(name, func(part *testing.T) {
		f.t = part
		defer func() { f.t = t }()
		test(part.Context())
	})
}
