package apps

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// outward is a packet of vm1 to the outside whose next hop is not known, as it waits in the switch.
func outward(hop string) Packet {
	frame := udp(macVM1, macRouter, "10.0.0.11", "192.0.2.1", 1, 2, []byte("hello"))
	if addr(hop).Is6() {
		frame = udp(macVM1, macRouter, "2001:db8::11", "2001:db8:9::1", 1, 2, []byte("hello"))
	}
	p := paused(routed(flows.OpNeighbor, nil, frame))
	p.OutNet, p.NextHop = keyOut, addr(hop)
	return p
}

// heard is a frame that came from outside.
func heard(frame []byte) Packet {
	return Packet{Op: flows.OpAnnounce, Network: keyOut, Frame: frame}
}

func arpReply(mac state.MAC, a string) []byte {
	return (&writer{}).arp(layers.ARPReply, mac, addr(a), macHost, macHost, netip.IPv4Unspecified())
}

// The first packets to an unknown host wait for its address, which is asked for from the host's own; then they go on, and the address is told.
func TestNeighborIsFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ hop, asker, target string }{
		{"203.0.113.1", "0.0.0.0", "203.0.113.1"},
		{"2001:db8:f::1", macHost.LinkLocal().String(), "2001:db8:f::1"},
	} {
		l := newLab(t)
		o, replies := l.ask(t, outward(tt.hop))
		q := one(t, replies, ToNetwork)
		if o != Noted || q.Network != keyOut {
			t.Fatalf("%s, asked in network %d", o, q.Network)
		}
		p := open(t, q.Frame)
		answer := arpReply(macOutside, tt.hop)
		if addr(tt.hop).Is4() {
			a := layer[*layers.ARP](t, p)
			if sp, _ := netip.AddrFromSlice(a.SourceProtAddress); a.Operation != 1 || sp != addr(tt.asker) || state.MACOf(a.SourceHwAddress) != macHost ||
				state.MACOf(layer[*layers.Ethernet](t, p).DstMAC) != broadcast {
				t.Errorf("asked by %s %x", sp, a.SourceHwAddress)
			}
		} else {
			s := layer[*layers.ICMPv6NeighborSolicitation](t, p)
			if ip := layer[*layers.IPv6](t, p); s.TargetAddress.String() != tt.target || ip.SrcIP.String() != tt.asker || ip.DstIP.String() != "ff02::1:ff00:1" {
				t.Errorf("asked for %s by %s at %s", s.TargetAddress, ip.SrcIP, ip.DstIP)
			}
			answer = (&writer{}).advertise(macOutside, addr(tt.hop), true)
		}
		if o, replies := l.ask(t, outward(tt.hop)); o != Noted || len(replies) != 0 {
			t.Errorf("the second packet: %s and %d questions", o, len(replies))
		}
		o, replies = l.ask(t, heard(answer))
		if o != Noted || len(replies) != 2 {
			t.Fatalf("answer: %s, %d packets go on; want 2", o, len(replies))
		}
		for _, r := range replies {
			if r.To != ToResume || r.Paused == nil || !bytes.Equal(r.Frame[:6], macOutside.Bytes()) {
				t.Errorf("%+v, want to go on to %s", r, macOutside)
			}
		}
		if len(l.found) != 1 || l.found[0].MAC != macOutside || l.found[0].Network != "out" || l.found[0].Address != addr(tt.hop) || l.found[0].Host != "h1" {
			t.Errorf("told %+v", l.found)
		}
		if o, replies := l.ask(t, outward(tt.hop)); o != Answered || one(t, replies, ToResume).Frame == nil {
			t.Errorf("a packet that comes before the flow: %s", o)
		}
	}
}

