package apps

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Directors are asked by falling altitude until one answers; one that panics is contained, logged once and counted; what nobody answers goes on.
func TestChainOrder(t *testing.T) {
	t.Parallel()
	var asked []string
	var log bytes.Buffer
	make := func(name string, altitude int, o Outcome) director {
		return director{name, altitude, []flows.Op{flows.OpDNS}, false, func(*Case) Outcome { asked = append(asked, name); return o }}
	}
	bad := director{"bad", 900, []flows.Op{flows.OpTrace}, false, func(c *Case) Outcome { c.toPort(nil); return Outcome(c.Frame[99]) }}
	var seen []string
	ch := newChain(slog.New(slog.NewTextHandler(&log, nil)), nil, []director{make("low", 100, Answered), make("high", 800, Passed), make("middle", 500, Silent), bad},
		[]observer{func(_ *Case, name string, o Outcome) { seen = append(seen, name+" "+o.String()) }})
	c := &Case{}
	if o := ch.answer(c, &Packet{Op: flows.OpDNS}, nil, time.Time{}); o != Silent || !slices.Equal(asked, []string{"high", "middle"}) {
		t.Errorf("%s, asked %v", o, asked)
	}
	for range 2 {
		if o := ch.answer(c, &Packet{Op: flows.OpTrace}, nil, time.Time{}); o != Panicked || len(c.Replies) != 0 {
			t.Errorf("%s with %d replies", o, len(c.Replies))
		}
	}
	if n := strings.Count(log.String(), "packet director panicked"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	p := paused(Packet{Op: flows.OpTTL})
	if o := ch.answer(c, &p, nil, time.Time{}); o != Passed || len(c.Replies) != 1 || c.Replies[0].To != ToResume {
		t.Errorf("%s, %+v", o, c.Replies)
	}
	if !slices.Equal(seen, []string{"middle silent", "bad panicked", "bad panicked", "none passed"}) {
		t.Errorf("observed %q", seen)
	}
}

// What the switch says of a packet, and what it is told, in OpenFlow.
func TestWire(t *testing.T) {
	t.Parallel()
	frame := udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, nil)
	in := &openflow.PacketIn2{Packet: frame, UserData: []byte{byte(flows.OpNeighbor), 7}, Continuation: []byte{9}, Metadata: openflow.Match{}.Num(openflow.InPort, 5).
		Num(flows.RSource, keyVM1).Num(flows.ROutNet, keyOut).Num(flows.RNextHop, 0xcb007101).Num(openflow.Metadata, keyRouter<<flows.MetaRouterFrom|keyNet)}
	p, ok := FromSwitch(in)
	if !ok || p.Op != flows.OpNeighbor || p.InPort != 5 || p.Source != keyVM1 || p.Network != keyNet || p.Router != keyRouter || p.OutNet != keyOut ||
		p.NextHop != addr("203.0.113.1") || p.Paused != in || !bytes.Equal(p.Data, []byte{7}) {
		t.Errorf("%+v", p)
	}
	six := &openflow.PacketIn2{Packet: udp(macVM1, macRouter, "2001:db8::11", "2001:db8::12", 1, 2, nil), UserData: []byte{byte(flows.OpNeighbor)},
		Metadata: openflow.Match{}.Num(openflow.Reg12, 0x20010db8).Num(openflow.Reg15, 1)}
	if p, ok := FromSwitch(six); !ok || p.NextHop != addr("2001:db8::1") || p.Paused != nil {
		t.Errorf("%+v", p)
	}
	for name, m := range map[string]*openflow.PacketIn2{
		"no operation": {Packet: frame}, "a trace": {Packet: frame, UserData: []byte{byte(flows.OpTrace)}}, "no frame": {UserData: []byte{1}, Packet: frame[:13]},
	} {
		if _, ok := FromSwitch(m); ok {
			t.Errorf("%s was taken", name)
		}
	}
	l := newLab(t, &state.Port{ID: "sub", Key: 15, Network: "net", Parent: "vm1", ParentVLAN: 42})
	for _, tt := range []struct {
		r    Reply
		want string
	}{
		{Reply{To: ToPort, Port: keyVM1, Frame: frame}, "out 1"},
		{Reply{To: ToPort, Port: 15, Frame: frame}, "tag 4138, out 1"},
		{Reply{To: ToPort, Port: 99, Frame: frame}, "nothing"},
		{Reply{To: ToNetwork, Network: keyOut, Frame: frame}, "metadata 0x67, flags 0x80, table 60"},
		{Reply{To: ToRouter, Network: keyOut, Router: keyRouter, Frame: frame}, "metadata 0xc900000067, flags 0x80, table 41"},
	} {
		var got openflow.Message
		l.store.Read(func(v *state.View) { got = ToSwitch(v, tt.r) })
		if s := told(got); s != tt.want {
			t.Errorf("%+v is %q, want %q", tt.r, s, tt.want)
		}
		if got != nil {
			if _, err := openflow.Append(nil, 1, got); err != nil {
				t.Errorf("%q cannot be sent: %v", tt.want, err)
			}
		}
	}
	changed := slices.Clone(frame)
	resume, _ := ToSwitch(nil, Reply{To: ToResume, Frame: changed, Paused: in}).(*openflow.Resume)
	if resume == nil || !bytes.Equal(resume.Continuation, []byte{9}) || &resume.Packet[0] != &changed[0] || &in.Packet[0] != &frame[0] {
		t.Errorf("resume %+v", resume)
	}
}

