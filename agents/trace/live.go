package trace

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Copy is a copy of a marked packet that a switch has lifted.
type Copy struct {
	Host       string    `json:"host"`
	Point      string    `json:"point"` // in, arrived, out, answered, served or dropped
	Reason     string    `json:"reason,omitempty"`
	Port       string    `json:"port,omitempty"` // that sent it
	ToPort     string    `json:"to_port,omitempty"`
	ToHost     string    `json:"to_host,omitempty"` // or the tunnel end, where that is no host's
	ToPhysical string    `json:"to_physical,omitempty"`
	Network    string    `json:"network,omitempty"`
	At         time.Time `json:"at"` // by the clock of the host
	Packet     string    `json:"packet"`

	sure     bool
	packet   Packet
	constant string
	ends     string
}

// copyOf reads what a host has lifted.
func copyOf(v *state.View, host string, l *api.TraceLifted) (Copy, error) {
	t, err := take(l.GetFrame())
	if err != nil {
		return Copy{}, err
	}
	return Copy{Host: host, Point: l.GetPoint(), Reason: l.GetReason(), Port: l.GetPort(), ToPort: l.GetToPort(), ToHost: hostAt(v, l.GetToAddress()), ToPhysical: l.GetToPhysical(),
		Network: l.GetNetwork(), At: time.Unix(0, int64(l.GetUnixNano())).UTC(), Packet: t.packet.Text(), //nolint:gosec // of this century
		sure: l.GetSure(), packet: t.packet, constant: t.constant(), ends: t.ends()}, nil
}

// hostAt is the host that has a tunnel end, or the address itself.
func hostAt(v *state.View, address string) string {
	for _, h := range state.All[*state.Host](v, state.Index{List: state.ListAll, ID: state.KindHost.String()}) {
		for _, e := range h.TunnelEnds {
			if e.Address.String() == address {
				return h.ID
			}
		}
	}
	return address
}

// Way is what a real packet did.
type Way struct {
	Packet string `json:"packet"` // as its port sent it
	Copies []Copy `json:"copies"` // in the order of the way
	Ends   []End  `json:"ends"`
}

// Result is the way as a result, without steps.
func (w *Way) Result() *Result { return (&Result{Ends: slices.Clone(w.Ends)}).settle() }

// ways puts copies together. Only the host where a packet was marked knows whose it is; others hand out copies of all packets that are marked. A copy from another host is of
// the way where its constant part says so and it can have come there: it arrived as it was sent to that host, or it had arrived there before.
func ways(origin string, asked func(host string) bool, copies []Copy) []*Way {
	var out []*Way
	began := map[string]bool{}
	for _, c := range copies {
		if c.Host != origin || c.Point != "in" || !c.sure || began[c.constant] {
			continue
		}
		began[c.constant] = true
		w := &Way{Packet: c.Packet, Copies: []Copy{c}}
		w.gather(copies)
		w.conclude(asked)
		out = append(out, w)
	}
	return out
}

// gather takes the copies that belong to the way.
func (w *Way) gather(copies []Copy) {
	first := w.Copies[0]
	taken := make([]bool, len(copies))
	for more := true; more; {
		more = false
		for i, c := range copies {
			if taken[i] || c.sure && c.Point == "in" || !w.joins(c, copies) || c.Point != "answered" && c.constant != first.constant {
				continue
			}
			taken[i], more = true, true
			w.Copies = append(w.Copies, c)
		}
	}
	slices.SortStableFunc(w.Copies[1:], func(a, b Copy) int {
		return cmp.Or(cmp.Compare(w.hop(a.Host), w.hop(b.Host)), a.At.Compare(b.At))
	})
}

// hop is when the way came to a host first: hosts' clocks need not agree.
func (w *Way) hop(host string) int {
	return slices.IndexFunc(w.Copies, func(c Copy) bool { return c.Host == host })
}

