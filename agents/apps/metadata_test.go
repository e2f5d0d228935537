package apps

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// tcpGuest is a guest with a TCP of its own behind a port, whose packets to the metadata address the switch sends up.
type tcpGuest struct {
	port, network uint32
	mac           state.MAC
	addr          netip.Addr
	link          *channel.Endpoint
	stack         *stack.Stack
}

func newGuest(tb testing.TB, port, network uint32, mac state.MAC, a string) *tcpGuest {
	tb.Helper()
	g := &tcpGuest{port: port, network: network, mac: mac, addr: addr(a), link: channel.New(256, 1442, "")}
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := g.stack.CreateNIC(1, g.link); err != nil {
		tb.Fatal(err)
	}
	if err := g.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: protocolOf(g.addr), AddressWithPrefix: tcpip.AddrFromSlice(g.addr.AsSlice()).WithPrefix()},
		stack.AddressProperties{}); err != nil {
		tb.Fatal(err)
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1}})
	tb.Cleanup(g.stack.Destroy)
	return g
}

// run brings the guest's packets to the services until ctx ends.
func (g *tcpGuest) run(ctx context.Context, a *Apps) {
	var w writer
	kind := layers.EthernetTypeIPv4
	if g.addr.Is6() {
		kind = layers.EthernetTypeIPv6
	}
	for {
		p := g.link.ReadContext(ctx)
		if p == nil {
			return
		}
		a.Submit(from(flows.OpMetadata, g.port, g.network, w.ethernet(g.mac, macRouter, kind, slices.Concat(p.AsSlices()...))))
		p.DecRef()
	}
}

// take gets a frame from the services.
func (g *tcpGuest) take(frame []byte) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(slices.Clone(frame[14:]))})
	defer p.DecRef()
	g.link.InjectInbound(protocolOf(g.addr), p)
}

func (g *tcpGuest) client(to netip.Addr) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(to.AsSlice()), Port: 80}, protocolOf(to))
	}}}
}