// told is a message in words.
func told(m openflow.Message) string {
	out, ok := m.(*openflow.PacketOut)
	if !ok {
		return "nothing"
	}
	var words []string
	for _, a := range out.Actions {
		switch a := a.(type) {
		case *openflow.Output:
			words = append(words, "out "+strconv.FormatUint(uint64(a.Port), 10))
		case *openflow.SetField:
			switch a.Field {
			case openflow.VLANVID:
				words = append(words, "tag "+strconv.FormatUint(a.Value.Lo, 10))
			case openflow.Metadata:
				words = append(words, "metadata 0x"+strconv.FormatUint(a.Value.Lo, 16))
			default:
				words = append(words, "flags 0x"+strconv.FormatUint(a.Value.Lo, 16))
			}
		case *openflow.Resubmit:
			words = append(words, "table "+strconv.FormatUint(uint64(a.Table), 10))
		}
	}
	return strings.Join(words, ", ")
}

// The services as they run: packets from the switch's reader come back as answers, in flight many at a time, and Run ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	store := state.NewStore()
	store.Apply(objects(), nil)
	var answers atomic.Int64
	got := make(chan struct{}, 1)
	const packets = 1000
	registry := prometheus.NewRegistry()
	a, err := New(Config{Host: "h1", Store: store, Registerer: registry, Workers: 2, Send: func(_ context.Context, r []Reply) error {
		if r[0].Port == keyVM1 && answers.Add(1) == packets {
			got <- struct{}{}
		}
		return nil
	}, Rand: func() float64 { return 0.999 }})
	if err != nil {
		t.Fatal(err)
	}
	store.Apply(nil, []state.Ref{{Kind: state.KindRouter, ID: "r"}}) // no advertisements among the answers
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	frame := dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1))
	in := &openflow.PacketIn2{Packet: frame, UserData: []byte{byte(flows.OpDHCPv4)}, Metadata: openflow.Match{}.Num(flows.RSource, keyVM1).Num(openflow.Metadata, keyNet)}
	for range packets {
		if !a.Handle(t.Context(), in, 0) {
			t.Fatal("the packet was not taken for one of the services")
		}
	}
	<-got
	cancel()
	wg.Wait()
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if n := testutil.ToFloat64(a.metrics.packets.WithLabelValues("dhcpv4", "answered")); n != packets {
		t.Errorf("%.0f counted, want %d", n, packets)
	}
}

