package flows

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// comes is a packet that the bridge of the physical network hands over, to an Ethernet address.
func comes(to, kind, more string) string {
	return fmt.Sprintf("in_port=%d,%s,dl_src=%s,dl_dst=%s,%s", labUplink, kind, labOuter, to, more)
}

// through is a pass of the connection tracker, which the datapath goes on behind.
func through(zone int, nat string) string {
	return fmt.Sprintf(`ct\(commit,zone=%d,nat\(%s\)\),recirc\(0x[0-9a-f]+\) \| `, zone, nat)
}

// known is such a pass for what must belong to a connection.
func known(zone int) string { return fmt.Sprintf(`ct\(zone=%d,nat\),recirc\(0x[0-9a-f]+\) \| `, zone) }

// toOuter is what leaves with an Ethernet source for the next hop outside.
func toOuter(src string) string { return changed(src, labOuter, 63) + "up0" }

// natted is what leaves through the tracker with the Ethernet source of the address that it is translated to, and nattedAsRouter with that of all that
// the router sends.
func natted(src, pass string) string {
	return `set\(eth\(src=` + src + `,dst=` + labOuter + `\)\),` + pass + `set\(ipv4\(ttl=63\)\),up0`
}

func nattedAsRouter(src, pass string) string {
	return `set\(eth\(dst=` + labOuter + `\)\),` + pass + `set\(eth\(src=` + src + `\)\),set\(ipv4\(ttl=63\)\),up0`
}

const labFloating = "fa:16:3e:00:02:01"

func (l *lab) floating() {
	l.t.Helper()
	l.set(&state.FloatingIP{ID: "f1", Network: "ext", Router: "r1", Address: netip.MustParseAddr("203.0.113.51"), MAC: labMAC(0x201), Port: "p1", FixedIP: netip.MustParseAddr("10.0.1.11")})
}

func outward(port int, kind string) string {
	return sends(port, labLeg1, kind, fmt.Sprintf("nw_src=10.0.1.%d,nw_dst=192.0.2.80,nw_ttl=64", 10+port))
}

