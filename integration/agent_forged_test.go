package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// vxlan wraps a frame as a host does for another (RFC 7348 section 5).
func vxlan(key uint64, frame []byte) []byte {
	header := binary.BigEndian.AppendUint64(nil, 8<<56|key<<8)
	return append(header, frame...)
}

// Who reaches the hosts' tunnels in the underlay and is no host speaks to nobody by them, whatever he writes into a packet; it is counted. The same packet from a host passes,
// also from one that has nothing to do with the network so far.
func TestForgedTunnelPackets(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	ctx := t.Context()
	h := f.bed.Hosts()
	a, port := f.vm("a", h[0], hosts.VMConfig{})
	b, _ := f.vm("b", h[1], hosts.VMConfig{})
	f.settle(ctx)
	a.MustReach(b.IPs[0].Addr())
	socket, err := probe.Open(a, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // all was read

	at := netip.AddrPortFrom(h[0].UnderlayIP, 4789)
	send := func(from *hosts.Node, key uint64, mark string) {
		t.Helper()
		frame := probe.UDP(b.MAC, a.MAC, netip.AddrPortFrom(b.IPs[0].Addr(), 9), netip.AddrPortFrom(a.IPs[0].Addr(), 9), []byte(mark))
		c, err := from.Dial(ctx, "udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Write(vxlan(key, frame))
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		key  uint64
	}{
		{"for the port", flows.TunnelKey(flows.TunnelPort, port.Key)},
		{"for the port, as if it had moved", flows.TunnelKey(flows.TunnelMoved, port.Key)},
		{"for all of the network", flows.TunnelKey(flows.TunnelNetwork, 1)},
	} {
		before := f.drops(ctx, h[0])["tunnel-source"]
		forged, honest := fmt.Sprintf("forged %x;", tt.key), fmt.Sprintf("honest %x;", tt.key)
		f.await(ctx, tt.name+": they are counted", func() error {
			send(f.bed.Site(1), tt.key, forged) // the first ones may be lost while the underlay finds out whose address the host's is
			if n := f.drops(ctx, h[0])["tunnel-source"] - before; n < 5 {
				return fmt.Errorf("%d are counted", n)
			}
			return nil
		})
		f.await(ctx, tt.name+": a host's packet arrives", func() error {
			send(h[2].Node, tt.key, honest)
			soon, done := context.WithTimeout(ctx, time.Second)
			defer done()
			_, err := socket.Await(soon, func(got []byte) bool {
				if bytes.Contains(got, []byte("forged")) {
					t.Fatalf("%s: a forged packet arrives", tt.name)
				}
				return bytes.Contains(got, []byte(honest))
			})
			return err
		})
	}
	a.MustReach(b.IPs[0].Addr())
	a.MustReach(b.IPs[1].Addr())
}

// A host gets another address in the underlay in three steps: it has both, it uses the new one, it has the new one only. Its VMs are reached all the time.
func TestTunnelAddressChanges(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	ctx := t.Context()
	h := f.bed.Hosts()
	a, _ := f.vm("a", h[0], hosts.VMConfig{})
	b, _ := f.vm("b", h[1], hosts.VMConfig{})
	f.settle(ctx)
	a.MustReach(b.IPs[0].Addr())
	old, next := &api.TunnelEnd{Address: h[1].UnderlayIP.String()}, &api.TunnelEnd{Address: "172.31.1.150"}
	h[1].Run("ip", "addr", "add", next.Address+"/24", "dev", hosts.Underlay)
	p := f.pings(ctx, a, b)
	for _, ends := range [][]*api.TunnelEnd{{old, next}, {next, old}, {next}} {
		f.state.Hosts[1].TunnelEnds = ends
		f.settle(ctx)
		f.same(ctx)
		p.go1(ctx, 100)
	}
	if lost := p.stop("another address"); lost > 50 {
		t.Errorf("%d pings were lost", lost)
	}
}
