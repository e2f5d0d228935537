package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

func packets() map[string]Packet {
	p4 := Packet{EthSrc: 0xfa163e000001, EthDst: 0xfa163e000002, Type: IPv4, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), TTL: 64}
	p6 := p4
	p6.Type, p6.Src, p6.Dst = IPv6, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	out := map[string]Packet{}
	for name, p := range map[string]Packet{"IPv4": p4, "IPv6": p6} {
		for _, proto := range []int{TCP, UDP, SCTP} {
			p := p
			p.Proto, p.SrcPort, p.DstPort = proto, 1000, 80
			out[fmt.Sprintf("%s %d", name, proto)] = p
		}
		p.Proto, p.ICMPType = ICMP, 8
		if p.Type == IPv6 {
			p.Proto, p.ICMPType = ICMPv6, 128
		}
		out[name+" echo"] = p
		p.Proto, p.ICMPType = 47, 0
		out[name+" GRE"] = p
	}
	return out
}

// A packet that is sent is read again as what it is, and its checksums are right.
func TestFrames(t *testing.T) {
	t.Parallel()
	for name, p := range packets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.Length = 120
			frame, err := Frame(p, 7, []byte("odd"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := take(frame)
			if err != nil || got.packet != p {
				t.Errorf("sent %+v, read %+v, %v", p, got.packet, err)
			}
			if p.Type == IPv4 && checksum(0, frame[14:34]) != 0 {
				t.Error("the header's checksum is wrong")
			}
			sum := uint32(0)
			if p.Proto != ICMP {
				sum = pseudo(&p, len(got.body))
			}
			if p.Proto != SCTP && p.Proto != 47 && checksum(sum, got.body) != 0 {
				t.Error("the transport's checksum is wrong")
			}
		})
	}
	if _, err := Frame(Packet{Type: ARP}, 1, nil); err == nil {
		t.Error("a question of ARP was made, want a refusal")
	}
}

// What hosts on the way do with a packet does not change what it is known by; another packet has something else.
func TestConstantPart(t *testing.T) {
	t.Parallel()
	for name, p := range packets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			known := func(p Packet, id uint16, payload string) string {
				frame, err := Frame(p, id, []byte(payload))
				if err != nil {
					t.Fatal(err)
				}
				got, err := take(frame)
				if err != nil {
					t.Fatal(err)
				}
				return got.constant()
			}
			routed := p
			routed.EthSrc, routed.EthDst, routed.TTL = 0xfa163e000003, 0xfa163e000004, 63
			if routed.SrcPort != 0 {
				routed.SrcPort = 2000
			}
			if routed.Src = netip.MustParseAddr("192.0.2.1"); p.Type == IPv6 {
				routed.Src = netip.MustParseAddr("2001:db8::1")
			}
			if known(p, 7, "word") != known(routed, 7, "word") {
				t.Error("a packet that was routed and translated is taken for another one")
			}
			if known(p, 7, "word") == known(p, 7, "work") {
				t.Error("packets with different payloads are taken for one")
			}
		})
	}
}

// told is a copy that a host has lifted.
func told(host, point, to string, p Packet, sure bool) Copy {
	frame, err := Frame(p, 7, []byte("the same in both"))
	if err != nil {
		panic(err)
	}
	l := &api.TraceLifted{Point: point, Frame: frame, Sure: sure}
	if point == "out" {
		l.ToPort = to
	}
	v := state.NewStore()
	var c Copy
	v.Read(func(v *state.View) { c, err = copyOf(v, host, l) })
	if err != nil {
		panic(err)
	}
	if to != "" && to[0] == 'h' {
		c.ToPort, c.ToHost = "", to
	}
	return c
}

// Two traces go through the same hosts at once, with packets that only their addresses tell apart, one of which a gateway translates: each gets its own copies, in
// whatever order they come.
func TestTwoTracesAtOnce(t *testing.T) {
	t.Parallel()
	mine := packets()["IPv4 17"]
	other := mine
	other.Src, other.EthSrc = netip.MustParseAddr("10.0.0.9"), 0xfa163e000009
	translated := mine
	translated.Src, translated.SrcPort, translated.TTL = netip.MustParseAddr("203.0.113.5"), 4711, 63
	own := []Copy{told("h1", "in", "", mine, true), told("h1", "out", "h2", mine, true), told("h2", "arrived", "", mine, false), told("h2", "out", "h3", translated, false),
		told("h3", "arrived", "", translated, false), told("h3", "out", "p3", translated, false)}
	others := []Copy{told("h2", "arrived", "", other, false), told("h2", "out", "p2", other, false), told("h3", "arrived", "", other, false), told("h3", "out", "p3", other, false)}
	all := func(string) bool { return true }
	for turn := range 10 {
		copies := slices.Concat(own, others)
		slices.Reverse(copies[:turn])
		got := ways("h1", all, copies)
		if len(got) != 1 || len(got[0].Copies) != len(own) || fmt.Sprint(got[0].Ends) != "[delivered port p3 at h3]" {
			t.Fatalf("turn %d: %+v, want one packet with %d copies, delivered to p3", turn, got, len(own))
		}
	}
	// What arrived from nobody whom the packet was sent to is another's, however alike.
	got := ways("h1", all, []Copy{own[0], own[1], told("h4", "arrived", "", mine, false), told("h4", "out", "p4", mine, false)})
	if fmt.Sprint(got[0].Ends) != "[lost from h1 to h2]" {
		t.Errorf("ends %v, want lost on the way to h2", got[0].Ends)
	}
	if got := ways("h1", func(h string) bool { return h != "h2" }, own[:2]); fmt.Sprint(got[0].Ends) != "[sent to h2]" {
		t.Errorf("ends %v, want sent to a host that was not asked", got[0].Ends)
	}
	if got := ways("h1", all, own[:1]); fmt.Sprint(got[0].Ends) != "[vanished at h1]" {
		t.Errorf("ends %v, want vanished", got[0].Ends)
	}
}

