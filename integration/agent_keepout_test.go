package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// What a guest may not say does not come out of its host, and is counted under its reason.
func TestAgentsKeepOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	ctx := t.Context()
	h := f.bed.Hosts()
	a, _ := f.vm("a", h[0], hosts.VMConfig{})
	beside, _ := f.vm("b", h[0], hosts.VMConfig{})
	away, _ := f.vm("c", h[1], hosts.VMConfig{})
	other, _ := f.vm("d", h[2], hosts.VMConfig{})
	f.settle(ctx)
	mac, v4, v6 := a.MAC, a.IPs[0].Addr(), a.IPs[1].Addr()
	link := mustAddr(eui64("fe80::", mac))
	foreign, foreign4, foreign6 := other.MAC, other.IPs[0].Addr(), other.IPs[1].Addr()

	for _, victim := range []*hosts.VM{beside, away} {
		to, to4, to6 := victim.MAC, victim.IPs[0].Addr(), victim.IPs[1].Addr()
		w, before, sent := f.watch(a, victim), f.drops(ctx, h[0]), map[string]uint64{}
		for _, tt := range []struct {
			name, reason string
			frame        func(mark []byte) []byte
		}{
			{"another's Ethernet address", "source-mac", func(m []byte) []byte {
				return probe.UDP(foreign, to, netip.AddrPortFrom(v4, 9), netip.AddrPortFrom(to4, 9), m)
			}},
			{"another's IPv4 address", "source-ip", func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(foreign4, 9), netip.AddrPortFrom(to4, 9), m)
			}},
			{"another's IPv6 address", "source-ip", func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(foreign6, 9), netip.AddrPortFrom(to6, 9), m)
			}},
			{"no address at all", "source-ip", func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(netip.IPv4Unspecified(), 9), netip.AddrPortFrom(to4, 9), m)
			}},
			{"ARP for another's address", "source-mac", func(m []byte) []byte {
				return append(probe.ARP(0x0806, 2, mac, foreign4, to, to4, to), m...)
			}},
			{"ARP for another's Ethernet address", "source-mac", func(m []byte) []byte {
				b := append(probe.ARP(0x0806, 2, foreign, v4, to, to4, to), m...)
				copy(b[6:12], mac)
				return b
			}},
			{"gratuitous ARP for another's address", "source-mac", func(m []byte) []byte {
				return append(probe.ARP(0x0806, 1, mac, foreign4, make(net.HardwareAddr, 6), foreign4, probe.Broadcast()), m...)
			}},
			{"neighbour advertisement for another's address", "source-nd", func(m []byte) []byte {
				return append(probe.Advertise(mac, foreign6), m...)
			}},
			{"neighbour advertisement of another's Ethernet address", "source-nd", func(m []byte) []byte {
				b := append(probe.Advertise(foreign, v6), m...)
				copy(b[6:12], mac)
				return b
			}},
			{"router advertisement", "rogue-router", func(m []byte) []byte {
				return append(probe.IP(mac, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, link, mustAddr("ff02::1"), 58, 255, routerAdvertisement()), m...)
			}},
			{"redirect", "rogue-router", func(m []byte) []byte {
				body := append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, append(v6.AsSlice(), to6.AsSlice()...)...)
				return append(probe.IP(mac, to, link, to6, 58, 255, body), m...)
			}},
			{"DHCP server", "rogue-dhcp", func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(v4, 67), netip.AddrPortFrom(to4, 68), m)
			}},
			{"DHCP server for all", "rogue-dhcp", func(m []byte) []byte {
				return probe.UDP(mac, probe.Broadcast(), netip.AddrPortFrom(v4, 67), netip.AddrPortFrom(mustAddr("255.255.255.255"), 68), m)
			}},
			{"DHCPv6 server", "rogue-dhcp", func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(link, 547), netip.AddrPortFrom(to6, 546), m)
			}},
			{"another kind of frame", "source-mac", func(m []byte) []byte { return probe.Ethernet(to, mac, 0x88cc, m) }},
		} {
			if w.arrives(ctx, tt.frame) {
				t.Errorf("%s arrives at %s", tt.name, victim.Name)
			}
			sent[tt.reason]++
		}
		f.await(ctx, "all is counted", func() error {
			now := f.drops(ctx, h[0])
			for reason, n := range sent {
				if now[reason] < before[reason]+n {
					return fmt.Errorf("%s is at %d, and was at %d before %d of that were sent", reason, now[reason], before[reason], n)
				}
			}
			return nil
		})
		// What it may say passes, by the same way.
		for name, frame := range map[string]func(m []byte) []byte{
			"its own ARP":                     func(m []byte) []byte { return append(probe.ARP(0x0806, 2, mac, v4, to, to4, to), m...) },
			"its own neighbour advertisement": func(m []byte) []byte { return append(probe.Advertise(mac, v6), m...) },
			"from its own link-local address": func(m []byte) []byte {
				return probe.UDP(mac, to, netip.AddrPortFrom(link, 9), netip.AddrPortFrom(to6, 9), m)
			},
		} {
			if !w.arrives(ctx, frame) {
				t.Errorf("%s does not arrive at %s", name, victim.Name)
			}
		}
	}
}

// routerAdvertisement is one that would be believed: RFC 4861 section 4.2, for half an hour.
func routerAdvertisement() []byte {
	return []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
}

// watcher sends frames from a VM and sees which of them arrive at another.
type watcher struct {
	f        *fleet
	from, to *hosts.VM
	out, in  *probe.Socket
	sent     uint64
}

func (f *fleet) watch(from, to *hosts.VM) *watcher {
	f.t.Helper()
	w := &watcher{f: f, from: from, to: to}
	var err error
	if w.out, err = probe.Open(from, "eth0"); err != nil {
		f.t.Fatal(err)
	}
	if w.in, err = probe.Open(to, "eth0"); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = w.out.Close(); _ = w.in.Close() })
	return w
}

// mark is something to know a frame by.
func (w *watcher) mark() []byte {
	w.sent++
	return binary.BigEndian.AppendUint64([]byte("mark"), w.sent)
}

// arrives sends a frame and says whether it arrives. A datagram that is known to pass is sent behind it: when that is there and the frame is not, the
// frame does not come any more, since a switch keeps the order in which packets come from a port.
func (w *watcher) arrives(ctx context.Context, frame func(mark []byte) []byte) bool {
	w.f.t.Helper()
	tested, behind := w.mark(), w.mark()
	if err := w.out.Send(frame(tested)); err != nil {
		w.f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		if err := w.out.Send(probe.UDP(w.from.MAC, w.to.MAC, netip.AddrPortFrom(w.from.IPs[0].Addr(), 1), netip.AddrPortFrom(w.to.IPs[0].Addr(), 1), behind)); err != nil {
			w.f.t.Fatal(err)
		}
		again, done := context.WithTimeout(ctx, 5*time.Second)
		arrived := false
		_, err := w.in.Await(again, func(got []byte) bool {
			arrived = arrived || bytes.Contains(got, tested)
			return bytes.Contains(got, behind)
		})
		done()
		if err == nil || arrived {
			return arrived
		}
		if ctx.Err() != nil {
			w.f.t.Fatalf("not even a datagram that may pass arrives at %s: %v", w.to.Name, err)
		}
	}
}
