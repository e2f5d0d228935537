package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestFramesAreUnderstood(t *testing.T) {
	t.Parallel()
	mac, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for _, tt := range []struct{ name, src, dst string }{{"v4", "10.0.0.1", "10.0.0.2"}, {"v6", "fd00::1", "fd00::2"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dst := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			reply := Echo(other, mac, dst, src, 1<<40)
			if _, ok := echoed(reply, dst); ok {
				t.Error("a request was taken for a reply")
			}
			if dst.Is4() {
				reply[34] = 0
			} else {
				reply[54] = 129
			}
			if n, ok := echoed(reply, dst); !ok || n != 1<<40 {
				t.Errorf("echoed is %d, %t", n, ok)
			}
			if got := solicited(Solicit(mac, src, dst), dst); got != nil {
				t.Errorf("a question was taken for the answer %s", got)
			}
		})
	}
	if got := solicited(Advertise(other, netip.MustParseAddr("fd00::2")), netip.MustParseAddr("fd00::2")); got.String() != other.String() {
		t.Errorf("advertised is %s, want %s", got, other)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	times := Times{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := times.Quantile(q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if got := (Times{}).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

// an offer as a server sends it.
func offered() []byte {
	frame := dhcp(net.HardwareAddr{2, 0, 0, 0, 0, 1}, 7, offer, Lease{})
	b := frame[headers+20:]
	binary.BigEndian.PutUint16(b, 67)
	b[8] = 2
	copy(b[8+16:], []byte{10, 0, 0, 9})
	return frame
}

func TestOfferIsUnderstood(t *testing.T) {
	t.Parallel()
	id, kind, lease, ok := dhcpReply(offered())
	if !ok || id != 7 || kind != offer || lease.Addr != netip.MustParseAddr("10.0.0.9") {
		t.Errorf("offer is %d, %d, %v, %t", id, kind, lease, ok)
	}
}

func FuzzReceived(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	f.Add(offered())
	for _, a := range []netip.Addr{v4, v6} {
		f.Add(Echo(mac, mac, a, a, 1))
		f.Add(Solicit(mac, a, a))
	}
	f.Add(Advertise(mac, v6))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		dhcpReply(frame)
		for _, a := range []netip.Addr{v4, v6} {
			echoed(frame, a)
			solicited(frame, a)
		}
	})
}