func TestFloatingIP(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = state.SnatGateway, []string{"h2"} })
	l.floating()
	l.plug(1, "n1", "10.0.1.11", nil)
	l.plug(3, "n1", "10.0.1.13", nil)
	l.same()
	asked := "arp_op=1,arp_spa=203.0.113.254,arp_tpa=203.0.113.51,arp_sha=" + labOuter
	l.expect("who has it", comes("ff:ff:ff:ff:ff:ff", "arp", asked),
		`set\(eth\(src=`+labFloating+`,dst=`+labOuter+`\)\),set\(arp\(sip=203.0.113.51,tip=203.0.113.254,op=2,sha=`+labFloating+`,tha=`+labOuter+`\)\),up0`)
	// Agents ask with no address of their own: a floating IP at another host was not found.
	l.expect("who has it, says somebody without an address", comes("ff:ff:ff:ff:ff:ff", "arp", strings.Replace(asked, "203.0.113.254", "0.0.0.0", 1)),
		`set\(eth\(src=`+labFloating+`,dst=`+labOuter+`\)\),set\(arp\(sip=203.0.113.51,tip=0.0.0.0,op=2,sha=`+labFloating+`,tha=`+labOuter+`\)\),up0`)
	in := "nw_src=192.0.2.80,nw_dst=203.0.113.51,nw_ttl=60"
	arrived := `check_pkt_len\(size=1464,gt\(userspace.*\),le\(ct\(commit,zone=202,nat\(dst=10.0.1.11\)\),recirc\(.*\)\)\) \| .*p1\)\)`
	l.expect("in", comes(labFloating, "tcp", in), arrived)
	l.expect("from the port of a DHCP server to that of its client, which security groups let by", comes(labFloating, "udp", in+",udp_src=67,udp_dst=68"), `check_pkt_len\(size=1464,gt\(drop\),le\(drop\)\)`)
	l.expect("its Ethernet address is nobody's way into the tenant's networks", comes(labFloating, "tcp", "nw_src=192.0.2.80,nw_dst=10.0.1.13,nw_ttl=60"), "drop")
	l.expect("out, past the gateway's host", outward(1, "tcp"), natted(labFloating, through(202, "src=203.0.113.51")))
	l.expect("out, as a DHCP client, which security groups let by", outward(1, "udp")+",udp_src=68,udp_dst=67", "drop")
	l.expect("another guest's go there", outward(3, "tcp"), tunnelled("12", "0x400005"))
	l.expect("another guest to it, too", sends(3, labLeg1, "tcp", "nw_src=10.0.1.13,nw_dst=203.0.113.51,nw_ttl=64"), tunnelled("12", "0x400005"))
	l.expect("to itself: out, and in again", sends(1, labLeg1, "tcp", "nw_src=10.0.1.11,nw_dst=203.0.113.51,nw_ttl=64"),
		`set\(eth\(src=`+labFloating+`,dst=`+labFloating+`\)\),`+through(202, "src=203.0.113.51")+`ct_clear,set\(ipv4\(ttl=63\)\),`+arrived)

	// Another guest that comes by the gateway's address gets its answers there, wherever the gateway is; who has no floating IP means the router.
	l.set(&state.Neighbor{ID: "gateway", Network: "ext", Address: netip.MustParseAddr("203.0.113.1"), MAC: 0x0c0000000001})
	toGateway := func(port int, kind string) string {
		return sends(port, labLeg1, kind, fmt.Sprintf("nw_src=10.0.1.%d,nw_dst=203.0.113.1,nw_ttl=64", 10+port))
	}
	l.expect("an answer to the gateway's address", toGateway(1, "tcp"), natted(labFloating, through(202, "src=203.0.113.51")))
	l.expect("the gateway is asked for an echo", toGateway(1, "icmp")+",icmp_type=8", `.*set\(icmp\(type=0,code=0\)\),p1`)
	l.expect("the gateway is meant itself", toGateway(3, "tcp"), "userspace.*")
	l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = state.SnatGateway, []string{"h1"} })
	l.same()
	l.expect("an answer to the gateway's address, here", toGateway(1, "tcp"), `set\(eth\(src=`+labFloating+`,dst=`+labGateway+`\)\),`+through(202, "src=203.0.113.51")+`ct_clear,.*`+known(201)+".*")
	l.expect("the gateway is meant itself, here", toGateway(3, "tcp"), "userspace.*")

	l.routed(func(r *state.Router) { r.Gateway.NextHops = addrs("2001:db8:113::254") })
	l.set(&state.FloatingIP{ID: "f6", Network: "ext", Router: "r1", Address: netip.MustParseAddr("2001:db8:113::51"), MAC: labMAC(0x251), Port: "p1", FixedIP: netip.MustParseAddr("2001:db8:1::11")},
		&state.Neighbor{ID: "hop6", Network: "ext", Address: netip.MustParseAddr("2001:db8:113::254"), MAC: 0x0c0000000001})
	l.same()
	l.expect("IPv6, out", sends(1, labLeg1, "tcp6", "ipv6_src=2001:db8:1::11,ipv6_dst=2001:db8:fff::80,nw_ttl=64"),
		`set\(eth\(src=fa:16:3e:00:02:51,dst=`+labOuter+`\)\),`+through(202, "src=2001:db8:113::51")+`set\(ipv6\(hlimit=63\)\),up0`)
	l.expect("IPv6, in", comes("fa:16:3e:00:02:51", "tcp6", "ipv6_src=2001:db8:fff::80,ipv6_dst=2001:db8:113::51,nw_ttl=60"), `.*ct\(commit,zone=202,nat\(dst=2001:db8:1::11\)\).*`)

	l.expect("IPv6, from a DHCP server", comes("fa:16:3e:00:02:51", "udp6", "ipv6_src=2001:db8:fff::80,ipv6_dst=2001:db8:113::51,nw_ttl=60,udp_src=547,udp_dst=546"), `check_pkt_len\(size=1464,gt\(drop\),le\(drop\)\)`)

	l.set(l.port(1, "n1", "h2", "10.0.1.11", nil))
	l.same()
	l.expect("the port has moved: who has it", comes("ff:ff:ff:ff:ff:ff", "arp", asked), "drop")
	l.expect("the port has moved: in", comes(labFloating, "tcp", in), "drop")
}

