package openflow_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// ofctl is ovs-ofctl speaking to a switch that this test plays.
type ofctl struct {
	t    *testing.T
	addr string

	mu  sync.Mutex // guards the field below
	got [][]byte
}

func newOfctl(t *testing.T) *ofctl {
	t.Helper()
	ovstest.Need(t, "ovs-ofctl")
	o := &ofctl{t: t, addr: filepath.Join(t.TempDir(), "s")}
	l, err := net.Listen("unix", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { o.play(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return o
}

// play is the switch: it greets, and answers what ovs-ofctl waits for.
func (o *ofctl) play(c net.Conn) {
	defer c.Close()
	send := func(xid uint32, m of.Message) {
		raw, err := of.Append(nil, xid, m)
		if err != nil {
			o.t.Error(err)
		}
		_, _ = c.Write(raw)
	}
	send(0, &of.Hello{Versions: 1 << 4})
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		raw := make([]byte, binary.BigEndian.Uint16(head[2:]))
		copy(raw, head)
		if _, err := io.ReadFull(c, raw[8:]); err != nil {
			return
		}
		o.mu.Lock()
		o.got = append(o.got, raw)
		o.mu.Unlock()
		xid, m, err := of.Decode(raw)
		if err != nil {
			o.t.Errorf("ovs-ofctl sent %x: %v", raw, err)
			return
		}
		switch m := m.(type) {
		case *of.BarrierRequest:
			send(xid, &of.BarrierReply{})
		case *of.BundleControl:
			send(xid, &of.BundleControl{ID: m.ID, Type: m.Type + 1, Flags: m.Flags})
		case *of.GetConfigRequest:
			send(xid, &of.GetConfigReply{})
		case *of.MultipartRequest:
			send(xid, &of.MultipartReply{Multipart: of.Multipart{Kind: m.Kind}})
		}
	}
}

// run runs ovs-ofctl and returns what it sent, less the messages that every connection has.
func (o *ofctl) run(args ...string) [][]byte {
	o.t.Helper()
	o.mu.Lock()
	o.got = nil
	o.mu.Unlock()
	for i, a := range args {
		if a == "SWITCH" {
			args[i] = "unix:" + o.addr
		}
	}
	if _, err := ovstest.Exec(o.t.Context(), filepath.Dir(o.addr), "ovs-ofctl", append([]string{"--no-names", "-O", "OpenFlow13"}, args...)...); err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var out [][]byte
	for _, raw := range o.got {
		if kind := raw[1]; kind != 0 && kind != 20 && kind != 2 {
			out = append(out, raw)
		}
	}
	return out
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func mac(s string) net.HardwareAddr {
	a, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return a
}

func ip() of.Match    { return of.Match{}.Num(of.EthType, 0x800) }
func ip6() of.Match   { return of.Match{}.Num(of.EthType, 0x86dd) }
func tcp() of.Match   { return ip().Num(of.IPProto, 6) }
func udp() of.Match   { return ip().Num(of.IPProto, 17) }
func arp() of.Match   { return of.Match{}.Num(of.EthType, 0x806) }
func icmp6() of.Match { return ip6().Num(of.IPProto, 58) }

// matches are conditions as ovs-ofctl writes them and as we do.
var matches = []struct {
	text string
	want of.Match
}{
	{"", nil},
	{"in_port=5", of.Match{}.Num(of.InPort, 5)},
	{"in_port=LOCAL", of.Match{}.Num(of.InPort, of.PortLocal)},
	{"dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff", of.Match{}.MAC(of.EthSrc, mac("02:00:00:00:00:01")).MAC(of.EthDst, mac("ff:ff:ff:ff:ff:ff"))},
	{"dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", of.Match{}.Masked(of.EthDst, of.Num(1<<40), of.Num(1<<40))},
	{"dl_vlan=100,dl_vlan_pcp=3", of.Match{}.Num(of.VLANVID, 0x1064).Num(of.VLANPCP, 3)},
	{"vlan_tci=0", of.Match{}.Num(of.VLANVID, 0)},
	{"vlan_vid=0x1000/0x1000", of.Match{}.Masked(of.VLANVID, of.Num(0x1000), of.Num(0x1000))},
	{"ip,nw_src=10.0.0.0/8,nw_dst=192.168.1.7", ip().Prefix(of.IPv4Src, prefix("10.0.0.0/8")).Addr(of.IPv4Dst, addr("192.168.1.7"))},
	{"ip,nw_tos=0x28,nw_ttl=64", ip().Num(of.IPDSCP, 10).Num(of.IPTTL, 64)},
	{"ip,nw_ecn=2", ip().Num(of.IPECN, 2)},
	{"ip,ip_frag=yes", ip().Masked(of.IPFrag, of.Num(1), of.Num(1))},
	{"ip,ip_frag=first", ip().Num(of.IPFrag, 1)},
	{"ip,ip_frag=no", ip().Num(of.IPFrag, 0)},
	{"tcp,tp_src=0x400/0xfc00,tp_dst=443,tcp_flags=+syn-ack", tcp().Masked(of.TCPSrc, of.Num(0x400), of.Num(0xfc00)).Num(of.TCPDst, 443).Masked(of.TCPFlags, of.Num(2), of.Num(0x12))},
	{"udp,tp_src=68,tp_dst=67", udp().Num(of.UDPSrc, 68).Num(of.UDPDst, 67)},
	{"sctp,tp_dst=9", ip().Num(of.IPProto, 132).Num(of.SCTPDst, 9)},
	{"icmp,icmp_type=8,icmp_code=0", ip().Num(of.IPProto, 1).Num(of.ICMPv4Type, 8).Num(of.ICMPv4Code, 0)},
	{"ipv6,ipv6_src=fd00::/64,ipv6_dst=fd00::1,ipv6_label=7", ip6().Prefix(of.IPv6Src, prefix("fd00::/64")).Addr(of.IPv6Dst, addr("fd00::1")).Num(of.IPv6Label, 7)},
	{"icmp6,icmp_type=133", icmp6().Num(of.ICMPv6Type, 133)},
	{"icmp6,icmp_type=135,icmp_code=0,nd_target=fd00::2,nd_sll=02:00:00:00:00:02", icmp6().Num(of.ICMPv6Type, 135).Num(of.ICMPv6Code, 0).Addr(of.NDTarget, addr("fd00::2")).MAC(of.NDSLL, mac("02:00:00:00:00:02"))},
	{"icmp6,icmp_type=136,icmp_code=0,nd_target=fd00::2,nd_tll=02:00:00:00:00:02,nd_reserved=0x60000000,nd_options_type=2",
		icmp6().Num(of.ICMPv6Type, 136).Num(of.ICMPv6Code, 0).Num(of.NDReserved, 0x60000000).Addr(of.NDTarget, addr("fd00::2")).Num(of.NDOptionsType, 2).MAC(of.NDTLL, mac("02:00:00:00:00:02"))},
	{"arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/24,arp_sha=02:00:00:00:00:01,arp_tha=00:00:00:00:00:00",
		arp().Num(of.ARPOp, 1).Addr(of.ARPSPA, addr("10.0.0.1")).Prefix(of.ARPTPA, prefix("10.0.0.0/24")).MAC(of.ARPSHA, mac("02:00:00:00:00:01")).Num(of.ARPTHA, 0)},
	{"tun_id=0x200001/0x600001,tun_src=172.31.1.10,tun_dst=172.31.1.11", of.Match{}.Masked(of.TunID, of.Num(0x200001), of.Num(0x600001)).Addr(of.TunSrc, addr("172.31.1.10")).Addr(of.TunDst, addr("172.31.1.11"))},
	{"tun_ipv6_src=fd01::1,tun_flags=+oam", of.Match{}.Addr(of.TunIPv6Src, addr("fd01::1")).Masked(of.TunFlags, of.Num(1), of.Num(1))},
	{"reg0=0x1/0x1,reg15=7,metadata=0x123/0xffffffff,pkt_mark=0x5", of.Match{}.Masked(of.Reg0, of.Num(1), of.Num(1)).Num(of.Reg15, 7).Masked(of.Metadata, of.Num(0x123), of.Num(0xffffffff)).Num(of.PktMark, 5)},
	{"ct_state=+trk+est-inv,ct_zone=7,ct_mark=0/0x1,ct_label=0x5/0xffffffff", of.Match{}.Masked(of.CTState, of.Num(0x22), of.Num(0x32)).Num(of.CTZone, 7).Masked(of.CTMark, of.Num(0), of.Num(1)).Masked(of.CTLabel, of.Num(5), of.Num(0xffffffff))},
	{"ct_state=+trk+est,ip,ct_nw_src=10.0.0.0/8,ct_nw_dst=10.0.0.1,ct_nw_proto=6,ct_tp_src=1000,ct_tp_dst=80",
		ip().Masked(of.CTState, of.Num(0x22), of.Num(0x22)).Prefix(of.CTNWSrc, prefix("10.0.0.0/8")).Addr(of.CTNWDst, addr("10.0.0.1")).Num(of.CTNWProto, 6).Num(of.CTTPSrc, 1000).Num(of.CTTPDst, 80)},
	{"ct_state=+trk+est,ipv6,ct_ipv6_src=fd00::1,ct_ipv6_dst=fd00::/16", ip6().Masked(of.CTState, of.Num(0x22), of.Num(0x22)).Addr(of.CTIPv6Src, addr("fd00::1")).Prefix(of.CTIPv6Dst, prefix("fd00::/16"))},
	{"conj_id=77,ip", ip().Num(of.ConjID, 77)},
	{"tun_metadata0=0x12345678,tun_metadata1=0xff00000000000000/0xff00000000000000", of.Match{}.Num(of.TunMetadata(0, 4), 0x12345678).Masked(of.TunMetadata(1, 8), of.Num(0xff<<56), of.Num(0xff<<56))},
	{"dl_vlan_pcp=5", of.Match{}.Masked(of.VLANVID, of.Num(0x1000), of.Num(0x1000)).Num(of.VLANPCP, 5)},
	{"vlan_tci=0x1005/0x100f", of.Match{}.Masked(of.VLANVID, of.Num(0x1005), of.Num(0x100f))},
	{"dl_type=0x88cc", of.Match{}.Num(of.EthType, 0x88cc)},
	{"ip,nw_proto=47,nw_src=10.0.0.0/255.0.0.255", ip().Num(of.IPProto, 47).Masked(of.IPv4Src, of.Num(10<<24), of.Num(0xff0000ff))},
	{"ipv6,ipv6_src=fe80::/ffff::ffff,ipv6_dst=::ffff:10.0.0.1,ipv6_label=0x10/0xf0", ip6().Masked(of.IPv6Src, of.Bytes(addr("fe80::").AsSlice()), of.Bytes(addr("ffff::ffff").AsSlice())).
		Addr(of.IPv6Dst, addr("::ffff:10.0.0.1")).Masked(of.IPv6Label, of.Num(0x10), of.Num(0xf0))},
	{"ipv6,ipv6_dst=::10.0.0.1", ip6().Addr(of.IPv6Dst, addr("::a00:1"))},
	{"ct_state=new|trk,ip,nw_frag=later", ip().Masked(of.CTState, of.Num(0x21), of.Num(0xff)).Masked(of.IPFrag, of.Num(3), of.Num(3))},
	{"ip,nw_frag=not_later", ip().Masked(of.IPFrag, of.Num(0), of.Num(2))},
	{"tcp,tcp_flags=syn|ack", tcp().Masked(of.TCPFlags, of.Num(0x12), of.Num(0xfff))},
	{"tcp6,tp_dst=80", ip6().Num(of.IPProto, 6).Num(of.TCPDst, 80)},
	{"udp6,tp_src=546,nw_tos=0,nw_ttl=0", ip6().Num(of.IPProto, 17).Num(of.UDPSrc, 546).Num(of.IPDSCP, 0).Num(of.IPTTL, 0)},
	{"rarp,arp_op=3", of.Match{}.Num(of.EthType, 0x8035).Num(of.ARPOp, 3)},
	{"reg0=0,metadata=0,tun_id=0,ct_label=0,ct_mark=0,ct_zone=0", of.Match{}.Num(of.Reg0, 0).Num(of.Metadata, 0).Num(of.TunID, 0).Num(of.CTLabel, 0).Num(of.CTMark, 0).Num(of.CTZone, 0)},
	{"reg12=0x1,reg13=0x2,reg14=0x3,reg15=0x4", of.Match{}.Num(of.Reg12, 1).Num(of.Reg13, 2).Num(of.Reg14, 3).Num(of.Reg15, 4)},
	{"dp_hash=0x5/0xf", of.Match{}.Masked(of.DPHash, of.Num(5), of.Num(15))},
}

func reg(n, from, bits int) of.Part { return of.Part{Field: of.Reg(n), From: from, N: bits} }

// acts are actions as ovs-ofctl writes them and as we do. They stand in a flow of IPv4, or of what comes before a bar.
var acts = []struct {
	text string
	want []of.Action
}{
	{"output:7", []of.Action{&of.Output{Port: 7}}},
	{"in_port", []of.Action{&of.Output{Port: of.PortIn}}},
	{"LOCAL,NORMAL", []of.Action{&of.Output{Port: of.PortLocal}, &of.Output{Port: of.PortNormal}}},
	{"push_vlan:0x8100,set_field:4196->vlan_vid,pop_vlan", []of.Action{&of.PushVLAN{EtherType: 0x8100}, &of.SetField{Field: of.VLANVID, Value: of.Num(4196)}, &of.PopVLAN{}}},
	{"group:5", []of.Action{&of.Group{Group: 5}}},
	{"set_queue:3", []of.Action{&of.SetQueue{Queue: 3}}},
	{"mod_nw_ttl:9,dec_ttl", []of.Action{&of.SetNWTTL{TTL: 9}, &of.DecNWTTL{}}},
	{"dec_ttl(1,2)", []of.Action{&of.DecTTLTo{Controllers: []uint16{1, 2}}}},
	{"set_field:02:00:00:00:00:09->eth_src,set_field:0x123->tun_id,set_field:10.0.0.9->tun_dst,set_field:7->reg3",
		[]of.Action{&of.SetField{Field: of.EthSrc, Value: of.Bytes(mac("02:00:00:00:00:09"))}, &of.SetField{Field: of.TunID, Value: of.Num(0x123)},
			&of.SetField{Field: of.TunDst, Value: of.Bytes(addr("10.0.0.9").AsSlice())}, &of.SetField{Field: of.Reg3, Value: of.Num(7)}}},
	{"set_field:0x100/0xff00->reg1", of.Set(of.Reg1, of.Num(0x100), of.Num(0xff00))},
	{"set_field:0x5/0x5->reg1", of.Set(of.Reg1, of.Num(5), of.Num(5))},
	{"set_field:0x1/0x1->metadata", of.Set(of.Metadata, of.Num(1), of.Num(1))},
	{"load:0x1->NXM_NX_REG0[3]", []of.Action{&of.Load{To: of.Bit(of.Reg0, 3), Value: 1}}},
	{"load:0x5->OXM_OF_METADATA[32..52]", []of.Action{&of.Load{To: of.Part{Field: of.Metadata, From: 32, N: 21}, Value: 5}}},
	{"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_NX_REG1[0..15]->NXM_NX_REG2[16..31]", []of.Action{
		&of.Move{From: of.Whole(of.EthSrc), To: of.Whole(of.EthDst)}, &of.Move{From: reg(1, 0, 16), To: reg(2, 16, 16)}}},
	{"ipv6|move:NXM_NX_XXREG3[]->NXM_NX_IPV6_DST[]", []of.Action{&of.Move{From: of.Whole(of.XXReg3), To: of.Whole(of.IPv6Dst)}}},
	{"ct_state=+trk+est,ip|resubmit(,12),resubmit(3,13),resubmit(,14,ct)", []of.Action{&of.Resubmit{InPort: of.ResubmitInPort, Table: 12}, &of.Resubmit{InPort: 3, Table: 13},
		&of.Resubmit{InPort: of.ResubmitInPort, Table: 14, CT: true}}},
	{"load:0x9->NXM_NX_REG1[]", []of.Action{&of.Load{To: of.Whole(of.Reg1), Value: 9}}},
	{"set_field:7->ip_dscp,set_field:1->nw_ecn,set_field:64->nw_ttl,set_field:0x1234->metadata,set_field:0xfedcba9876543210fedcba9876543210->xxreg1,set_field:5->pkt_mark",
		[]of.Action{&of.SetField{Field: of.IPDSCP, Value: of.Num(7)}, &of.SetField{Field: of.IPECN, Value: of.Num(1)}, &of.SetField{Field: of.IPTTL, Value: of.Num(64)},
			&of.SetField{Field: of.Metadata, Value: of.Num(0x1234)}, &of.SetField{Field: of.XXReg1, Value: of.Value{Hi: 0xfedcba9876543210, Lo: 0xfedcba9876543210}}, &of.SetField{Field: of.PktMark, Value: of.Num(5)}}},
	{"set_field:0x12345678->tun_metadata0,set_field:0x12000000/0xff000000->tun_metadata0", append([]of.Action{&of.SetField{Field: of.TunMetadata(0, 4), Value: of.Num(0x12345678)}},
		of.Set(of.TunMetadata(0, 4), of.Num(0x12000000), of.Num(0xff000000))...)},
	{"set_field:0->tun_metadata0,set_field:0x12->tun_metadata0", []of.Action{&of.SetField{Field: of.TunMetadata(0, 1)}, &of.SetField{Field: of.TunMetadata(0, 1), Value: of.Num(0x12)}}},
	{"resubmit:7", []of.Action{&of.Resubmit{InPort: 7, Table: 0xff}}},
	{"tcp|fin_timeout(idle_timeout=5,hard_timeout=9)", []of.Action{&of.FinTimeout{Idle: 5, Hard: 9}}},
	{"controller(id=3),CONTROLLER:65535,CONTROLLER:128", []of.Action{&of.Controller{Short: true, MaxLen: of.NoLimit, ID: 3, Reason: of.ReasonAction},
		&of.Output{Port: of.PortController, MaxLen: 65535}, &of.Output{Port: of.PortController, MaxLen: 128}}},
	{"exit", []of.Action{&of.Exit{}}},
	{"multipath(symmetric_l4,1024,modulo_n,16,0,NXM_NX_REG0[0..3])", []of.Action{&of.Multipath{Fields: of.HashSymmetricL4, Basis: 1024, Links: 16, To: reg(0, 0, 4)}}},
	{"bundle(symmetric_l3,7,hrw,ofport,members:1,2)", []of.Action{&of.MemberChoice{Fields: of.HashSymmetricL3, Basis: 7, Algorithm: of.MemberHighestWeight, Members: []uint16{1, 2}}}},
	{"bundle_load(eth_src,50,active_backup,ofport,NXM_NX_REG0[0..15],members:1,2,3)",
		[]of.Action{&of.MemberChoice{Basis: 50, Algorithm: of.MemberActiveBackup, Members: []uint16{1, 2, 3}, To: reg(0, 0, 16)}}},
	{"sample(probability=1,collector_set_id=1,obs_domain_id=2,obs_point_id=3)", []of.Action{&of.Sample{Probability: 1, CollectorSet: 1, Domain: 2, Point: 3, Port: of.NoPort}}},
	{"sample(probability=1,collector_set_id=1,obs_domain_id=2,obs_point_id=3,sampling_port=7)", []of.Action{&of.Sample{Probability: 1, CollectorSet: 1, Domain: 2, Point: 3, Port: 7}}},
	{"learn(limit=5,table=1,result_dst=NXM_NX_REG0[8],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])", []of.Action{&of.Learn{Table: 1, Priority: 0x8000, Flags: of.LearnWriteResult, Limit: 5, Result: of.Bit(of.Reg0, 8),
		Specs: []of.LearnSpec{{Kind: of.LearnMatch, From: of.Whole(of.EthSrc), To: of.Whole(of.EthDst)}}}}},
	{"learn(limit=9,table=1,send_flow_rem,NXM_OF_VLAN_TCI[0..11],eth_type=0x800,NXM_NX_REG1[0..7]=0x5)", []of.Action{&of.Learn{Table: 1, Priority: 0x8000, Flags: of.LearnSendFlowRemoved, Limit: 9,
		Specs: []of.LearnSpec{{Kind: of.LearnMatch, From: of.Part{Field: of.NXMVLANTCI, N: 12}, To: of.Part{Field: of.NXMVLANTCI, N: 12}},
			{Kind: of.LearnMatch, Value: []byte{8, 0}, To: of.Whole(of.EthType)}, {Kind: of.LearnMatch, Value: []byte{0, 5}, To: reg(1, 0, 8)}}}}},
	{"ct(commit,nat(src=10.0.0.1,persistent,hash),exec(load:0x1->NXM_NX_CT_MARK[0]))", []of.Action{&of.CT{Flags: of.CTCommit, Table: of.NoTable, Actions: []of.Action{
		&of.NAT{Flags: of.NATSrc | of.NATPersistent | of.NATHash, Min: addr("10.0.0.1").AsSlice()}, &of.Load{To: of.Bit(of.CTMark, 0), Value: 1}}}}},
	{"tcp6|ct(commit,nat(src=[fd00::1]-[fd00::9]:1000-2000))", []of.Action{&of.CT{Flags: of.CTCommit, Table: of.NoTable, Actions: []of.Action{
		&of.NAT{Flags: of.NATSrc, Min: addr("fd00::1").AsSlice(), Max: addr("fd00::9").AsSlice(), MinPort: 1000, MaxPort: 2000}}}}},
	{"ct(commit,nat(src))", []of.Action{&of.CT{Flags: of.CTCommit, Table: of.NoTable, Actions: []of.Action{&of.NAT{Flags: of.NATSrc}}}}},
	{"udp|ct(commit,zone=5,alg=tftp)", []of.Action{&of.CT{Flags: of.CTCommit, Zone: 5, Table: of.NoTable, ALG: 69}}},
	{"clone(clone(output:1),push_vlan:0x88a8,output:2)", []of.Action{&of.Clone{Actions: []of.Action{&of.Clone{Actions: []of.Action{&of.Output{Port: 1}}}, &of.PushVLAN{EtherType: 0x88a8}, &of.Output{Port: 2}}}}},
	{"drop", nil},
	{"note:01.02.03.04.05.06", []of.Action{&of.Note{Data: []byte{1, 2, 3, 4, 5, 6}}}},
	{"output:NXM_NX_REG7[0..15]", []of.Action{&of.OutputReg{From: reg(7, 0, 16), MaxLen: of.NoLimit}}},
	{"push:NXM_NX_REG1[],pop:NXM_NX_REG2[]", []of.Action{&of.Push{From: of.Whole(of.Reg1)}, &of.Pop{To: of.Whole(of.Reg2)}}},
	{"sample(probability=65535,collector_set_id=1,obs_domain_id=2,obs_point_id=3,sampling_port=4,egress)",
		[]of.Action{&of.Sample{Probability: 65535, CollectorSet: 1, Domain: 2, Point: 3, Port: 4, Direction: 2}}},
	{"ct(table=21,zone=NXM_NX_REG6[0..15])", []of.Action{&of.CT{Table: 21, ZoneOf: reg(6, 0, 16)}}},
	{"ct(commit,zone=7,exec(load:0x1->NXM_NX_CT_MARK[0],set_field:0x9/0xffffffff->ct_label))", []of.Action{&of.CT{Flags: of.CTCommit, Zone: 7, Table: of.NoTable,
		Actions: append([]of.Action{&of.Load{To: of.Bit(of.CTMark, 0), Value: 1}}, of.Set(of.CTLabel, of.Num(9), of.Num(0xffffffff))...)}}},
	{"ct(commit,table=5,nat(src=10.0.0.1-10.0.0.9:1024-2047,random))", []of.Action{&of.CT{Flags: of.CTCommit, Table: 5, Actions: []of.Action{
		&of.NAT{Flags: of.NATSrc | of.NATRandom, Min: addr("10.0.0.1").AsSlice(), Max: addr("10.0.0.9").AsSlice(), MinPort: 1024, MaxPort: 2047}}}}},
	{"tcp6|ct(commit,force,alg=ftp,nat(dst=[fd00::1]))", []of.Action{&of.CT{Flags: of.CTCommit | of.CTForce, ALG: 21, Table: of.NoTable, Actions: []of.Action{
		&of.NAT{Flags: of.NATDst, Min: addr("fd00::1").AsSlice()}}}}},
	{"ct(nat,table=9)", []of.Action{&of.CT{Table: 9, Actions: []of.Action{&of.NAT{}}}}},
	{"ct_clear", []of.Action{&of.CTClear{}}},
	{"output(port=5,max_len=64)", []of.Action{&of.OutputTrunc{Port: 5, MaxLen: 64}}},
	{"clone(set_field:1->reg0,output:3),output:4", []of.Action{&of.Clone{Actions: []of.Action{&of.SetField{Field: of.Reg0, Value: of.Num(1)}, &of.Output{Port: 3}}}, &of.Output{Port: 4}}},
	{"check_pkt_larger(1450)->NXM_NX_REG0[4]", []of.Action{&of.CheckPktLarger{Len: 1450, To: of.Bit(of.Reg0, 4)}}},
	{"controller(userdata=01.02.03.04.05,meter_id=9)", []of.Action{&of.Controller{MaxLen: of.NoLimit, Reason: of.ReasonAction, UserData: []byte{1, 2, 3, 4, 5}, Meter: 9}}},
	{"controller(userdata=00,pause,max_len=128,reason=invalid_ttl,id=3)", []of.Action{&of.Controller{MaxLen: 128, ID: 3, Reason: of.ReasonInvalidTTL, UserData: []byte{0}, Pause: true}}},
	{"learn(table=61,idle_timeout=300,hard_timeout=5,fin_idle_timeout=3,fin_hard_timeout=4,priority=100,cookie=0x123,delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],reg0=0x5,load:NXM_NX_REG1[0..15]->NXM_NX_REG2[16..31],load:0x7->NXM_NX_REG3[],output:NXM_OF_IN_PORT[])",
		[]of.Action{&of.Learn{Table: 61, Idle: 300, Hard: 5, FinIdle: 3, FinHard: 4, Priority: 100, Cookie: 0x123, Flags: of.LearnDeleteLearned, Specs: []of.LearnSpec{
			{Kind: of.LearnMatch, From: of.Whole(of.EthSrc), To: of.Whole(of.EthDst)},
			{Kind: of.LearnMatch, Value: []byte{0, 0, 0, 5}, To: of.Whole(of.Reg0)},
			{Kind: of.LearnLoad, From: reg(1, 0, 16), To: reg(2, 16, 16)},
			{Kind: of.LearnLoad, Value: []byte{0, 0, 0, 7}, To: of.Whole(of.Reg3)},
			{Kind: of.LearnOutput, From: of.Whole(of.NXMInPort), To: of.Part{N: 16}},
		}}}},
}

// same holds a message of ours against ovs-ofctl's bytes, both ways.
func same(t *testing.T, text string, theirs []byte, ours of.Message) {
	t.Helper()
	xid, got, err := of.Decode(theirs)
	if err != nil {
		t.Errorf("%s: %v\n%s", text, err, hex.Dump(theirs))
		return
	}
	if !reflect.DeepEqual(got, ours) {
		t.Errorf("%s: decoded\n%#v\nwant\n%#v", text, dump(got), dump(ours))
	}
	raw, err := of.Append(nil, xid, ours)
	if err != nil || !bytes.Equal(raw, theirs) {
		t.Errorf("%s: %v, encoded\n%s\nwant\n%s", text, err, hex.Dump(raw), hex.Dump(theirs))
	}
}

// dump shows what pointers point to.
func dump(m of.Message) string {
	raw, err := of.Append(nil, 0, m)
	return strings.TrimSpace(hex.Dump(raw)) + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func apply(actions ...of.Action) []of.Instruction {
	if len(actions) == 0 {
		return nil
	}
	return []of.Instruction{&of.InstrApply{Actions: actions}}
}

func flow(command of.FlowCommand, change func(*of.FlowMod)) *of.FlowMod {
	m := of.NewFlowMod(command)
	m.Priority = 0x8000
	change(m)
	return m
}

func TestMatchesAsOfctl(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	for _, tt := range matches {
		got := o.run("add-flow", "SWITCH", "table=3,"+tt.text+",actions=output:1")
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", tt.text, len(got))
			continue
		}
		same(t, tt.text, got[0], flow(of.FlowAdd, func(m *of.FlowMod) {
			m.Table, m.Match, m.Instructions = 3, tt.want, apply(&of.Output{Port: 1})
		}))
	}
}

func TestActionsAsOfctl(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	for _, tt := range acts {
		on, text, found := strings.Cut(tt.text, "|")
		if !found {
			on, text = "ip", tt.text
		}
		match := actsOn[on]
		got := o.run("add-flow", "SWITCH", on+",actions="+text)
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", tt.text, len(got))
			continue
		}
		same(t, tt.text, got[0], flow(of.FlowAdd, func(m *of.FlowMod) { m.Match, m.Instructions = match, apply(tt.want...) }))
	}
}

// messages are what other verbs of ovs-ofctl send.
var messages = []struct {
	args string // words are parted by blanks
	want of.Message
}{
	{"mod-flows SWITCH table=2,cookie=0x5/0xff,ip,actions=goto_table:7", flow(of.FlowModify, func(m *of.FlowMod) {
		m.Table, m.Cookie, m.CookieMask, m.Match, m.Instructions = 2, 5, 0xff, ip(), []of.Instruction{&of.InstrGoto{Table: 7}}
	})},
	{"--strict mod-flows SWITCH table=2,priority=9,actions=drop", flow(of.FlowModifyStrict, func(m *of.FlowMod) { m.Table, m.Priority = 2, 9 })},
	{"del-flows SWITCH cookie=0x1000000000000/0xffff000000000000,out_port=7,out_group=3", flow(of.FlowDelete, func(m *of.FlowMod) {
		m.Table, m.Cookie, m.CookieMask, m.OutPort, m.OutGroup = of.AllTables, 1<<48, 0xffff<<48, 7, 3
	})},
	{"--strict del-flows SWITCH table=4,priority=7,in_port=1", flow(of.FlowDeleteStrict, func(m *of.FlowMod) { m.Table, m.Priority, m.Match = 4, 7, of.Match{}.Num(of.InPort, 1) })},
	{"add-flow SWITCH table=1,cookie=0x77,idle_timeout=5,hard_timeout=6,send_flow_rem,check_overlap,reset_counts,actions=meter:8,output:1,clear_actions,write_actions(group:2),write_metadata:0x5/0xff,goto_table:9",
		flow(of.FlowAdd, func(m *of.FlowMod) {
			m.Table, m.Cookie, m.Idle, m.Hard, m.Flags = 1, 0x77, 5, 6, of.FlowSendRemoved|of.FlowCheckOverlap|of.FlowResetCounts
			m.Instructions = []of.Instruction{&of.InstrMeter{Meter: 8}, &of.InstrApply{Actions: []of.Action{&of.Output{Port: 1}}}, &of.InstrClear{},
				&of.InstrWrite{Actions: []of.Action{&of.Group{Group: 2}}}, &of.InstrWriteMetadata{Value: 5, Mask: 0xff}, &of.InstrGoto{Table: 9}}
		})},
	{"add-flow SWITCH actions=conjunction(5,1/2),conjunction(6,3/3)", flow(of.FlowAdd, func(m *of.FlowMod) {
		m.Instructions = apply(&of.Conjunction{ID: 5, Clause: 0, N: 2}, &of.Conjunction{ID: 6, Clause: 2, N: 3})
	})},
	{"add-group SWITCH group_id=5,type=all,bucket=output:1,bucket=set_field:9->tun_id,output:2", &of.GroupMod{Type: of.GroupOfAll, ID: 5, Buckets: []of.Bucket{
		of.NewBucket(&of.Output{Port: 1}), of.NewBucket(&of.SetField{Field: of.TunID, Value: of.Num(9)}, &of.Output{Port: 2})}}},
	{"--may-create mod-group SWITCH group_id=6,type=select,bucket=weight:10,watch_port:3,actions=output:3,bucket=weight:20,watch_group:5,actions=group:5", &of.GroupMod{Command: of.GroupAddOrModify, Type: of.GroupSelect, ID: 6, Buckets: []of.Bucket{
		{Weight: 10, WatchPort: 3, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 3}}},
		{Weight: 20, WatchPort: of.PortAny, WatchGroup: 5, Actions: []of.Action{&of.Group{Group: 5}}}}}},
	{"add-group SWITCH group_id=7,type=fast_failover,bucket=watch_port:1,actions=output:1", &of.GroupMod{Type: of.GroupFastFailover, ID: 7, Buckets: []of.Bucket{
		{WatchPort: 1, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 1}}}}}},
	{"mod-group SWITCH group_id=8,type=indirect,bucket=output:1", &of.GroupMod{Command: of.GroupModify, Type: of.GroupIndirect, ID: 8, Buckets: []of.Bucket{of.NewBucket(&of.Output{Port: 1})}}},
	{"del-groups SWITCH", &of.GroupMod{Command: of.GroupDelete, ID: of.AllGroups}},
	{"add-meter SWITCH meter=3,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100", &of.MeterMod{Flags: of.MeterKBPS | of.MeterBurst | of.MeterCount, ID: 3, Bands: []of.Band{{Type: 1, Rate: 1000, Burst: 100}}}},
	{"mod-meter SWITCH meter=3,pktps,bands=type=dscp_remark,rate=7,prec_level=2", &of.MeterMod{Command: of.MeterModify, Flags: of.MeterPktPS, ID: 3, Bands: []of.Band{{Type: 2, Rate: 7, Level: 2}}}},
	{"del-meter SWITCH meter=3", &of.MeterMod{Command: of.MeterDelete, ID: 3}},
	{"packet-out SWITCH in_port=LOCAL,packet=0123456789ab0123456789ab0800,actions=resubmit(,5)", &of.PacketOut{BufferID: of.NoBuffer, InPort: of.PortLocal,
		Actions: []of.Action{&of.Resubmit{InPort: of.ResubmitInPort, Table: 5}}, Data: []byte("\x01\x23\x45\x67\x89\xab\x01\x23\x45\x67\x89\xab\x08\x00")}},
	{"ct-flush SWITCH zone=7", &of.CTFlush{Zone: ptr(uint16(7))}},
	{"ct-flush SWITCH zone=8 ct_nw_proto=6,ct_nw_src=10.0.0.1,ct_tp_dst=80 ct_nw_dst=10.0.0.2", &of.CTFlush{Proto: 6, Zone: ptr(uint16(8)),
		Original: &of.CTTuple{Src: addr16("10.0.0.1"), DstPort: ptr(uint16(80))}, Reply: &of.CTTuple{Dst: addr16("10.0.0.2")}}},
	{"ct-flush-zone SWITCH 9", &of.CTFlushZone{Zone: 9}},
	{"add-tlv-map SWITCH {class=0xffff,type=0x1,len=4}->tun_metadata0,{class=0xffff,type=0x2,len=8}->tun_metadata1", &of.TLVTableMod{Maps: []of.TLVMap{
		{Class: 0xffff, Type: 1, Len: 4}, {Class: 0xffff, Type: 2, Len: 8, Index: 1}}}},
}

