package trace

import (
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// copies are what goes to those who watch a port: of what it sends, or of what it gets.
func (w *walk) copies(port *state.Port, sent bool) {
	for _, m := range state.All[*state.Mirror](w.v, state.Index{List: state.ListMirrorsOfPort, ID: port.ID}) {
		if sent && !m.Out || !sent && !m.In {
			continue
		}
		target := state.Find[*state.Port](w.v, m.Target)
		if target == nil || target.Host == "" || w.down(target) {
			continue
		}
		network := state.Find[*state.Network](w.v, target.Network)
		if network == nil || !w.reaches(target.Host) {
			continue
		}
		most := network.MTU
		if network.Segment != state.Overlay && target.Host != w.at {
			most = min(most, 1450) // what fits into any tunnel
		}
		if w.p.Length > most {
			w.step("mirror", m.Ref(), nil, "a copy for port %s is too big: %d is what gets there", target.ID, most)
			continue
		}
		w.step("mirror", m.Ref(), nil, "a copy goes to port %s on host %s", target.ID, target.Host)
		w.r.Copies = append(w.r.Copies, End{Verdict: Delivered, Port: target.ID, Host: target.Host})
	}
}

// reaches says whether the host where the packet is has a way to another, or is it.
func (w *walk) reaches(host string) bool {
	from, to := state.Find[*state.Host](w.v, w.at), state.Find[*state.Host](w.v, host)
	if from == nil || to == nil || from == to {
		return host == w.at
	}
	_, ok := from.Reach(to)
	return ok
}

// apart takes what the state says to be copies for mirrors out of the ends that the switches say: a switch does not tell one from the other. Of a host that could
// not be asked it takes that the packet goes there, where nothing but copies does.
func (r *Result) apart(simulated *Result) {
	for _, e := range simulated.Copies {
		i := slices.Index(r.Ends, e)
		if i < 0 && !slices.ContainsFunc(simulated.Ends, func(s End) bool { return s.Host == e.Host }) {
			i = slices.Index(r.Ends, End{Verdict: Sent, Host: e.Host})
		}
		if i >= 0 {
			r.Copies, r.Ends = append(r.Copies, r.Ends[i]), slices.Delete(r.Ends, i, i+1)
		}
	}
}