// What is quickly answered is answered at once, unless something of its port waits: then behind that. Where too much waits to be read, all waits in the
// queues, and the reader goes on.
func TestAnswersAtOnceKeepTheOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	discover := func() *openflow.PacketIn2 {
		return &openflow.PacketIn2{Packet: dhcp(macVM1, message4(t, dhcpv4.MessageTypeDiscover, macVM1)), UserData: []byte{byte(flows.OpDHCPv4)},
			Metadata: openflow.Match{}.Num(flows.RSource, keyVM1).Num(openflow.Metadata, keyNet)}
	}
	handle := func(m *openflow.PacketIn2, waiting, want int) {
		t.Helper()
		if l.apps.Handle(t.Context(), m, waiting); len(l.sent) != want {
			t.Fatalf("%d answers, want %d", len(l.sent), want)
		}
	}
	handle(discover(), 0, 1)
	handle(discover(), behindAt-1, 2)
	handle(discover(), behindAt, 2) // nobody works yet
	handle(discover(), 0, 2)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.apps.work(ctx, l.apps.workers[0]) })
	for l.apps.workers[0].queued.Load() > 0 {
		runtime.Gosched()
	}
	handle(discover(), 0, 5)
	learn := &openflow.PacketIn2{Packet: (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")), UserData: []byte{byte(flows.OpAnnounce)},
		Metadata: openflow.Match{}.Num(flows.RSource, keyVM3).Num(openflow.Metadata, keyNet)}
	cancel()
	wg.Wait()
	// These take longer, and wait for the worker. For the name of an address all ports of its network are looked at, and a guest may ask for many.
	name := &openflow.PacketIn2{Packet: udp(macVM3, macRouter, "10.0.0.13", "9.9.9.9", 5353, dnsPort, question(t, "13.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, false)),
		UserData: []byte{byte(flows.OpDNS)}, Metadata: learn.Metadata, Continuation: []byte{1}}
	w := l.apps.workers[0]
	for _, slow := range []*openflow.PacketIn2{learn, name} {
		if handle(slow, 0, 5); w.queued.Load() != 1 {
			t.Fatalf("%d packets wait, want the one that is not quickly done", w.queued.Load())
		}
		<-w.queue
		w.queued.Add(-1)
	}
}

// A queue that is full or a share that is used up never holds up the reader.
func TestSubmitNeverWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t) // nobody works
	taken := 0
	for range 100_000 {
		if l.apps.Submit(Packet{Op: flows.OpDNS, Source: keyVM1}) {
			taken++
		}
	}
	dropped := testutil.ToFloat64(l.apps.metrics.drops.WithLabelValues("port", "share")) + testutil.ToFloat64(l.apps.metrics.drops.WithLabelValues("port", "queue"))
	if taken == 0 || taken+int(dropped) != 100_000 {
		t.Errorf("%d taken and %.0f dropped of 100,000", taken, dropped)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Rate: -1, Metadata: MetadataConfig{Upstream: "x"}})
	for _, want := range []string{"no host", "no store", "rate -1", "metadata upstream"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(uint8(flows.OpNeighbor), udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, nil))
	f.Add(uint8(flows.OpAnnounce), (&writer{}).arp(1, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")))
	f.Add(uint8(flows.OpAnnounce), (&writer{}).advertise(macVM3, addr("2001:db8::100"), false))
	f.Add(uint8(flows.OpMetadata), []byte{})
	f.Fuzz(func(t *testing.T, op uint8, frame []byte) {
		l := newLab(t)
		p := paused(routed(flows.Op(op), []byte{5, 0}, frame))
		p.OutNet, p.NextHop = keyOut, netip.AddrFrom4([4]byte{203, 0, 113, 1})
		p.Source = keyVM3
		l.ask(t, p)
		l.pass(t, 5*time.Second)
	})
}

// Packets a second through everything but the socket: decoding, admission, chain, and the answer in OpenFlow's bytes.
func BenchmarkPacketIn(b *testing.B) {
	store := state.NewStore()
	store.Apply(objects(), nil)
	window := make(chan struct{}, 256) // outstanding
	a, err := New(Config{Host: "h1", Store: store, Rate: 1e6, Rand: func() float64 { return 1 }, Send: func(_ context.Context, replies []Reply) error {
		defer func() { <-window }()
		var err error
		store.Read(func(v *state.View) {
			for _, r := range replies {
				_, err = openflow.Append(nil, 0, ToSwitch(v, r))
			}
		})
		return err
	}})
	if err != nil {
		b.Fatal(err)
	}
	store.Apply(nil, []state.Ref{{Kind: state.KindRouter, ID: "r"}}) // nothing is sent without being asked
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	raw, err := openflow.Append(nil, 0, &openflow.PacketIn2{BufferID: openflow.NoBuffer, UserData: []byte{byte(flows.OpDHCPv4)},
		Packet:   dhcp(macVM1, message4(b, dhcpv4.MessageTypeDiscover, macVM1)),
		Metadata: openflow.Match{}.Num(openflow.InPort, 1).Num(flows.RSource, keyVM1).Num(openflow.Metadata, keyNet)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		_, m, err := openflow.Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		window <- struct{}{}
		if n++; !a.Handle(b.Context(), m, 0) {
			b.Fatal("the packet was not taken")
		}
	}
	for range cap(window) {
		window <- struct{}{}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "answers/s")
	cancel()
	wg.Wait()
}