func ptr[T any](v T) *T { return &v }

func addr16(s string) []byte {
	a := addr(s).As16()
	return a[:]
}

func TestMessagesAsOfctl(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	for _, tt := range messages {
		got := o.run(strings.Fields(tt.args)...)
		for len(got) > 0 && (got[0][1] == 7 || got[0][1] == 18) { // what it asks first
			got = got[1:]
		}
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", tt.args, len(got))
			continue
		}
		same(t, tt.args, got[0], tt.want)
	}
}

// requests are what the dumps of ovs-ofctl ask.
var requests = []struct {
	args string
	kind of.PartKind
	want of.Body
}{
	{"dump-desc SWITCH", of.PartDesc, &of.Empty{}},
	{"dump-flows SWITCH table=5,cookie=0x7/0xff,ip", of.PartFlow, &of.FlowRequest{Table: 5, OutPort: of.PortAny, OutGroup: of.AnyGroup, Cookie: 7, CookieMask: 0xff, Match: ip()}},
	{"dump-flows SWITCH", of.PartFlow, of.EveryFlow()},
	{"dump-aggregate SWITCH in_port=3", of.PartAggregate, &of.FlowRequest{Table: of.AllTables, OutPort: of.PortAny, OutGroup: of.AnyGroup, Match: of.Match{}.Num(of.InPort, 3)}},
	{"dump-tables SWITCH", of.PartTable, &of.Empty{}},
	{"dump-ports SWITCH 7", of.PartPortStats, &of.PortRequest{Port: 7}},
	{"dump-ports SWITCH", of.PartPortStats, &of.PortRequest{Port: of.PortAny}},
	{"dump-ports-desc SWITCH", of.PartPortDesc, &of.PortDescRequest{Port: of.PortAny}},
	{"queue-stats SWITCH 3 4", of.PartQueue, &of.QueueRequest{Port: 3, Queue: 4}},
	{"dump-group-stats SWITCH group_id=5", of.PartGroup, &of.GroupRequest{Group: 5}},
	{"dump-groups SWITCH", of.PartGroupDesc, &of.GroupDescRequest{Group: of.AllGroups}},
	{"dump-group-features SWITCH", of.PartGroupFeatures, &of.Empty{}},
	{"meter-stats SWITCH meter=3", of.PartMeter, &of.MeterRequest{Meter: 3}},
	{"dump-meters SWITCH", of.PartMeterConfig, &of.MeterRequest{Meter: of.AllMeters}},
	{"meter-features SWITCH", of.PartMeterFeatures, &of.Empty{}},
}