// The layer at fault is named by what differs.
func TestFindings(t *testing.T) {
	t.Parallel()
	end := func(v Verdict, host, reason string) End {
		e := End{Verdict: v, Host: host, Reason: reason}
		if v == Delivered {
			e.Port = "p2"
		}
		return e
	}
	delivered := end(Delivered, "h2", "")
	for _, tt := range []struct {
		name                     string
		simulated, checked, live []End
		steps                    []Step // of the switches
		many                     bool
		want                     string
	}{
		{name: "all agree", simulated: []End{delivered}, checked: []End{delivered}, live: []End{delivered}},
		{name: "the flows are wrong", simulated: []End{delivered}, checked: []End{end(Dropped, "h2", "in-denied")}, live: []End{end(Dropped, "h2", "in-denied")}, want: "compiler h2"},
		{name: "somebody else's flow", simulated: []End{delivered}, checked: []End{end(Dropped, "h2", "")}, live: []End{end(Vanished, "h2", "")},
			steps: []Step{{Host: "h1"}, {Host: "h2", Foreign: true}}, want: "foreign h2"},
		{name: "no route in the underlay", simulated: []End{delivered}, checked: []End{end(Dropped, "h1", noUnderlay)}, live: []End{end(Lost, "h2", "from h1")}, want: "underlay h1"},
		{name: "no route in the underlay to a host that was not asked", simulated: []End{delivered}, checked: []End{end(Dropped, "h1", noUnderlay)}, live: []End{end(Sent, "h2", "")}, want: "underlay h1"},
		{name: "lost in the underlay", simulated: []End{delivered}, checked: []End{delivered}, live: []End{end(Lost, "h2", "from h1")}, want: "underlay h2"},
		{name: "lost in a switch", simulated: []End{delivered}, checked: []End{delivered}, live: []End{end(Vanished, "h1", "")}, want: "switch h1"},
		{name: "dropped by a switch", simulated: []End{delivered}, checked: []End{delivered}, live: []End{end(Dropped, "h2", "in-denied")}, want: "switch h2"},
		{name: "a drop that lifts no copy", simulated: []End{end(Dropped, "h1", "martian")}, checked: []End{end(Dropped, "h1", "martian")}, live: []End{end(Vanished, "h1", "")}},
		{name: "a neighbour that is found meanwhile", simulated: []End{end(Served, "h1", "neighbor")}, checked: []End{end(Served, "h1", "neighbor")},
			live: []End{end(Served, "h1", "neighbor"), end(Outside, "h1", "")}},
		{name: "a neighbour that its host knew", simulated: []End{end(Served, "h1", "neighbor")}, checked: []End{end(Outside, "h1", "")}, live: []End{end(Outside, "h1", "")}},
		{name: "for many, one gets none", many: true, simulated: []End{delivered, end(Delivered, "h3", "")}, checked: []End{delivered, end(Delivered, "h3", ""), end(Dropped, "h2", "in-denied")},
			live: []End{delivered}, want: "underlay h3"},
		{name: "nothing was sent", simulated: []End{delivered}, checked: []End{delivered}, want: "guest h1"},
		{name: "a host was not asked", simulated: []End{delivered}, checked: []End{end(Sent, "h2", "")}, live: []End{end(Sent, "h2", "")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &Report{Mode: Probe, Simulated: &Result{Ends: tt.simulated, Many: tt.many}, Checked: &Result{Ends: tt.checked, Steps: tt.steps, Many: tt.many}}
			if tt.steps == nil {
				r.Checked.Steps = []Step{{Host: "h1"}}
			}
			if tt.live != nil {
				w := &Way{Ends: tt.live, Copies: []Copy{{Host: "h1", Point: "in", At: time.Unix(1, 0)}, {Host: "h1", Point: "out", ToHost: "h2"}}}
				if tt.name != "for many, one gets none" {
					w.Copies = append(w.Copies, Copy{Host: "h2", Point: "arrived"})
				}
				r.Live = []*Way{w}
			}
			r.Simulated.found(r.Checked)
			r.judge("p1")
			got := ""
			for _, f := range r.Findings {
				got += string(f.Layer) + " " + f.Host
			}
			if got != tt.want {
				t.Errorf("found %q, want %q: %v", got, tt.want, r.Findings)
			}
			if w := r.Followed(); w != nil && slices.ContainsFunc(r.Checked.Ends, End.unreachable) && fmt.Sprint(w.Ends) != "[lost from h1 to h2]" {
				t.Errorf("the packet is said to have ended %v, want lost", w.Ends)
			}
		})
	}
}

// Whatever a host has lifted is read without harm.
func FuzzRead(f *testing.F) {
	for _, p := range packets() {
		frame, err := Frame(p, 7, []byte("word"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Add(binary.BigEndian.AppendUint16(make([]byte, 12), 0x8100))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if got, err := take(frame); err == nil {
			_, _ = got.constant(), got.ends()
			_ = got.packet.Text()
		}
	})
}