func TestGatewayHost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = state.SnatGateway, []string{"h2", "h3", "h1"} })
	l.plug(1, "n1", "10.0.1.11", nil)
	tunnel := "in_port=100,tun_id=0x400005,tun_src=172.31.1.13,tun_dst=172.31.1.11,tcp,dl_dst=" + labLeg1 + ",nw_src=10.0.1.12,nw_dst=192.0.2.80,nw_ttl=64"
	asked := comes("ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=203.0.113.254,arp_tpa=203.0.113.1,arp_sha="+labOuter)
	answer := comes(labGateway, "tcp", "nw_src=192.0.2.80,nw_dst=203.0.113.1,nw_ttl=60")
	l.expect("by its first host", outward(1, "tcp"), tunnelled("12", "0x400005"))
	l.expect("another host's, which thinks that this is the one", tunnel, "drop")
	l.expect("this one says nothing outside", asked, "drop")
	l.expect("nor takes anything", answer, "drop")
	l.set(&state.Down{ID: "h2"})
	l.expect("by the next one", outward(1, "tcp"), tunnelled("13", "0x400005"))
	l.set(&state.Down{ID: "h3"})
	l.same()
	l.expect("by this one", outward(1, "tcp"), nattedAsRouter(labGateway, through(201, "src=203.0.113.1")))
	l.expect("for another host", tunnel, nattedAsRouter(labGateway, through(201, "src=203.0.113.1")))
	l.expect("who has the gateway's address", asked, `.*sip=203.0.113.1,.*,up0`)
	l.expect("an answer; what is none is told that nobody listens", answer, known(201)+"userspace.*")
	l.expect("an echo request from outside", comes(labGateway, "icmp", "nw_src=192.0.2.80,nw_dst=203.0.113.1,nw_ttl=60,icmp_type=8"), `.*set\(icmp\(type=0,code=0\)\),up0`)
	l.expect("nobody asked for this", comes(labGateway, "tcp", "nw_src=192.0.2.80,nw_dst=10.0.1.11,nw_ttl=60"), "drop")
	l.remove(state.Ref{Kind: state.KindPlug, ID: "p1"})
	l.expect("without a port of its own", tunnel, nattedAsRouter(labGateway, through(201, "src=203.0.113.1")))
	l.remove(state.Ref{Kind: state.KindDown, ID: "h2"})
	l.same()
	l.expect("the first host is back", asked, "drop")
}

// Without translation, and of IPv6, what leaves goes from each host with the host's own Ethernet address, and comes by the gateway's.
func TestNoTranslation(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) { r.Gateway.Hosts = []string{"h2"} })
	l.plug(1, "n1", "10.0.1.11", nil)
	l.expect("out", outward(1, "tcp"), toOuter(labSelf))
	l.set(&state.Down{ID: "h2"})
	l.routed(func(r *state.Router) { r.Gateway.Hosts = []string{"h2", "h1"} })
	l.same()
	l.expect("out of the gateway's host", outward(1, "tcp"), toOuter(labGateway))
	l.expect("in", comes(labGateway, "tcp", "nw_src=192.0.2.80,nw_dst=10.0.1.11,nw_ttl=60"),
		`set\(eth\(dst=fa:16:3e:00:00:01\)\),check_pkt_len\(size=1464,gt\(userspace.*\),le\(set\(eth\(src=`+labLeg1+`\)\),set\(ipv4\(ttl=59\)\),p1\)\)`)
	l.remove(state.Ref{Kind: state.KindUplink, ID: "physnet1"}, state.Ref{Kind: state.KindDown, ID: "h2"})
	l.same()
	l.expect("a host without a bridge there", outward(1, "tcp"), tunnelled("12", "0x400005"))
}

func TestHostsOwnAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) { r.Gateway.Snat = state.SnatHost })
	l.plug(1, "n1", "10.0.1.11", nil)
	own := &state.SnatAddress{ID: "x1", Network: "ext", Host: "h1", Owner: "h1", Address: netip.MustParseAddr("203.0.113.61"), MAC: labMAC(0x261), Ports: 1 << 16}
	const mac = "fa:16:3e:00:02:61"
	back := comes(mac, "udp", "nw_src=192.0.2.80,nw_dst=203.0.113.61,nw_ttl=60")
	l.expect("no address: nothing leaks", outward(1, "tcp"), "drop")
	l.set(own)
	l.expect("shared, and no zone yet", outward(1, "tcp"), "drop")
	l.set(&state.Zone{ID: state.NetworkZone("ext"), Snat: 203})
	l.same()
	l.expect("shared", outward(1, "tcp"), `set\(eth\(dst=`+labOuter+`\)\),`+through(201, `src=198\.18\.0\.201`)+`set\(eth\(src=`+mac+`\)\),`+through(203, "src=203.0.113.61")+`set\(ipv4\(ttl=63\)\),up0`)
	l.expect("back, of no connection", back, known(203)+"drop")
	l.expect("what the first zone gave", comes(mac, "udp", "nw_src=192.0.2.80,nw_dst=198.18.0.201,nw_ttl=60"), "drop")
	l.expect("who has it", comes("ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=203.0.113.254,arp_tpa=203.0.113.61,arp_sha="+labOuter), `.*sip=203.0.113.61,.*,up0`)
	dedicated := *own
	dedicated.Router = "r1"
	l.set(&dedicated)
	l.same()
	l.expect("the router's own", outward(1, "icmp"), natted(mac, through(201, "src=203.0.113.61")))
	l.expect("back to that, of no connection", back, known(201)+"drop")
}