// Guests of two tenants with one and the same address, and one over IPv6, each get the metadata of their own server, whatever they say of themselves.
func TestMetadata(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%s of %s at %s, signed %s, %s %s", r.Header.Get("X-Instance-ID"), r.Header.Get("X-Tenant-ID"), strings.Join(r.Header.Values("X-Forwarded-For"), "+"),
			r.Header.Get("X-Instance-ID-Signature")[:8], r.URL.Path, r.Header.Get("X-Evil"))
	}))
	t.Cleanup(upstream.Close)
	store := state.NewStore()
	store.Apply(append(objects(),
		&state.Port{ID: "vm2", Key: keyVM2, Network: "isle", Project: "p2", MAC: macVM2, Host: "h1", Device: "server-2", FixedIPs: []state.FixedIP{{Subnet: "i4", Address: addr("10.0.0.11")}}},
	), nil)
	guests := map[uint32]*tcpGuest{}
	var mu sync.Mutex
	deliver := func(_ context.Context, replies []Reply) error {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range replies {
			if g := guests[r.Port]; g != nil && state.MACOf(r.Frame) == g.mac && state.MACOf(r.Frame[6:]) == macRouter {
				g.take(r.Frame)
			}
		}
		return nil
	}
	a, err := New(Config{Host: "h1", Store: store, Send: deliver, Metadata: MetadataConfig{Upstream: upstream.URL, Secret: "s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	get := func(g *tcpGuest, to netip.Addr, path string) (int, string) {
		mu.Lock()
		guests[g.port] = g
		mu.Unlock()
		wg.Go(func() { g.run(ctx, a) })
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://metadata"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Instance-Id": {"server-9"}, "X-Forwarded-For": {"6.6.6.6"}, "X-Tenant-Id": {"p9"}, "X-Evil": {"yes"}}
		resp, err := g.client(to).Do(req)
		if err != nil {
			t.Fatalf("port %d: %v", g.port, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, tt := range []struct {
		guest  *tcpGuest
		to     netip.Addr
		path   string
		status int
		want   string
	}{
		{newGuest(t, keyVM1, keyNet, macVM1, "10.0.0.11"), state.MetadataIPv4(), "/openstack", 200, "server-1 of p1 at 10.0.0.11, signed "},
		{newGuest(t, keyVM2, keyIsle, macVM2, "10.0.0.11"), state.MetadataIPv4(), "/openstack", 200, "server-2 of p2 at 10.0.0.11, signed "},
		{newGuest(t, keyVM1, keyNet, macVM1, macVM1.LinkLocal().String()), state.MetadataIPv6(), "/latest", 200, "server-1 of p1 at 10.0.0.11, signed "},
		{newGuest(t, keyVM1, keyNet, macVM1, "10.0.0.11"), state.MetadataIPv4(), "/down", 503, "the metadata service does not answer"},
		{newGuest(t, keyVM3, keyNet, macVM3, "10.0.0.13"), state.MetadataIPv4(), "/", 404, "no server is known"},
	} {
		status, body := get(tt.guest, tt.to, tt.path)
		if status != tt.status || !strings.HasPrefix(body, tt.want) || strings.Contains(body, "yes") {
			t.Errorf("port %d at %s: %d %q, want %d %q", tt.guest.port, tt.to, status, body, tt.status, tt.want)
		}
	}
	for outcome, want := range map[string]float64{metadataAnswered: 3, metadataUnavailable: 1, metadataUnknown: 1} {
		if n := testutil.ToFloat64(a.metrics.metadata.WithLabelValues(outcome)); n != want {
			t.Errorf("%.0f requests counted as %s, want %.0f", n, outcome, want)
		}
	}
}

func TestMetadataConfig(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  MetadataConfig
		want string
	}{
		{MetadataConfig{}, ""},
		{MetadataConfig{Upstream: "http://nova:8775", Secret: "x"}, ""},
		{MetadataConfig{Upstream: "nova:8775", Secret: "x"}, "write a URL"},
		{MetadataConfig{Upstream: "http://nova:8775"}, "metadata secret"},
	} {
		if err := tt.cfg.Validate(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

// Each guest has a number for as long as it says something, and its packets keep their checksums under another address.
func TestGuests(t *testing.T) {
	t.Parallel()
	g, now := newGuests(2, 2), time.Unix(1_800_000_000, 0)
	first := contact{guest{1, addr("10.0.0.1")}, 1, 2, now}
	second := contact{guest{2, addr("10.0.0.1")}, 1, 2, now}
	if a, b, again := g.enter(first), g.enter(second), g.enter(first); a == b || a == 0 || b == 0 || again != a {
		t.Errorf("numbers %d %d %d", a, b, again)
	}
	third := contact{guest{3, addr("fe80::1")}, 1, 2, now.Add(time.Minute)}
	if n := g.enter(third); n != 0 {
		t.Errorf("a third got %d, want none while two are busy", n)
	}
	third.seen = now.Add(guestIdle + time.Second)
	n := g.enter(third)
	if c, ok := g.find(n); !ok || c.guest != third.guest {
		t.Errorf("number %d is %+v", n, c)
	}
	for _, four := range []bool{true, false} {
		for _, n := range []uint32{1, 255, 256, 1 << 16} {
			if got := guestNumber(insideAddress(n, four)); got != n {
				t.Errorf("number %d came back as %d", n, got)
			}
		}
	}
	for _, a := range []string{"169.254.169.254", "11.0.0.1", "fd01::1", "fd00::1:0:1", "::1"} {
		if n := guestNumber(addr(a)); n != 0 {
			t.Errorf("%s is number %d", a, n)
		}
	}
}

// A port that may have any address takes its own numbers only, and one that opens connections without end its own only.
func TestOnePortLeavesRoom(t *testing.T) {
	t.Parallel()
	g, now := newGuests(100, 10), time.Unix(1_800_000_000, 0)
	for i := range 1_000 {
		n := g.enter(contact{guest{1, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, 1, 2, now})
		if (n != 0) != (i < 10) {
			t.Fatalf("address %d of the port got number %d", i, n)
		}
	}
	if n := g.enter(contact{guest{2, addr("10.0.0.1")}, 1, 2, now}); n == 0 {
		t.Error("another port got no number")
	}
	later := now.Add(guestIdle + time.Second)
	if n := g.enter(contact{guest{1, addr("10.9.9.9")}, 1, 2, later}); n == 0 || len(g.ports[1]) != 10 || len(g.numbers) != 11 {
		t.Errorf("a new address of the port got number %d where its old ones were idle; %d of the port, %d in all", n, len(g.ports[1]), len(g.numbers))
	}

	var open connections
	mine := 0
	for open.enter(1) {
		mine++
	}
	if mine != metadataEach || !open.enter(2) {
		t.Errorf("one port has %d connections, want %d, and room for others", mine, metadataEach)
	}
	open.leave(1)
	if !open.enter(1) {
		t.Error("a connection that ended left no room")
	}
}

func FuzzReaddress(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 11, 169, 254, 169, 254, 1, 2, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, ip []byte, destination bool) {
		for _, a := range []netip.Addr{insideAddress(7, true), insideAddress(7, false)} {
			b := slices.Clone(ip)
			if !readdress(b, destination, a) {
				continue
			}
			// The sum over all words is what it was: the checksums took up the difference.
			head := int(b[0]&15) * 4
			if a.Is4() && fold(sum16(b[:head], 0))%0xffff != fold(sum16(ip[:head], 0))%0xffff {
				t.Errorf("the header's sum has changed: %x %x", ip, b)
			}
			if binary.BigEndian.Uint16(b) != binary.BigEndian.Uint16(ip) {
				t.Error("something else has changed")
			}
		}
	})
}
