package openflow

import "net/netip"

// actions puts a list, or "drop" for an empty one.
func (p *printer) actions(actions []Action) {
	if len(actions) == 0 {
		p.put("drop")
		return
	}
	for i, a := range actions {
		if i > 0 {
			p.put(",")
		}
		a.text(p)
	}
}

// part puts some bits of a field.
func (p *printer) part(part Part) {
	if p.n.Parts != nil {
		for _, named := range p.n.Parts(part.Field) {
			if named.Part == part {
				p.put(named.Name)
				return
			}
		}
	}
	switch p.put(part.Field.info().long); {
	case part.From == 0 && part.N == part.Field.Bits() && !part.Field.option(): // to ovs-ofctl an option has 992 bits
		p.put("[]")
	case part.N == 1:
		p.printf("[%d]", part.From)
	default:
		p.printf("[%d..%d]", part.From, part.From+part.N-1)
	}
}

func (p *printer) userData(data []byte) {
	for i, b := range data {
		if i > 0 {
			p.put(".")
		}
		p.printf("%02x", b)
	}
}

func (a *Output) text(p *printer) {
	if a.Port < PortMax {
		p.put("output:")
	}
	if p.port(a.Port); a.Port == PortController {
		p.printf(":%d", a.MaxLen)
	}
}

func (a *PushVLAN) text(p *printer) { p.printf("push_vlan:%#x", a.EtherType) }
func (*PopVLAN) text(p *printer)    { p.put("pop_vlan") }
func (a *SetQueue) text(p *printer) { p.printf("set_queue:%d", a.Queue) }
func (a *Group) text(p *printer)    { p.printf("group:%d", a.Group) }
func (a *SetNWTTL) text(p *printer) { p.printf("mod_nw_ttl:%d", a.TTL) }
func (*DecNWTTL) text(p *printer)   { p.put("dec_ttl") }

func (a *SetField) text(p *printer) {
	p.set(MatchField{Field: a.Field, Value: a.Value, Mask: Ones(a.Field.Bits())})
}

func (a *LoadMasked) text(p *printer) {
	p.set(MatchField{Field: a.Field, Value: a.Value, Mask: a.Mask})
}

func (p *printer) set(x MatchField) {
	p.put("set_field:")
	p.value(x)
	p.put("->")
	if x.Mask == Ones(x.Field.Bits()) && p.n.Parts != nil {
		for _, named := range p.n.Parts(x.Field) {
			if named.Part == Whole(x.Field) {
				p.put(named.Name)
				return
			}
		}
	}
	p.put(x.Field.String())
}

func (a *Resubmit) text(p *printer) {
	if a.InPort != ResubmitInPort && a.Table == AllTables {
		(&ResubmitPort{a.InPort}).text(p)
		return
	}
	p.put("resubmit(")
	if a.InPort != ResubmitInPort {
		p.port16(a.InPort)
	}
	p.put(",")
	if a.Table != AllTables {
		p.table(a.Table)
	}
	if a.CT {
		p.put(",ct")
	}
	p.put(")")
}

func (a *ResubmitPort) text(p *printer) { p.put("resubmit:"); p.port16(a.InPort) }

func (a *SetTunnel) text(p *printer) {
	if a.Wide || a.ID>>32 != 0 {
		p.put("set_tunnel64:")
	} else {
		p.put("set_tunnel:")
	}
	p.hex(a.ID)
}

func (a *FinTimeout) text(p *printer) {
	p.put("fin_timeout(")
	if a.Idle != 0 {
		p.printf("idle_timeout=%d,", a.Idle)
	}
	if a.Hard != 0 {
		p.printf("hard_timeout=%d,", a.Hard)
	}
	p.drop(',')
	p.put(")")
}

func (a *DeleteField) text(p *printer) { p.put("delete_field:" + a.Field.String()) }

func (a *Move) text(p *printer) {
	p.put("move:")
	p.part(a.From)
	p.put("->")
	p.part(a.To)
}

func (a *Load) text(p *printer) {
	p.put("load:")
	p.hex(a.Value)
	p.put("->")
	p.part(a.To)
}

func (a *Note) text(p *printer)      { p.put("note:"); p.userData(a.Data) }
func (a *OutputReg) text(p *printer) { p.put("output:"); p.part(a.From) }
func (*Exit) text(p *printer)        { p.put("exit") }

