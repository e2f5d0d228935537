package seclog

import (
	"slices"
	"strconv"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Record is a line of the log. Addresses are those that the port sees: its own, and not a floating IP.
type Record struct {
	Time      time.Time `json:"time"`
	Host      string    `json:"host"`
	Action    string    `json:"action"`    // ACCEPT or DROP, as Neutron has it
	Direction string    `json:"direction"` // ingress or egress
	Project   string    `json:"project_id"`
	Logs      []string  `json:"log_ids"` // those that asked for it, sorted
	Port      string    `json:"port_id"`
	Network   string    `json:"network_id"`
	// Of ACCEPT: the group one of whose rules allowed it, and those of its rules that do. Absent where they are gone already.
	SecurityGroup string   `json:"security_group_id,omitempty"`
	Rules         []string `json:"rule_ids,omitempty"`
	// Of DROP: the reason under which the agent's metrics count it.
	Reason string `json:"reason,omitempty"`

	Protocol        string  `json:"protocol"` // tcp, udp, sctp, icmp, icmpv6 or a number
	Source          string  `json:"source"`
	SourcePort      *uint16 `json:"source_port,omitempty"`
	Destination     string  `json:"destination"`
	DestinationPort *uint16 `json:"destination_port,omitempty"`
	ICMPType        *uint8  `json:"icmp_type,omitempty"`
	ICMPCode        *uint8  `json:"icmp_code,omitempty"`
	Bytes           int     `json:"bytes"` // of the frame
}

// The actions.
const (
	Accept = "ACCEPT"
	Drop   = "DROP"
)

// copied is what the switch said of a packet.
type copied struct {
	at     time.Time
	packet *openflow.PacketIn2
}

// facts are the fields that a copy came with.
type facts struct {
	port, rule  uint32
	state, mark uint64
}

func (c copied) facts(egress bool) (f facts) {
	port, rule := flows.RDest, flows.RInRule
	if egress {
		port, rule = flows.RSource, flows.ROutRule
	}
	for _, m := range c.packet.Metadata {
		switch m.Field {
		case port:
			f.port = uint32(m.Value.Lo) //nolint:gosec // a register
		case rule:
			f.rule = uint32(m.Value.Lo) //nolint:gosec // a register
		case openflow.CTState:
			f.state = m.Value.Lo
		case openflow.CTMark:
			f.mark = m.Value.Lo
		}
	}
	return f
}

// record makes the record of a copy. ok is false where no log asks for it, or asks no more.
func (l *Logger) record(c copied) (r Record, ok bool) {
	data := c.packet.UserData
	h, ok := parse(c.packet.Packet)
	if len(data) < 3 || !ok {
		return r, false
	}
	dropped, egress := data[1] == flows.LogDrop, data[2] == flows.LogEgress
	f := c.facts(egress)
	r = Record{Time: c.at.UTC(), Host: l.with.Host, Action: Accept, Direction: "ingress", Bytes: max(int(c.packet.FullLen), len(c.packet.Packet))}
	if egress {
		r.Direction = "egress"
	}
	r.say(h)
	var rule flows.Rule
	var known bool
	if dropped {
		r.Action, r.Reason = Drop, flows.WhyDropped(f.state, f.mark, egress)
	} else {
		rule, known = l.with.RuleOf(f.rule)
	}
	l.with.Store.Read(func(v *state.View) {
		port, _ := v.ByKey(state.KindPort, f.port).(*state.Port)
		if port == nil {
			return
		}
		r.Port, r.Network, r.Project, r.Logs = port.ID, port.Network, port.Project, logsOf(v, port, dropped)
		if known {
			r.SecurityGroup, r.Rules = rule.Group, rulesOf(v, rule, h)
		}
	})
	return r, len(r.Logs) > 0
}

// say puts the packet's headers into the record.
func (r *Record) say(h headers) {
	r.Source, r.Destination = h.src.String(), h.dst.String()
	r.Protocol = strconv.Itoa(int(h.proto))
	if name := (map[uint8]string{protoICMP: "icmp", protoTCP: "tcp", protoUDP: "udp", protoICMPv6: "icmpv6", protoSCTP: "sctp"}[h.proto]); name != "" {
		r.Protocol = name
	}
	if h.ports {
		r.SourcePort, r.DestinationPort = &h.srcPort, &h.dstPort
	}
	if h.icmp {
		r.ICMPType, r.ICMPCode = &h.kind, &h.code
	}
}

// logsOf are the logs that ask for what is dropped at a port, or let by.
func logsOf(v *state.View, port *state.Port, dropped bool) []string {
	var out []string
	from := func(list state.List, id string) {
		if id == "" {
			return
		}
		v.Each(state.Index{List: list, ID: id}, state.KindSecurityLog, func(o state.Object) bool {
			if log, ok := o.(*state.SecurityLog); ok && log.Covers(port) && (dropped && log.Drop || !dropped && log.Accept) {
				out = append(out, log.ID)
			}
			return true
		})
	}
	from(state.ListLogsOfPort, port.ID)
	from(state.ListLogsOfProject, port.Project)
	for _, g := range port.SecurityGroups {
		from(state.ListLogsOfGroup, g)
	}
	slices.Sort(out)
	return out
}

// rulesOf are the rules that a packet was let by for. What the switch says names the group, the direction and the remote group; which of the rules that have
// these in common it was, the packet tells.
func rulesOf(v *state.View, of flows.Rule, h headers) []string {
	group := state.Find[*state.SecurityGroup](v, of.Group)
	if group == nil {
		return nil
	}
	var out []string
	for i := range group.Rules {
		if r := &group.Rules[i]; r.Egress == of.Egress && r.RemoteSet == of.RemoteSet && fits(r, h) {
			out = append(out, r.ID)
		}
	}
	return out
}

// fits says whether a rule speaks of a packet, its remote group aside.
func fits(r *state.SecurityRule, h headers) bool {
	remote := h.src
	if r.Egress {
		remote = h.dst
	}
	switch {
	case r.V6 != h.v6, r.Remote.IsValid() && !r.Remote.Contains(remote):
		return false
	case r.Protocol < 0:
		return true
	case h.later: // IPv6 does not say of one what protocol it is of
		return h.v6 || r.Protocol == int(h.proto)
	case r.Protocol != int(h.proto), r.HasPorts() && (!h.ports || h.dstPort < r.PortMin || h.dstPort > r.PortMax):
		return false
	}
	return (r.ICMPType < 0 || h.icmp && r.ICMPType == int(h.kind)) && (r.ICMPCode < 0 || h.icmp && r.ICMPCode == int(h.code))
}
