package apps

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// routed is a packet of vm1 that its router has.
func routed(op flows.Op, data []byte, frame []byte) Packet {
	p := from(op, keyVM1, keyNet, frame)
	p.Router, p.Data = keyRouter, data
	return p
}

func ping6(src, dst string, kind uint8, size int) []byte {
	return (&writer{}).icmp(ends{macVM1, macRouter, addr(src), addr(dst)}, kind, 0, 1, make([]byte, size))
}

// What routers say of packets that they cannot pass on, and of which they say nothing (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4).
func TestICMPErrors(t *testing.T) {
	t.Parallel()
	v4 := func(src, dst string) []byte {
		return udp(macVM1, macRouter, src, dst, 40000, 33434, make([]byte, 1000))
	}
	v6 := udp(macVM1, macRouter, "2001:db8::11", "2001:db8:9::1", 40000, 33434, make([]byte, 1400))
	later := v4("10.0.0.11", "192.0.2.1")
	later[14+7] = 5 // fragment offset
	group := v4("10.0.0.11", "192.0.2.1")
	copy(group, broadcast.Bytes())
	for _, tt := range []struct {
		name       string
		op         flows.Op
		data       []byte
		frame      []byte
		want       Outcome
		kind, code uint8
		mtu        int
	}{
		{"time exceeded", flows.OpTTL, nil, v4("10.0.0.11", "192.0.2.1"), Answered, 11, 0, 0},
		{"time exceeded v6", flows.OpTTL, nil, v6, Answered, 3, 0, 0},
		{"fragmentation needed", flows.OpTooBig, []byte{5, 0x14}, v4("10.0.0.11", "192.0.2.1"), Answered, 3, 4, 1300},
		{"packet too big", flows.OpTooBig, []byte{5, 0x14}, v6, Answered, 2, 0, 1300},
		{"too big for a group", flows.OpTooBig, []byte{5, 0x14}, ping6("2001:db8::11", "ff0e::1", 128, 8), Answered, 2, 0, 1300},
		{"no route", flows.OpUnreachable, nil, v4("10.0.0.11", "192.0.2.1"), Answered, 3, 0, 0},
		{"prohibited", flows.OpUnreachable, []byte{13}, v4("10.0.0.11", "192.0.2.1"), Answered, 3, 13, 0},
		{"prohibited v6", flows.OpUnreachable, []byte{13}, v6, Answered, 1, 1, 0},
		{"no MTU said", flows.OpTooBig, nil, v6, Malformed, 0, 0, 0},
		{"about a later fragment", flows.OpTTL, nil, later, Silent, 0, 0, 0},
		{"about a broadcast", flows.OpTTL, nil, group, Silent, 0, 0, 0},
		{"about a group", flows.OpTTL, nil, v4("10.0.0.11", "224.0.0.9"), Silent, 0, 0, 0},
		{"of nobody", flows.OpTTL, nil, v4("0.0.0.0", "192.0.2.1"), Silent, 0, 0, 0},
		{"of a loopback", flows.OpTTL, nil, v4("127.0.0.1", "192.0.2.1"), Silent, 0, 0, 0},
		{"about an error", flows.OpTTL, nil, (&writer{}).icmp(ends{macVM1, macRouter, addr("10.0.0.11"), addr("192.0.2.1")}, 3, 1, 1, make([]byte, 32)), Silent, 0, 0, 0},
		{"about a ping", flows.OpTTL, nil, (&writer{}).icmp(ends{macVM1, macRouter, addr("10.0.0.11"), addr("192.0.2.1")}, 8, 0, 1, make([]byte, 32)), Answered, 11, 0, 0},
		{"about an error v6", flows.OpTTL, nil, ping6("2001:db8::11", "2001:db8:9::1", 1, 40), Silent, 0, 0, 0},
		{"about a redirect v6", flows.OpTTL, nil, ping6("2001:db8::11", "2001:db8:9::1", 137, 40), Silent, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outcome, replies := newLab(t).ask(t, routed(tt.op, tt.data, tt.frame))
			if outcome != tt.want {
				t.Fatalf("%s, want %s", outcome, tt.want)
			}
			if tt.want != Answered {
				return
			}
			r := one(t, replies, ToPort)
			p := open(t, r.Frame)
			var h Headers
			h.decode(r.Frame)
			if kind, code, _ := h.icmp(); kind != tt.kind || code != tt.code || int(h.Transport[6])<<8+int(h.Transport[7]) != tt.mtu {
				t.Errorf("type %d code %d mtu %v, want %d %d %d", kind, code, h.Transport[4:8], tt.kind, tt.code, tt.mtu)
			}
			if eth := layer[*layers.Ethernet](t, p); state.MACOf(eth.DstMAC) != macVM1 || state.MACOf(eth.SrcMAC) != macRouter {
				t.Errorf("from %s to %s, want from the router to the port", eth.SrcMAC, eth.DstMAC)
			}
			limit, source := 576, "10.0.0.1"
			if h.Is6 {
				limit, source = 1280, "2001:db8::1"
			}
			if quoted := h.Transport[8:]; len(h.IP) > limit || h.Src != addr(source) || !bytes.HasPrefix(tt.frame[14:], quoted) || len(quoted) < min(len(tt.frame)-14, limit-48) {
				t.Errorf("%d bytes from %s, quoting %d of %d", len(h.IP), h.Src, len(quoted), len(tt.frame)-14)
			}
		})
	}
}