// A host that does not answer is asked three times; then what waits is refused with an error, and what comes after at once, for longer each time.
func TestNeighborIsNotFound(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ask(t, outward("203.0.113.1"))
	questions, refused := 0, 0
	for _, r := range l.pass(t, 4*time.Second) {
		switch r.To {
		case ToNetwork:
			questions++
		case ToPort:
			var h Headers
			h.decode(r.Frame)
			if h.Is6 {
				continue // an advertisement
			}
			refused++
			if kind, code, _ := h.icmp(); r.Port != keyVM1 || kind != 3 || code != 1 {
				t.Errorf("to port %d: ICMP %d %d, want host unreachable", r.Port, kind, code)
			}
		}
	}
	if questions != 2 || refused != 1 {
		t.Errorf("%d more questions and %d refused, want 2 and 1", questions, refused)
	}
	if _, replies := l.ask(t, outward("203.0.113.1")); len(replies) != 1 || replies[0].To != ToPort {
		t.Errorf("just after: %+v, want an error at once", replies)
	}
	l.pass(t, 10*time.Second)
	if _, replies := l.ask(t, outward("203.0.113.1")); len(replies) != 1 || replies[0].To != ToNetwork {
		t.Errorf("later: %+v, want a question again", replies)
	}
}

// A neighbour is asked now and then whether it is still there; one that is silent is lost, and so is one that nobody has needed for long.
func TestNeighborIsProbed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ask(t, outward("203.0.113.1"))
	l.ask(t, heard(arpReply(macOutside, "203.0.113.1")))
	probes := l.pass(t, 61*time.Second)
	probe := probes[len(probes)-1]
	if eth := layer[*layers.Ethernet](t, open(t, probe.Frame)); state.MACOf(eth.DstMAC) != macOutside {
		t.Errorf("probe to %s, want to the neighbour alone", eth.DstMAC)
	}
	l.ask(t, heard(arpReply(macOutside, "203.0.113.1")))
	l.pass(t, 50*time.Second)
	if len(l.lost) != 0 {
		t.Fatalf("lost %v, which answers", l.lost)
	}
	moved := state.MAC(0x525400000002)
	l.ask(t, heard((&writer{}).arp(layers.ARPRequest, moved, addr("203.0.113.1"), broadcast, 0, addr("203.0.113.1"))))
	if last := l.found[len(l.found)-1]; last.MAC != moved || last.Epoch <= l.found[0].Epoch {
		t.Errorf("a gateway that moved: %+v", last)
	}
	l.pass(t, 70*time.Second)
	if len(l.lost) != 1 || l.lost[0].ID != l.found[0].ID {
		t.Errorf("lost %v, want the silent one", l.lost)
	}
}

// What waits is bounded, for each neighbour and in all, and a neighbour that another host has found is used.
func TestNeighborBounds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	limited := 0
	for range 20 {
		if o, _ := l.ask(t, outward("203.0.113.1")); o == Limited {
			limited++
		}
	}
	if limited != 20-parkedEach {
		t.Errorf("%d of 20 refused, want %d", limited, 20-parkedEach)
	}
	l.change([]state.Object{&state.Neighbor{ID: "other", Network: "out", Address: addr("203.0.113.1"), MAC: macOutside, Host: "h2", Epoch: 1}})
	resumed := 0
	for _, r := range l.pass(t, time.Millisecond) {
		if r.To == ToResume {
			resumed++
		}
	}
	if resumed != parkedEach {
		t.Errorf("%d go on, want %d", resumed, parkedEach)
	}
	// An answer that nobody asked for teaches nothing.
	if o, _ := l.ask(t, heard(arpReply(macOutside, "203.0.113.77"))); o != Silent || len(l.found) != 0 {
		t.Errorf("%s, found %v", o, l.found)
	}
}

