package flows

import (
	"strings"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Security group logs. A copy of a packet's headers goes to the agent before the table that lets its connection begin, or that drops it, has its way
// with it: the flow that copies marks the packet and has it looked up in the same table again, where now the flow fits that would have without a log. So what becomes of a packet, and
// where it is counted, does not depend on logs, and an established connection's packets pay nothing.
//
// Ports with the same set of groups share the flows of a log of one of the groups, or of their project: it is a few flows however many they are. Each such set, and each port that has
// a log of its own, has a meter for what is accepted and one for what is dropped, so that who makes noise drowns nobody else's records, and a flood that is
// dropped none of connections.

// logLength is how many bytes of a packet its record is made of: the headers of Ethernet, of IPv6 with some extensions, and the ports.
const logLength = 128

// What becomes of packets that are logged: the second byte behind OpLog.
const (
	LogAccept = 0
	LogDrop   = 1
)

// Whose packets they are: the third byte behind OpLog.
const (
	LogIngress = 0 // to the port in RDest
	LogEgress  = 1 // from the port in RSource
)

// logged is what a unit of ruleLog logs: an event, at all ports with a set of groups or at one port.
type logged struct {
	drop bool
	port bool
	of   string // setOf some ports, or the id of a port
}

func (l logged) id() string {
	words := [2][2]string{{"accept,groups,", "accept,port,"}, {"drop,groups,", "drop,port,"}}
	return words[bit(l.drop)][bit(l.port)] + l.of
}

func parseLogged(id string) logged {
	event, id, _ := strings.Cut(id, comma)
	scope, of, _ := strings.Cut(id, comma)
	return logged{event == "drop", scope == "port", of}
}

// logs says whether there may be logs.
func (x *emitter) logs() bool { return x.c.cfg.LogRate > 0 }

// needLog has what a log asks for logged.
func (x *emitter) needLog(log *state.SecurityLog, port bool, of string) {
	if log == nil {
		return
	}
	if log.Accept {
		x.need(ruleLog, logged{false, port, of}.id())
	}
	if log.Drop {
		x.need(ruleLog, logged{true, port, of}.id())
	}
}

// logGroup has what logs of a group ask for logged at the ports with a set that has it.
func logGroup(x *emitter, group, of string) {
	if !x.logs() {
		return
	}
	for _, id := range x.ids(state.ListLogsOfGroup, group) {
		x.needLog(get[*state.SecurityLog](x, id), false, of)
	}
}

// logPort has what logs of a port and of its project ask for logged. Ports without any group have one set, whichever project they are of.
func logPort(x *emitter, port *state.Port) {
	if !x.logs() {
		return
	}
	for _, id := range x.ids(state.ListLogsOfPort, port.ID) {
		if log := get[*state.SecurityLog](x, id); log != nil && log.Covers(port) {
			x.needLog(log, true, port.ID)
		}
	}
	if port.Project == "" {
		return
	}
	for _, id := range x.ids(state.ListLogsOfProject, port.Project) {
		log := get[*state.SecurityLog](x, id)
		if len(port.SecurityGroups) == 0 {
			x.needLog(log, true, port.ID)
		} else {
			x.needLog(log, false, setOf(port))
		}
	}
}

// compileLog copies packets. Of a set that has a log, and a port of it that has one too, each packet is copied once.
func compileLog(x *emitter, id string) {
	l := parseLogged(id)
	meter := MeterLog | x.number(spaceLog, id)
	x.meter(meter, openflow.MeterPktPS|openflow.MeterBurst, openflow.Band{Type: 1, Rate: x.c.cfg.LogRate, Burst: max(x.c.cfg.LogBurst, 1)})
	for _, s := range []side{outSide(), inSide()} {
		about, at, above := state.Ref{Kind: state.KindSecurityGroup, ID: l.of}, match().Num(RGroups, uint64(x.number(spaceGroups, l.of))), uint16(10)
		if l.port {
			port := get[*state.Port](x, l.of)
			if port == nil {
				return
			}
			about, at, above = port.Ref(), match().Num(s.port, uint64(port.Key)), 20
		}
		at = flagged(at, s.logged, false)
		if l.drop {
			x.flow(about, s.rules, PLow+above, at, apply(s.record(LogDrop, meter), raise(s.logged), lookUp(s.rules)))
			continue
		}
		for _, m := range s.begins(at) {
			x.flow(about, s.commit, PTop+above, m, apply(s.record(LogAccept, meter), raise(s.logged), lookUp(s.commit)))
		}
	}
}

// begins are the packets that the rules allow and that no connection is there for, or none that was allowed. To a group that keeps no connections each is one. A connection
// stays new until it is answered, also when it is remembered, and with it the rule that let it by: one that has a rule has its record.
func (s side) begins(m openflow.Match) []openflow.Match {
	return []openflow.Match{tracked(m, ctNew, 0).Part(openflow.CTLabel, s.label, 32, 0), marked(tracked(m, ctEstablished, 0), s.blocked, 1), m.Part(s.rule, 31, 1, 1)}
}

// record sends the agent a copy of a packet's headers.
func (s side) record(event byte, meter uint32) openflow.Action {
	direction := byte(LogIngress)
	if s.track == TOutTrack {
		direction = LogEgress
	}
	return &openflow.Controller{MaxLen: logLength, Reason: openflow.ReasonAction, UserData: []byte{byte(OpLog), event, direction}, Meter: meter}
}

// Logs says whether the program has meters of logs.
func (c *Compiler) Logs() bool { return len(c.numbers[spaceLog].of) > 0 }

// IsLogMeter says whether a meter is that of a log.
func IsLogMeter(id uint32) bool { return id>>24 == MeterLog>>24 }

// WhyDropped is the reason for which a packet of a log was dropped, one of those in Reasons, by what the connection tracker said of it.
func WhyDropped(state, mark uint64, egress bool) string {
	s := inSide()
	if egress {
		s = outSide()
	}
	switch {
	case state&ctInvalid != 0:
		return s.words + "invalid"
	case state&(ctReply|ctRelated) != 0:
		return s.words + "blocked"
	case state&ctEstablished == 0:
		return s.words + "denied"
	case mark>>s.blocked&1 != 0:
		return s.words + "blocked"
	}
	return s.words + "cut"
}