// Who sent from outside is told by what he sent to, where he sent it; an answer to what was translated is told of by the router's own way back, which
// translates the quoted packet too.
func TestICMPErrorsOutside(t *testing.T) {
	t.Parallel()
	fip := &state.FloatingIP{ID: "f", Network: "out", Router: "r", Address: addr("203.0.113.50"), MAC: 0xfa163e000050, Port: "vm1", FixedIP: addr("10.0.0.11")}
	hiding := func(mode state.SnatMode) state.Object {
		var r state.Router
		newLab(t).store.Read(func(v *state.View) { r = *state.Find[*state.Router](v, "r") })
		g := *r.Gateway
		g.Snat, r.Gateway = mode, &g
		return &r
	}
	for _, tt := range []struct {
		name    string
		mode    state.SnatMode
		ethDst  state.MAC
		dst     string
		to      Target
		network uint32
		mac     state.MAC
		source  string
	}{
		{"to a floating IP", state.SnatGateway, fip.MAC, "203.0.113.50", ToNetwork, keyOut, fip.MAC, "203.0.113.50"},
		{"to the gateway's address", state.SnatGateway, macGateway, "203.0.113.10", ToNetwork, keyOut, macGateway, "203.0.113.10"},
		{"to a guest", state.SnatNone, macVM1, "10.0.0.11", ToNetwork, keyOut, macGateway, "203.0.113.10"},
		{"to a guest that is hidden: an answer", state.SnatGateway, macVM1, "10.0.0.11", ToRouter, keyNet, macRouter, "10.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packet := Packet{Op: flows.OpTooBig, Data: []byte{5, 0}, Network: keyOut, Router: keyRouter,
				Frame: udp(macOutside, tt.ethDst, "192.0.2.1", tt.dst, 1, 2, make([]byte, 1400))}
			_, replies := newLab(t, fip, hiding(tt.mode)).ask(t, packet)
			r := one(t, replies, tt.to)
			ip, eth := layer[*layers.IPv4](t, open(t, r.Frame)), layer[*layers.Ethernet](t, open(t, r.Frame))
			if r.Network != tt.network || ip.SrcIP.String() != tt.source || ip.DstIP.String() != "192.0.2.1" || state.MACOf(eth.SrcMAC) != tt.mac {
				t.Errorf("into network %d from %s, %s to %s; want %d, %s, %s", r.Network, eth.SrcMAC, ip.SrcIP, ip.DstIP, tt.network, tt.mac, tt.source)
			}
			if tt.to == ToNetwork && state.MACOf(eth.DstMAC) != macOutside {
				t.Errorf("to %s, want to who sent it", eth.DstMAC)
			}
		})
	}
	// The router had put its own address where the sender's was, and nothing else.
	_, replies := newLab(t).ask(t, routed(flows.OpTooBig, []byte{5, 0}, udp(macGateway, macOutside, "10.0.0.11", "192.0.2.1", 1, 2, make([]byte, 1400))))
	if eth := layer[*layers.Ethernet](t, open(t, one(t, replies, ToPort).Frame)); state.MACOf(eth.DstMAC) != macVM1 {
		t.Errorf("to %s, want to the port", eth.DstMAC)
	}
}

func TestICMPErrorsAreLimited(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	answered := 0
	for range 100 {
		if o, _ := l.ask(t, routed(flows.OpTTL, nil, udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, nil))); o == Answered {
			answered++
		}
	}
	if answered != 40 {
		t.Errorf("%d errors at once, want 40", answered)
	}
	p := routed(flows.OpTTL, nil, udp(macVM3, macRouter, "10.0.0.13", "192.0.2.1", 1, 2, nil))
	if p.Source = keyVM3; func() Outcome { o, _ := l.ask(t, p); return o }() != Answered {
		t.Error("another port pays for the first")
	}
	// What is routed once more is the port's that sent it; guests of other hosts are told apart by their addresses.
	again := routed(flows.OpTTL, nil, udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, nil))
	again.Source, again.Origin = 0, keyVM1
	if o, _ := l.ask(t, again); o != Limited {
		t.Errorf("the first port's, as if from outside: %s, want it limited", o)
	}
	far := func(source string) Packet {
		p := routed(flows.OpTTL, nil, udp(macVM1, macRouter, source, "192.0.2.1", 1, 2, nil))
		p.Source = 0
		return p
	}
	for range 100 {
		l.ask(t, far("10.0.0.51"))
	}
	if o, _ := l.ask(t, far("10.0.0.52")); o != Answered {
		t.Errorf("a guest of another host, while its neighbour floods: %s, want an answer", o)
	}
}

func FuzzICMPError(f *testing.F) {
	f.Add(uint8(flows.OpTTL), udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, nil))
	f.Add(uint8(flows.OpTooBig), ping6("2001:db8::11", "2001:db8:9::1", 128, 40))
	f.Fuzz(func(t *testing.T, op uint8, frame []byte) {
		_, replies := newLab(t).ask(t, routed(flows.Op(op), []byte{5, 0}, frame))
		for _, r := range replies {
			var h Headers
			h.decode(r.Frame)
		}
	})
}