// A guest that speaks to many addresses where nobody is takes no more than its share of the places: another's first packet still waits for its neighbour.
func TestNeighborShares(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hop := func(i int) string { return netip.AddrFrom4([4]byte{203, 0, byte(113 + i/256), byte(i)}).String() } //nolint:gosec // of a byte
	noted := 0
	for i := range parkedInAll {
		if o, _ := l.ask(t, outward(hop(i))); o == Noted {
			noted++
		}
	}
	if noted != parkedInAll/shareOf {
		t.Errorf("%d packets of one port wait, want %d", noted, parkedInAll/shareOf)
	}
	other := outward("203.0.112.1")
	other.Source = keyVM2
	if o, _ := l.ask(t, other); o != Noted {
		t.Errorf("another port's packet: %s, want it to wait", o)
	}
	// What comes from other hosts: each guest there has a share, and all together leave the ports of this host half.
	noted = 0
	far := func(guest, i int) Packet {
		p := outward(hop(i))
		p.Source, p.Frame = 0, udp(macVM1, macRouter, netip.AddrFrom4([4]byte{10, 0, 3, byte(guest)}).String(), hop(i), 1, 2, nil) //nolint:gosec // of a byte
		return p
	}
	for i := range parkedInAll {
		if o, _ := l.ask(t, far(1, 4096+i)); o == Noted {
			noted++
		}
	}
	if noted != parkedInAll/shareOf {
		t.Errorf("%d packets of another host's guest wait, want %d", noted, parkedInAll/shareOf)
	}
	if o, _ := l.ask(t, far(2, 8192)); o != Noted {
		t.Errorf("a packet of another guest of that host: %s, want it to wait", o)
	}
	for i := range 4 * parkedInAll {
		l.ask(t, far(i, 8192+i/parkedEach))
	}
	for i := range parkedInAll {
		other.NextHop = netip.AddrFrom4([4]byte{203, 0, 96, byte(i / parkedEach)}) //nolint:gosec // of a byte
		if o, _ := l.ask(t, other); o != Noted && i < parkedInAll/shareOf-1 {
			t.Fatalf("packet %d of a port of this host, while those of others flood: %s, want it to wait", i, o)
		}
	}
	for range 600 { // until all have been given up and forgotten
		l.pass(t, time.Second)
	}
	if o, _ := l.ask(t, outward("203.0.112.2")); o != Noted {
		t.Errorf("later: %s, want the share to be free again", o)
	}
}

// The port that announced an address of its pairs last has it, for as long as it answers; one that may not have it has no say.
func TestOwnerOfMovingAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	gratuitous := (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100"))
	if o, _ := l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, gratuitous)); o != Noted || len(l.found) != 1 || l.found[0].Port != "vm3" || l.found[0].Address != addr("10.0.0.100") {
		t.Fatalf("%s, found %+v", o, l.found)
	}
	if o, _ := l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, gratuitous)); o != Silent || len(l.found) != 1 {
		t.Errorf("again: %s, found %d", o, len(l.found))
	}
	if o, _ := l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).advertise(macVM3, addr("2001:db8::100"), false))); o != Noted || len(l.found) != 2 {
		t.Errorf("IPv6: %s, found %d", o, len(l.found))
	}
	for name, frame := range map[string][]byte{
		"another's address": (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.11"), broadcast, 0, addr("10.0.0.11")),
		"its own":           (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.13"), broadcast, 0, addr("10.0.0.13")),
		"another's MAC":     (&writer{}).arp(layers.ARPRequest, macVM1, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")),
	} {
		if o, _ := l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, frame)); o != Foreign || len(l.found) != 2 {
			t.Errorf("%s: %s", name, o)
		}
	}
	// It is asked, and answers for IPv4 only.
	probes := 0
	for range 20 {
		for _, r := range l.pass(t, time.Second) {
			if a, ok := open(t, r.Frame).Layer(layers.LayerTypeARP).(*layers.ARP); ok && r.Port == keyVM3 && state.MACOf(a.SourceHwAddress) == state.ServiceMAC {
				probes++
				l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).arp(layers.ARPReply, macVM3, addr("10.0.0.100"), state.ServiceMAC, state.ServiceMAC, netip.IPv4Unspecified())))
			}
		}
	}
	if probes == 0 || len(l.lost) != 1 || l.lost[0].ID != l.found[1].ID {
		t.Errorf("%d probes, lost %v; want the silent IPv6 address lost", probes, l.lost)
	}
}