func (a *DecTTLTo) text(p *printer) {
	p.put("dec_ttl(")
	for _, id := range a.Controllers {
		p.printf("%d,", id)
	}
	p.drop(',')
	p.put(")")
}

func (a *Push) text(p *printer) { p.put("push:"); p.part(a.From) }
func (a *Pop) text(p *printer)  { p.put("pop:"); p.part(a.To) }

func (a *Sample) text(p *printer) {
	p.printf("sample(probability=%d,collector_set_id=%d,obs_domain_id=%d,obs_point_id=%d", a.Probability, a.CollectorSet, a.Domain, a.Point)
	if a.Port != NoPort {
		p.put(",sampling_port=")
		p.port16(a.Port)
	}
	p.put([...]string{"", ",ingress", ",egress", ""}[a.Direction&3])
	p.put(")")
}

func (a *Conjunction) text(p *printer) {
	p.printf("conjunction(%d,%d/%d)", a.ID, int(a.Clause)+1, a.N)
}

func (a *OutputTrunc) text(p *printer) {
	p.put("output(port=")
	p.port16(a.Port)
	p.printf(",max_len=%d)", a.MaxLen)
}

func (a *Clone) text(p *printer) { p.put("clone("); p.actions(a.Actions); p.put(")") }
func (*CTClear) text(p *printer) { p.put("ct_clear") }

func (a *CheckPktLarger) text(p *printer) {
	p.printf("check_pkt_larger(%d)->", a.Len)
	p.part(a.To)
}

// reasons are the words of ReasonAction and the others.
var reasons = [...]string{"no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"}

func (a *Controller) text(p *printer) {
	if a.Reason == ReasonAction && a.ID == 0 && len(a.UserData) == 0 && !a.Pause && a.Meter == 0 {
		p.printf("CONTROLLER:%d", a.MaxLen)
		return
	}
	p.put("controller(")
	if a.Reason != ReasonAction && int(a.Reason) < len(reasons) {
		p.put("reason=" + reasons[a.Reason] + ",")
	}
	if a.MaxLen != NoLimit {
		p.printf("max_len=%d,", a.MaxLen)
	}
	if a.ID != 0 {
		p.printf("id=%d,", a.ID)
	}
	if len(a.UserData) > 0 {
		p.put("userdata=")
		p.userData(a.UserData)
		p.put(",")
	}
	if a.Pause {
		p.put("pause,")
	}
	if a.Meter != 0 {
		p.printf("meter_id=%d,", a.Meter)
	}
	p.drop(',')
	p.put(")")
}

func (a *CT) text(p *printer) {
	p.put("ct(")
	if a.Flags&CTCommit != 0 {
		p.put("commit,")
	}
	if a.Flags&CTForce != 0 {
		p.put("force,")
	}
	if a.Table != NoTable {
		p.put("table=")
		p.table(a.Table)
		p.put(",")
	}
	if a.ZoneOf.Field != NoField {
		p.put("zone=")
		p.part(a.ZoneOf)
		p.put(",")
	} else if a.Zone != 0 {
		p.printf("zone=%d,", a.Zone)
	}
	inner := a.Actions
	if len(inner) > 0 {
		if nat, ok := inner[0].(*NAT); ok {
			nat.text(p)
			p.put(",")
			inner = inner[1:]
		}
	}
	if len(inner) > 0 {
		p.put("exec(")
		p.actions(inner)
		p.put("),")
	}
	switch a.ALG {
	case 0:
	case 21:
		p.put("alg=ftp")
	case 69:
		p.put("alg=tftp")
	default:
		p.printf("alg=%d", a.ALG)
	}
	p.drop(',')
	p.put(")")
}

func (a *NAT) text(p *printer) {
	p.put("nat")
	if a.Flags&(NATSrc|NATDst) == 0 {
		return
	}
	if a.Flags&NATSrc != 0 {
		p.put("(src")
	} else {
		p.put("(dst")
	}
	if low, ok := netip.AddrFromSlice(a.Min); ok {
		p.put("=")
		p.natAddress(low, a.MinPort != 0)
		if high, ok := netip.AddrFromSlice(a.Max); ok && high != low {
			p.put("-")
			p.natAddress(high, a.MinPort != 0)
		}
		if a.MinPort != 0 {
			p.printf(":%d", a.MinPort)
			if a.MaxPort != 0 && a.MaxPort != a.MinPort {
				p.printf("-%d", a.MaxPort)
			}
		}
		for _, f := range []struct {
			bit  uint16
			word string
		}{{NATPersistent, ",persistent"}, {NATHash, ",hash"}, {NATRandom, ",random"}} {
			if a.Flags&f.bit != 0 {
				p.put(f.word)
			}
		}
	}
	p.put(")")
}