// datagram is a frame with an empty datagram of UDP from a port to port 80, in hexadecimal digits. The connection tracker looks at the checksum of its header.
func datagram(src, dst state.MAC, from, to string, port uint16) string {
	a, b := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	ip := slices.Concat([]byte{0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, protoUDP, 0, 0}, a[:], b[:])
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum)) //nolint:gosec // one's complement
	return fmt.Sprintf("%012x%012x0800%x%04x005000080000", uint64(dst), uint64(src), ip, port)
}

// Where the connection tracker has no room for one more connection, the datapath in user space lets its packets by as they are. None leaves with a guest's
// address, whichever zone is full; those that have a connection go on.
func TestNothingLeavesUntranslatedWhenFull(t *testing.T) {
	t.Parallel()
	all := &state.SnatAddress{ID: "s1", Network: "ext", Host: labHost, Owner: labHost, Address: netip.MustParseAddr("203.0.113.61"), MAC: labMAC(0x261), Ports: 1 << 16}
	for name, full := range map[string]struct {
		zone   int
		mode   state.SnatMode
		object state.Object
	}{
		"of the router":               {201, state.SnatGateway, nil},
		"of floating IPs":             {202, state.SnatGateway, nil},
		"of the router, before a net": {201, state.SnatHost, all},
		"of the external network":     {203, state.SnatHost, all},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = full.mode, []string{labHost} })
			l.set(&state.Zone{ID: state.NetworkZone("ext"), Snat: 203})
			if full.object != nil {
				l.set(full.object)
			}
			if full.zone == 202 {
				l.floating()
			}
			l.plug(1, "n1", "10.0.1.11", nil)
			l.same()
			capture := filepath.Join(l.ovs.Dir, "up0.pcap")
			l.ovs.Vsctl("set", "Interface", "up0", "options:tx_pcap="+capture)
			l.command("dpctl/ct-set-limits", "dummy@ovs-dummy", fmt.Sprintf("zone=%d,limit=1", full.zone))
			for _, port := range []uint16{0x1111, 0x2222, 0x3333, 0x1111} {
				l.command("netdev-dummy/receive", "p1", datagram(labMAC(1), labMAC(0x101), "10.0.1.11", "192.0.2.80", port))
			}
			untranslated := func() (n int) {
				l.command("revalidator/wait")
				if err := l.conn.EachFlow(t.Context(), openflow.EveryFlow(), func(f *openflow.FlowView) error {
					if l.compiler.Reason(Cookie(f.Cookie).WithEpoch(0)) == "untranslated" {
						n += int(f.Packets) //nolint:gosec // few
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				return n
			}
			var raw []byte
			for deadline := time.Now().Add(20 * time.Second); ; {
				kept := untranslated()
				var err error
				if raw, err = os.ReadFile(capture); err != nil {
					t.Fatal(err)
				}
				left := bytes.Count(raw, []byte{192, 0, 2, 80})
				if kept == 2 && left == 2 {
					break
				}
				if kept+left > 4 || time.Now().After(deadline) {
					t.Fatalf("%d packets left and %d are counted as untranslated, want two each", left, kept)
				}
			}
			for _, a := range [][]byte{{10, 0, 1, 11}, {198, 18, 0, 201}} {
				if bytes.Contains(raw, a) {
					t.Errorf("a packet left from %v", a)
				}
			}
		})
	}
}

func TestBlocksOfPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(func(r *state.Router) { r.Gateway.Snat, r.Gateway.Hosts = state.SnatBlocks, []string{"h3"} })
	l.plug(1, "n1", "10.0.1.11", nil)
	const mac = "fa:16:3e:00:02:70"
	block := func(host string, first uint16) *state.SnatAddress {
		return &state.SnatAddress{ID: fmt.Sprint(host, first), Network: "ext", Router: "r1", Host: host, Owner: "h1", Address: netip.MustParseAddr("203.0.113.70"), MAC: labMAC(0x270), FirstPort: first, Ports: 1024}
	}
	l.set(block("h1", 4096), block("h2", 5120), block("h2", 6144), block("h3", 7168))
	l.same()
	l.expect("out", outward(1, "tcp"), nattedAsRouter(labSelf, through(201, "src=203.0.113.70:4096-5119")))
	l.expect("what has no ports goes by the gateway's host", outward(1, "icmp"), tunnelled("13", "0x400005"))
	l.expect("an error about what came to a port", sends(1, labLeg1, "icmp", "nw_src=10.0.1.11,nw_dst=192.0.2.80,nw_ttl=64,icmp_type=3,icmp_code=3"),
		nattedAsRouter(labSelf, through(201, "src=203.0.113.70:4096-5119")))
	if got, how := l.trace(outward(1, "tcp"), "--ct-next", "trk,inv"); !strings.HasSuffix(got, "| drop") {
		t.Errorf("what belongs to no connection leaves untranslated: %s\n%s", got, how)
	}
	back := func(kind, port string) string {
		return comes(mac, kind, "nw_src=192.0.2.80,nw_dst=203.0.113.70,nw_ttl=60"+strings.Replace(port, "tp_", kind+"_", 1))
	}
	handed := func(host int) string {
		return fmt.Sprintf(`set\(eth\(src=%s,dst=0a:48:77:00:00:%02d\)\),up0`, labSelf, host)
	}
	l.expect("back, this host's", back("tcp", ",tp_dst=5119"), known(201)+"drop")
	l.expect("back, another's", back("tcp", ",tp_dst=5120"), handed(2))
	l.expect("back, its second block", back("udp", ",tp_dst=6200"), handed(2))
	l.expect("back, a third's", back("udp", ",tp_dst=7168"), handed(3))
	l.expect("back, nobody's", back("tcp", ",tp_dst=9000"), "drop")
	l.expect("an error is for whom it is about", back("icmp", ",icmp_type=3,icmp_code=3"), `ct\(zone=201,nat\),recirc\(0x[0-9a-f]+\),`+handed(2)+`,set\(eth\(dst=0a:48:77:00:00:03\)\),up0 \| drop`)
	d := l.set(block("h2", 8192))
	if len(d.Flows) != 2 {
		t.Errorf("%d flows changed for one more block, want one for TCP and one for UDP", len(d.Flows))
	}
	l.set(block("h1", 9216))
	l.expect("two blocks of this host", outward(1, "tcp"), `set\(eth\(dst=`+labOuter+`\)\),hash\(sym_l4\(0\)\),recirc\(0x[0-9a-f]+\)`)
	if g, _ := l.compiler.Group(GroupSnat | 5); len(g.Buckets) != 2 {
		t.Errorf("%d of this host's two blocks are used", len(g.Buckets))
	}
	// Where another host owns the address, what comes is handed over to this host's own Ethernet address.
	moved := block("h1", 4096)
	moved.Owner = "h2"
	l.remove(state.Ref{Kind: state.KindSnatAddress, ID: "h25120"}, state.Ref{Kind: state.KindSnatAddress, ID: "h26144"}, state.Ref{Kind: state.KindSnatAddress, ID: "h28192"},
		state.Ref{Kind: state.KindSnatAddress, ID: "h37168"}, state.Ref{Kind: state.KindSnatAddress, ID: "h19216"})
	l.set(moved)
	l.same()
	l.expect("handed over", comes(labSelf, "tcp", "nw_src=192.0.2.80,nw_dst=203.0.113.70,nw_ttl=60,tp_dst=4100"), known(201)+"drop")
	l.expect("no longer answered for", comes("ff:ff:ff:ff:ff:ff", "arp", "arp_op=1,arp_spa=203.0.113.254,arp_tpa=203.0.113.70,arp_sha="+labOuter), "drop")
}

// A floating IP whose external network travels in tunnels is refused: nothing is made of it, until the network is a physical one.
func TestFloatingIPInTunnels(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.routed(nil)
	l.plug(1, "n1", "10.0.1.11", nil)
	ext := l.network("ext")
	l.set(&state.FloatingIP{ID: "f1", Network: "ext", Router: "r1", Address: addrs("203.0.113.50")[0], MAC: labMAC(0x250), Port: "p1", FixedIP: addrs("10.0.1.11")[0]})
	made := func() (n int) {
		l.same()
		l.compiler.Flows(func(_ FlowKey, f Flow) bool {
			if f.Cookie.Kind() == state.KindFloatingIP {
				n++
			}
			return true
		})
		return n
	}
	if made() == 0 {
		t.Error("nothing is made of a floating IP on a physical network")
	}
	inTunnels := *ext
	inTunnels.Segment, inTunnels.Physical, inTunnels.VLAN = state.Overlay, "", 0
	l.set(&inTunnels)
	if n := made(); n > 0 {
		t.Errorf("%d flows are made of a floating IP in a network of tunnels", n)
	}
	l.set(ext)
	if made() == 0 {
		t.Error("nothing is made of it when the network is a physical one again")
	}
}

// network is a network of the lab's state.
func (l *lab) network(id string) (n *state.Network) {
	l.store.Read(func(v *state.View) { n = state.Find[*state.Network](v, id) })
	return n
}