// What the state has lost is told again, and what an agent before this one had found is asked whether it is still there.
func TestNeighborsOutliveTheState(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ask(t, outward("203.0.113.1"))
	l.ask(t, heard(arpReply(macOutside, "203.0.113.1")))
	claim := from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")))
	l.ask(t, claim)
	l.store.Apply(nil, []state.Ref{{Kind: state.KindNeighbor, ID: l.found[0].ID}, {Kind: state.KindNeighbor, ID: l.found[1].ID}})
	l.now = l.now.Add(3 * time.Second)
	l.ask(t, outward("203.0.113.1"))
	l.ask(t, claim)
	if len(l.found) != 4 || l.found[2].ID != l.found[0].ID || l.found[3].ID != l.found[1].ID {
		t.Fatalf("found %+v, want both again", l.found)
	}
	next := newLab(t, l.found[2], l.found[3])
	next.pass(t, time.Minute)
	if len(next.lost) != 2 {
		t.Errorf("after a restart lost %v, want both, which do not answer", next.lost)
	}
}

// The gateway of a router whose first host has died is announced by the next.
func TestGatewayIsAnnouncedByWhoActs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := &state.Router{ID: "r", Key: keyRouter, Gateway: &state.Gateway{Network: "out", MAC: macGateway, Addresses: []netip.Prefix{prefix("203.0.113.10/24")}, Hosts: []string{"h2", "h1"}}}
	if l.change([]state.Object{r}); len(announced(t, l)) != 0 {
		t.Error("announced while the first host lives")
	}
	if l.change([]state.Object{&state.Down{ID: "h2"}}); len(announced(t, l)) != 3 {
		t.Error("not announced after the first host's death")
	}
	l.change(nil, state.Ref{Kind: state.KindDown, ID: "h2"})
	if l.change([]state.Object{&state.Down{ID: "h2"}}); len(announced(t, l)) != 3 {
		t.Error("not announced after its second death")
	}
}

// A gateway from which others were cut off says again that it is one when they are back: another host was it for them, and said so.
func TestGatewayIsAnnouncedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := &state.Router{ID: "r", Key: keyRouter, Gateway: &state.Gateway{Network: "out", MAC: macGateway, Addresses: []netip.Prefix{prefix("203.0.113.10/24")}, Hosts: []string{"h1", "h2"}}}
	if l.change([]state.Object{r}); len(announced(t, l)) != 3 {
		t.Error("not announced at first")
	}
	if l.change([]state.Object{&state.Down{ID: "h2"}}); len(announced(t, l)) != 0 {
		t.Error("announced though nothing came here")
	}
	if l.change(nil, state.Ref{Kind: state.KindDown, ID: "h2"}); len(announced(t, l)) != 3 {
		t.Error("not announced again when the other host is back")
	}
}

// When another host's port announces the address, this host lets go without a word.
func TestOwnerMovesToAnotherHost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100"))))
	other := *l.found[0]
	other.Port, other.Host, other.Epoch = "vm9", "h2", other.Epoch+1
	l.change([]state.Object{&other})
	l.pass(t, time.Minute)
	if len(l.lost) != 0 {
		t.Errorf("lost %v: that would take it from its new owner", l.lost)
	}
	l.ask(t, from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100"))))
	if back := l.found[len(l.found)-1]; back.Port != "vm3" || back.Epoch <= other.Epoch {
		t.Errorf("taken back as %+v, want a higher epoch than %d", back, other.Epoch)
	}
}

// An address that goes to another host and comes back at once is told of at once: a pair of routers may change their minds.
func TestOwnerComesBackAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	claim := from(flows.OpAnnounce, keyVM3, keyNet, (&writer{}).arp(layers.ARPRequest, macVM3, addr("10.0.0.100"), broadcast, 0, addr("10.0.0.100")))
	l.ask(t, claim)
	l.ask(t, claim)
	if len(l.found) != 1 {
		t.Fatalf("told %+v, want one: the second says nothing new", l.found)
	}
	other := *l.found[0]
	other.Port, other.Host, other.Epoch = "vm9", "h2", other.Epoch+1
	l.change([]state.Object{&other})
	l.ask(t, claim)
	if back := l.found[len(l.found)-1]; len(l.found) != 2 || back.Port != "vm3" || back.Epoch <= other.Epoch {
		t.Errorf("told %+v, want that it is back, of a higher epoch than %d", l.found, other.Epoch)
	}
	l.ask(t, claim)
	if len(l.found) != 2 {
		t.Errorf("told %+v, want no more", l.found)
	}
}

