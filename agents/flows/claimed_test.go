package flows

import (
	"net/netip"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	virtualMAC = state.MAC(0x00005e000133)
	toVirtual  = "ip,dl_src=fa:16:3e:00:00:01,dl_dst=00:00:5e:00:01:33"
)

// virtual lets a port have an address with a virtual Ethernet address.
func virtual(p *state.Port) {
	p.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.100/32"), MAC: virtualMAC}}
}

func has(port string, epoch uint64) *state.Neighbor {
	return &state.Neighbor{ID: "n 10.0.0.100", Network: "n1", Address: netip.MustParseAddr("10.0.0.100"), MAC: virtualMAC, Port: port, Epoch: epoch}
}

// What is for an Ethernet address of allowed address pairs goes to the only port that may have it, to the one that has it now, or to each that may.
func TestClaimedAddresses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Network{ID: "n2", Key: 8, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(9, "n2", "10.0.0.9", nil)
	const sent = "in_port=1," + toVirtual
	l.expect("to an address that no port may have", sent, "drop")
	p2 := l.plug(2, "n1", "10.0.0.2", virtual)
	l.expect("to the only one that may have it", sent, "p2")
	l.expect("in another network", "in_port=9,"+toVirtual, "drop")
	p3 := l.port(3, "n1", "h2", "10.0.0.3", virtual)
	l.set(p3, l.port(4, "n1", "h3", "10.0.0.4", nil))
	l.expect("to each that may have it", sent, `p2,`+tunnelled("12", "0x200003"))
	l.set(has("p3", 1))
	l.expect("to who announced it", sent, tunnelled("12", "0x200003"))
	l.set(has("p2", 2))
	l.expect("to who has it after that", sent, "p2")
	named := has("p3", 3)
	named.MAC = p3.MAC
	l.set(named)
	l.expect("to who announced it with its own Ethernet address", sent, tunnelled("12", "0x200003"))
	l.set(has("p4", 3))
	l.expect("said of a port that may not have it", sent, `p2,`+tunnelled("12", "0x200003"))
	l.set(has("p3", 4), &state.Down{ID: "h2"})
	l.expect("its host has died", sent, "p2")
	l.remove(state.Ref{Kind: state.KindDown, ID: "h2"})
	l.expect("which was wrong", sent, tunnelled("12", "0x200003"))
	down := *p3
	down.Down = true
	l.set(&down)
	l.expect("the port that has it is down", sent, "p2")
	l.set(p3)
	l.remove(has("p3", 4).Ref())
	l.expect("nobody has it any more", sent, `p2,`+tunnelled("12", "0x200003"))

	p5 := l.plug(5, "n1", "10.0.0.5", func(p *state.Port) { p.MAC = virtualMAC })
	l.expect("to the port whose own address it is", sent, "p5")
	l.remove(p5.Ref(), state.Ref{Kind: state.KindPlug, ID: "p5"})
	l.expect("which is gone", sent, `p2,`+tunnelled("12", "0x200003"))
	l.same()
	p2.AllowedPairs, p3.AllowedPairs = nil, nil
	one, other := *p2, *p3
	l.set(&one, &other)
	l.expect("no pair is left", sent, "drop")
	l.same()
}

// On a physical network somebody outside may have the address, too: what is not known to be here goes to who may have it here, and out.
func TestClaimedOutside(t *testing.T) {
	t.Parallel()
	for name, learn := range map[string]bool{"told": false, "learns": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.set(&state.Network{ID: "n1", Key: 7, MTU: 1500, Segment: state.Flat, Physical: "physnet1", Learn: learn})
			l.plug(1, "n1", "10.0.0.1", nil)
			l.plug(2, "n1", "10.0.0.2", virtual)
			l.plug(4, "n1", "10.0.0.4", nil)
			l.set(l.port(3, "n1", "h2", "10.0.0.3", virtual))
			const sent, comes = "in_port=1," + toVirtual, "in_port=101,ip,dl_src=02:00:00:00:00:77,dl_dst=00:00:5e:00:01:33"
			l.expect("to all that may have it", sent, "p2,up0")
			l.expect("from outside, to those here", comes, "p2")
			l.set(has("p3", 1))
			l.expect("to who announced it", sent, "up0")
			l.expect("from outside, when it is elsewhere", comes, "drop")
			l.set(has("p2", 2))
			l.expect("to who has it after that", sent, "p2")
			l.expect("from outside", comes, "p2")
			l.same()
		})
	}
}

// An address that more ports may have than are sent copies goes to all of the network.
func TestClaimedByMany(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	var many []state.Object
	for i := range MostClaimants + 1 {
		many = append(many, l.port(100+i, "n1", "h2", "", virtual))
	}
	l.set(many...)
	l.expect("to all", "in_port=1,"+toVirtual, `p2,`+tunnelled("12", "0x7"))
	l.set(has("p100", 1))
	l.expect("to who announced it", "in_port=1,"+toVirtual, tunnelled("12", "0x200064"))
	l.same()
}

// The port of a virtual IP is bound nowhere: its address, and a floating IP of that, are at who has announced it.
func TestKeptAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	pair := func(p *state.Port) {
		p.AllowedPairs = []state.AddressPair{{Prefix: netip.MustParsePrefix("10.0.0.99/32"), MAC: p.MAC}}
	}
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Network{ID: "n2", Key: 8, MTU: 1450},
		&state.Router{ID: "r", Key: 9, Interfaces: []state.RouterInterface{
			{Network: "n1", MAC: labMAC(0xa1), Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.254/24")}},
			{Network: "n2", MAC: labMAC(0xa2), Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.254/24")}}}})
	l.plug(1, "n2", "10.0.2.1", nil)
	l.plug(4, "n1", "10.0.0.4", nil)
	p2 := l.plug(2, "n1", "10.0.0.2", pair)
	p3 := l.port(3, "n1", "h2", "10.0.0.3", pair)
	kept := l.port(5, "n1", "", "10.0.0.99", nil)
	l.set(p3, kept)
	routed := "in_port=1,icmp,dl_src=" + labMAC(1).String() + ",dl_dst=" + labMAC(0xa2).String() + ",nw_src=10.0.2.1,nw_dst=10.0.0.99,nw_ttl=64"
	asked := "in_port=4,arp,dl_src=" + labMAC(4).String() + ",dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.0.0.4,arp_tpa=10.0.0.99,arp_sha=" + labMAC(4).String()
	has := func(p *state.Port, epoch uint64) *state.Neighbor {
		return &state.Neighbor{ID: "v", Network: "n1", Address: netip.MustParseAddr("10.0.0.99"), MAC: p.MAC, Port: p.ID, Host: p.Host, Epoch: epoch}
	}
	l.expect("nobody has announced it", routed, "drop")
	l.expect("who asks for it asks all", asked, "p2,"+tunnelled("12", "0x7"))
	l.set(has(p2, 1))
	at := func(mac state.MAC) string {
		return `set\(eth\(src=` + labMAC(0xa1).String() + `,dst=` + mac.String() + `\)\),set\(ipv4\(ttl=63\)\),`
	}
	l.expect("it is here", routed, at(p2.MAC)+"p2")
	l.set(has(p3, 2))
	l.expect("it has moved", routed, at(p3.MAC)+tunnelled("12", "0x200003"))
	bound := *kept
	bound.Host = "h2"
	l.set(&bound)
	l.expect("the port itself is bound", routed, at(kept.MAC)+tunnelled("12", "0x200005"))
	l.expect("who asks is answered", asked, `set\(.*sha=`+kept.MAC.String()+`,.*\)\),p4`)
	l.same()
}