func TestRequestsAsOfctl(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	for _, tt := range requests {
		got := o.run(strings.Fields(tt.args)...)
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", tt.args, len(got))
			continue
		}
		same(t, tt.args, got[0], &of.MultipartRequest{Multipart: of.Multipart{Kind: tt.kind, Body: tt.want}})
	}
}

// A bundle of ovs-ofctl's is opened, filled and committed by what we write too.
func TestBundleAsOfctl(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	got := o.run("--bundle", "add-flow", "SWITCH", "priority=5,actions=drop")
	var kinds []string
	for _, raw := range got {
		xid, m, err := of.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, strings.TrimPrefix(reflect.TypeOf(m).String(), "*openflow."))
		if again, err := of.Append(nil, xid, m); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%T: %v, encoded\n%s\nwant\n%s", m, err, hex.Dump(again), hex.Dump(raw))
		}
		if add, ok := m.(*of.BundleAdd); ok {
			if f, ok := add.Message.(*of.FlowMod); !ok || f.Priority != 5 || add.Flags != of.BundleAtomic|of.BundleOrdered {
				t.Errorf("the bundle holds %#v", add)
			}
		}
	}
	if want := "BundleControl BundleAdd BundleControl"; strings.Join(kinds, " ") != want {
		t.Errorf("ovs-ofctl sent %s, want %s", kinds, want)
	}
}