// natAddress puts an address of IPv6 in brackets where a port follows it.
func (p *printer) natAddress(a netip.Addr, port bool) {
	port = port && a.Is6()
	if port {
		p.put("[")
	}
	p.address(Bytes(a.AsSlice()), a.BitLen())
	if port {
		p.put("]")
	}
}

// hashes are the words of HashEthSrc and the others.
var hashes = [...]string{"eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"}

func word(words []string, i uint16) string {
	if int(i) < len(words) {
		return words[i]
	}
	return "<unknown>"
}

func (a *Multipath) text(p *printer) {
	p.printf("multipath(%s,%d,%s,%d,%d,", word(hashes[:], a.Fields), a.Basis,
		word([]string{"modulo_n", "hash_threshold", "hrw", "iter_hash"}, a.Algorithm), a.Links, a.Arg)
	p.part(a.To)
	p.put(")")
}

func (a *MemberChoice) text(p *printer) {
	name := "bundle"
	if a.To.Field != NoField {
		name = "bundle_load"
	}
	p.printf("%s(%s,%d,%s,ofport,", name, word(hashes[:], a.Fields), a.Basis, word([]string{"active_backup", "hrw"}, a.Algorithm))
	if a.To.Field != NoField {
		p.part(a.To)
		p.put(",")
	}
	p.put("members:")
	for i, m := range a.Members {
		if i > 0 {
			p.put(",")
		}
		p.port16(m)
	}
	p.put(")")
}

func (a *Learn) text(p *printer) {
	p.put("learn(table=")
	p.table(a.Table)
	for _, v := range []struct {
		key string
		n   uint16
	}{{",idle_timeout=", a.Idle}, {",hard_timeout=", a.Hard}, {",fin_idle_timeout=", a.FinIdle}, {",fin_hard_timeout=", a.FinHard}} {
		if v.n != 0 {
			p.put(v.key)
			p.dec(uint64(v.n))
		}
	}
	if a.Priority != defaultPriority {
		p.printf(",priority=%d", a.Priority)
	}
	if a.Flags&LearnSendFlowRemoved != 0 {
		p.put(",send_flow_rem")
	}
	if a.Flags&LearnDeleteLearned != 0 {
		p.put(",delete_learned")
	}
	if a.Cookie != 0 {
		p.printf(",cookie=%#x", a.Cookie)
	}
	if a.Limit != 0 {
		p.printf(",limit=%d", a.Limit)
	}
	if a.Flags&LearnWriteResult != 0 {
		p.put(",result_dst=")
		p.part(a.Result)
	}
	for _, s := range a.Specs {
		p.put(",")
		s.text(p)
	}
	p.put(")")
}

func (s *LearnSpec) text(p *printer) {
	immediate := s.From.Field == NoField
	switch {
	case s.Kind == LearnOutput:
		p.put("output:")
		p.part(s.From)
	case s.Kind == LearnLoad:
		p.put("load:")
		if immediate {
			p.bytes(Bytes(s.Value))
		} else {
			p.part(s.From)
		}
		p.put("->")
		p.part(s.To)
	case immediate && s.To == Whole(s.To.Field):
		p.put(s.To.Field.String() + "=")
		p.value(MatchField{Field: s.To.Field, Value: Bytes(s.Value), Mask: Ones(s.To.Field.Bits())})
	case immediate:
		p.part(s.To)
		p.put("=")
		p.bytes(Bytes(s.Value))
	default:
		if p.part(s.To); s.From != s.To {
			p.put("=")
			p.part(s.From)
		}
	}
}

func (a *OtherAction) text(p *printer) {
	p.printf("action(type=%d,vendor=%#x,subtype=%d,%x)", a.Type, a.Vendor, a.Subtype, a.Data)
}