// joins says whether the way came where a copy was lifted.
func (w *Way) joins(c Copy, all []Copy) bool {
	switch {
	case c.sure && c.Point == "answered":
		return c.Host == w.Copies[0].Host && w.answers(c, all)
	case c.sure:
		return c.Host == w.Copies[0].Host
	case c.Point == "arrived":
		return slices.ContainsFunc(w.Copies, func(m Copy) bool { // what is for many is not lifted where it leaves
			return m.Host != c.Host && m.ends == c.ends && (m.Point == "out" && m.ToHost == c.Host || m.Point == "in" && c.packet.EthDst>>40&1 == 1)
		})
	}
	arrived := func(list []Copy, same bool) bool {
		return slices.ContainsFunc(list, func(m Copy) bool {
			return m.Host == c.Host && m.Point == "arrived" && m.constant == w.Copies[0].constant && (!same || m.ends == c.ends)
		})
	}
	// A host may have translated it. But where it is, to the letter, what another packet with the same constant part was when that arrived, it is that one.
	return arrived(w.Copies, true) || arrived(w.Copies, false) && !arrived(all, true)
}

// answers says whether an answer is of this way: one that its slot has for sure, where it has no other packet.
func (w *Way) answers(c Copy, all []Copy) bool {
	last := Copy{}
	for _, m := range all {
		if m.Host == c.Host && m.sure && m.Point == "in" && !m.At.After(c.At) && m.At.Compare(last.At) >= 0 {
			last = m
		}
	}
	return last.constant == w.Copies[0].constant
}

// conclude says where the way ended.
func (w *Way) conclude(asked func(host string) bool) {
	on := map[string]bool{} // hosts from which it went on, or where it ended
	w.Ends = nil
	for _, c := range w.Copies {
		switch c.Point {
		case "in", "arrived":
			continue
		case "out":
			w.left(c, asked)
		case "answered":
			w.Ends = append(w.Ends, End{Verdict: Answered, Host: c.Host})
		case "served":
			w.Ends = append(w.Ends, End{Verdict: Served, Reason: c.Reason, Host: c.Host})
		default:
			w.Ends = append(w.Ends, End{Verdict: Dropped, Reason: c.Reason, Host: c.Host})
		}
		on[c.Host] = true
	}
	for _, c := range w.Copies {
		if (c.Point == "in" || c.Point == "arrived") && !on[c.Host] {
			w.Ends = append(w.Ends, End{Verdict: Vanished, Host: c.Host})
		}
	}
	slices.SortFunc(w.Ends, func(a, b End) int { return strings.Compare(a.String(), b.String()) })
	w.Ends = slices.Compact(w.Ends)
}

// left is a copy that left a host.
func (w *Way) left(c Copy, asked func(host string) bool) {
	arrived := func(host string) bool {
		return slices.ContainsFunc(w.Copies, func(m Copy) bool { return m.Host == host && m.Point == "arrived" })
	}
	switch {
	case c.ToPort != "":
		w.Ends = append(w.Ends, End{Verdict: Delivered, Port: c.ToPort, Host: c.Host})
	case c.ToPhysical != "":
		w.Ends = append(w.Ends, End{Verdict: Outside, Network: c.Network, Host: c.Host})
	case !asked(c.ToHost):
		w.Ends = append(w.Ends, End{Verdict: Sent, Host: c.ToHost})
	case !arrived(c.ToHost):
		w.Ends = append(w.Ends, lostFrom(c))
	}
}

// lostFrom is where a packet ends that was seen last as it left a host for another.
func lostFrom(c Copy) End { return End{Verdict: Lost, Reason: "from " + c.Host, Host: c.ToHost} }

// settled says whether no copy of the packet is still under way, as far as can be told.
func (w *Way) settled() bool {
	return len(w.Ends) > 0 && !slices.ContainsFunc(w.Ends, func(e End) bool { return e.Verdict == Vanished || e.Verdict == Lost })
}