// The floating IP of a virtual IP, whose port is bound nowhere, is announced where the virtual IP comes to.
func TestFloatingIPFollowsAnAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	keeper := &state.Port{ID: "keeper", Key: 90, Network: "net", MAC: 0xfa163e000090, FixedIPs: []state.FixedIP{{Address: addr("10.0.0.99")}}}
	fip := &state.FloatingIP{ID: "f", Network: "out", Router: "r", Address: addr("203.0.113.50"), MAC: 0xfa163e000050, Port: "keeper", FixedIP: addr("10.0.0.99")}
	l.change([]state.Object{keeper, fip})
	if n := len(announced(t, l)); n != 0 {
		t.Errorf("%d announcements of what nobody has", n)
	}
	at := &state.Neighbor{ID: "v", Network: "net", Address: addr("10.0.0.99"), MAC: 0xfa163e000090, Port: "vm9", Host: "h2", Epoch: 1}
	l.change([]state.Object{at})
	if n := len(announced(t, l)); n != 0 {
		t.Errorf("%d announcements of what is on another host", n)
	}
	here := *at
	here.Port, here.Host, here.Epoch = "vm1", "h1", 2
	l.change([]state.Object{&here})
	if n := len(announced(t, l)); n == 0 {
		t.Error("it has come here and is not announced")
	}
}

// Addresses that come to this host are announced thrice, more than a second apart; ports on physical networks by their Ethernet address only.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fip := &state.FloatingIP{ID: "f", Network: "out", Router: "r", Address: addr("203.0.113.50"), MAC: 0xfa163e000050, Port: "vm1", FixedIP: addr("10.0.0.11")}
	wire := &state.Port{ID: "vm4", Key: 14, Network: "out", MAC: 0xfa163e000014, Host: "h1", FixedIPs: []state.FixedIP{{Address: addr("203.0.113.70")}}}
	l.change([]state.Object{fip, wire, &state.Plug{ID: "vm4", OFPort: 4}})
	began := l.now
	var arps, reverse int
	for range 50 {
		for _, r := range l.pass(t, 100*time.Millisecond) {
			p := open(t, r.Frame)
			if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && r.Network == keyOut && bytes.Equal(a.SourceProtAddress, a.DstProtAddress) {
				arps++
			}
			if r.Network == keyOut && layer[*layers.Ethernet](t, p).EthernetType == 0x8035 {
				reverse++
			}
		}
	}
	if arps != 3 || reverse != 3 {
		t.Errorf("%d announcements and %d reverse ones in %s, want 3 of each", arps, reverse, l.now.Sub(began))
	}
	if l.change([]state.Object{fip}); len(announced(t, l)) != 0 {
		t.Error("announced again without a change")
	}
	there := &state.Port{ID: "vm1", Key: keyVM1, Network: "net", MAC: macVM1, Host: "h2", NextHost: "h1"}
	here := &state.Port{ID: "vm1", Key: keyVM1, Network: "net", MAC: macVM1, Host: "h1"}
	if l.change([]state.Object{there}); len(announced(t, l)) != 0 {
		t.Error("announced what is at another host until the migration is done")
	}
	if l.change([]state.Object{here}); len(announced(t, l)) != 3 {
		t.Error("not announced after the migration")
	}
}

func announced(tb testing.TB, l *lab) (out []Reply) {
	tb.Helper()
	for _, r := range l.pass(tb, 5*time.Second) {
		if r.To == ToNetwork {
			out = append(out, r)
		}
	}
	return out
}