// Forms of actions that ovs-ofctl reads and does not write in OpenFlow 1.3 are read by it as we mean them, and by us again.
func TestOfctlReadsOtherForms(t *testing.T) {
	t.Parallel()
	ovstest.Need(t, "ovs-ofctl")
	for _, tt := range []struct {
		text string
		a    of.Action
	}{
		{"set_tunnel:0x5", &of.SetTunnel{ID: 5}},
		{"set_tunnel64:0x1000000005", &of.SetTunnel{ID: 0x1000000005, Wide: true}},
		{"resubmit:7", &of.ResubmitPort{InPort: 7}},
		{"output:NXM_NX_REG1[0..15]", &of.OutputReg{From: reg(1, 0, 16), MaxLen: of.NoLimit, Long: true}},
		{"set_field:0x5/0xff->reg1", &of.LoadMasked{Field: of.Reg1, Value: of.Num(5), Mask: of.Num(0xff)}},
		{"learn(table=1,NXM_OF_ETH_DST[])", &of.Learn{Table: 1, Priority: 0x8000, Specs: []of.LearnSpec{{From: of.Whole(of.EthDst), To: of.Whole(of.EthDst)}}}},
		{"controller(reason=no_match,max_len=9,id=2)", &of.Controller{Short: true, MaxLen: 9, ID: 2, Reason: of.ReasonNoMatch}},
		{"CONTROLLER:9", &of.Controller{Short: true, MaxLen: 9, Reason: of.ReasonAction}},
	} {
		raw, err := of.Append(nil, 1, flow(of.FlowAdd, func(m *of.FlowMod) { m.Instructions = apply(tt.a) }))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		out, err := ovstest.Exec(t.Context(), t.TempDir(), "ovs-ofctl", "ofp-print", hex.EncodeToString(raw))
		if ours := (of.Names{}).Actions([]of.Action{tt.a}); err != nil || !strings.Contains(out, "actions="+tt.text+"\n") || ours != tt.text {
			t.Errorf("%s: %v, ovs-ofctl reads it as %s, and our text is %s", tt.text, err, out, ours)
		}
		_, m, err := of.Decode(raw)
		if err != nil || !reflect.DeepEqual(m.(*of.FlowMod).Instructions[0].(*of.InstrApply).Actions[0], tt.a) {
			t.Errorf("%s: %v, read as %+v", tt.text, err, m)
		}
	}
}
