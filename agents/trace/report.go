package trace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/agents/flows"
)

// Layer is where a fault is.
type Layer string

// The layers.
const (
	Compiler  Layer = "compiler" // the agent's flows are not what the state says
	Foreign   Layer = "foreign"  // somebody else's flows are in the switch
	Dataplane Layer = "switch"   // the switch does not do what it says
	Underlay  Layer = "underlay" // what leaves one host does not arrive at the other
	Guest     Layer = "guest"    // the port sent nothing that could be followed
)

// Finding is a fault.
type Finding struct {
	Layer Layer  `json:"layer"`
	Host  string `json:"host"`
	Text  string `json:"text"`
}

// String is the finding in a line.
func (f Finding) String() string { return fmt.Sprintf("%s, host %s: %s", f.Layer, f.Host, f.Text) }

// Report is where a packet goes, by the state, by the switches, and by what became of a real one.
type Report struct {
	Port      string            `json:"port"`
	To        string            `json:"to"`
	Packet    string            `json:"packet"` // in the words of ovs-fields(7)
	Simulated *Result           `json:"simulated"`
	Checked   *Result           `json:"checked"`
	Mode      Mode              `json:"mode"`
	Sent      int               `json:"sent"` // packets: those that were sent, or seen
	Live      []*Way            `json:"live,omitempty"`
	Findings  []Finding         `json:"findings"`          // none: all agree
	Unasked   map[string]string `json:"unasked,omitempty"` // hosts that could not be asked, and why
}

// judge compares.
func (r *Report) judge(port string) {
	r.Findings = []Finding{}
	if r.Simulated == nil || r.Checked == nil {
		return
	}
	r.Checked.apart(r.Simulated)
	if !Agree(port, r.Simulated, r.Checked) {
		r.Findings = append(r.Findings, r.blame(port))
	}
	if r.Mode == Off || r.Mode == "" {
		return
	}
	for _, w := range r.Live {
		w.stranded(r.Checked)
	}
	best := r.closest(port)
	if best == nil {
		r.Findings = append(r.Findings, Finding{Guest, r.Checked.origin(), "no packet that fits was sent within the time"})
		return
	}
	r.Findings = append(r.Findings, against(r.Checked, best, port)...)
}

// stranded has a packet lost that was to leave where the switch, by its own word, cannot send into the tunnel. It lifts a copy before it finds that out, so that
// of a host that was not asked this looks as if the packet were sent there.
func (w *Way) stranded(checked *Result) {
	for i, e := range w.Ends {
		for _, c := range w.Copies {
			if e.Verdict == Sent && c.Point == "out" && c.ToHost == e.Host &&
				slices.ContainsFunc(checked.Ends, func(said End) bool { return said.unreachable() && said.Host == c.Host }) {
				w.Ends[i] = lostFrom(c)
			}
		}
	}
}

// closest is the packet that is reported on: of probes, of which some may be lost, the one that went as foretold; of those that were watched, the first that
// did not.
func (r *Report) closest(port string) *Way {
	var out *Way
	n := 0
	for _, w := range r.Live {
		faults := len(against(r.Checked, w, port))
		if out == nil || r.Mode == Probe && faults < n || r.Mode == Watch && faults > 0 && n == 0 {
			out, n = w, faults
		}
	}
	return out
}

// Followed is the packet that the findings are about, or nil.
func (r *Report) Followed() *Way {
	if r.Checked == nil {
		return nil
	}
	return r.closest(r.Port)
}

// origin is the host where a result begins.
func (r *Result) origin() string {
	if len(r.Steps) == 0 {
		return ""
	}
	return r.Steps[0].Host
}

// Why a switch drops what should go into a tunnel.
const (
	noUnderlay = "no way in the underlay"
	noNeighbor = "no neighbor in the underlay" // or none yet: a switch in user space forgets those that it has not sent to for a while
)

// unreachable says whether the underlay is why a packet is dropped.
func (e End) unreachable() bool {
	return e.Verdict == Dropped && (e.Reason == noUnderlay || e.Reason == noNeighbor)
}

// blame says why the switches would not do what the state says.
func (r *Report) blame(port string) Finding {
	for _, s := range r.Checked.Steps {
		if s.Foreign {
			return Finding{Foreign, s.Host, fmt.Sprintf("a flow in table %s that is not the agent's decides: %s", s.Point, s.Text)}
		}
	}
	for _, e := range r.Checked.Ends {
		if e.unreachable() {
			return Finding{Underlay, e.Host, "the switch cannot send to the other end of the tunnel: " + e.Reason}
		}
	}
	want, got := difference(r.Simulated.everywhere(), r.Checked.everywhere())
	host := r.Checked.origin()
	for _, e := range slices.Concat(got, want) {
		if e.Host != "" {
			host = e.Host
			break
		}
	}
	return Finding{Compiler, host, fmt.Sprintf("by the state it is %s, by the flows %s", list(want), list(got))}
}

// difference is what only one of two has.
func difference(a, b []End) (onlyA, onlyB []End) {
	for _, e := range a {
		if !slices.Contains(b, e) {
			onlyA = append(onlyA, e)
		}
	}
	for _, e := range b {
		if !slices.Contains(a, e) {
			onlyB = append(onlyB, e)
		}
	}
	return onlyA, onlyB
}

func list(ends []End) string {
	words := make([]string, 0, len(ends))
	for _, e := range ends {
		words = append(words, e.String())
	}
	if len(words) == 0 {
		return "nothing else"
	}
	return strings.Join(words, " and ")
}

// against holds a real packet against what the switches have said that they would do.
func against(checked *Result, w *Way, port string) []Finding {
	c := &comparison{checked: checked, way: w, port: port, used: make([]bool, len(w.Ends))}
	for _, e := range checked.Ends {
		if !c.accounts(e) {
			c.missing = append(c.missing, e)
		}
	}
	return c.findings()
}

// answers takes what goes back by the device that it came from for an answer, unless the state says that the packet itself does.
func (r *Result) answers(port string, simulated *Result) {
	for i, e := range r.Ends {
		if e.Verdict == Delivered && e.Port == port && !simulated.delivers(port) {
			r.Ends[i] = End{Verdict: Answered, Host: e.Host}
		}
	}
}

// found takes over which next hops outside a host's agent has found by now, and which not: that is no part of the desired state, and who has the state need not know.
func (r *Result) found(checked *Result) {
	for i, e := range r.Ends {
		if slices.Contains(checked.Ends, e) {
			continue
		}
		for _, c := range checked.Ends {
			if c.Host != e.Host || !(e.asks() && c.Verdict == Outside || e.Verdict == Outside && c.asks()) {
				continue
			}
			text := "the host's agent has found the next hop"
			if c.asks() {
				text = "the host's agent does not know the next hop"
			}
			r.Ends[i] = c
			r.Steps = append(r.Steps, Step{Host: e.Host, Point: "neighbor", Fields: Fields{"ip_dst"}, Text: text})
		}
	}
	r.settle()
}

// asks says whether the agent has to find the next hop, before the packet goes on.
func (e End) asks() bool { return e.Verdict == Served && e.Reason == flows.OpNeighbor.String() }

type comparison struct {
	checked *Result
	way     *Way
	port    string
	used    []bool
	missing []End
}

// accounts finds what a real packet did for an end that was foretold.
func (c *comparison) accounts(e End) bool {
	found := false
	for i, real := range c.way.Ends {
		if same(e, real, c.port) {
			c.used[i], found = true, true
		}
	}
	return found || e.Verdict == Dropped && c.checked.Many
}

// same says whether what a real packet did is what was foretold. A flow that drops on purpose lifts no copy: all that is seen is that the packet comes no further.
func same(e, real End, port string) bool {
	switch {
	case e == real:
		return true
	case e.Host == real.Host && (e.asks() && real.Verdict == Outside || e.Verdict == Outside && real.asks()):
		return true // the agent has found the next hop meanwhile, and the packet went on; or has lost it
	case e.Verdict != Dropped:
		return false
	case real.Verdict == Vanished:
		return e.Host == real.Host
	case real.Verdict == Lost:
		return e.unreachable() && real.Reason == "from "+e.Host
	}
	return e.Reason == "own-packet" && real.Verdict == Delivered && real.Port == port
}

// findings are what is left.
func (c *comparison) findings() (out []Finding) {
	for i, e := range c.way.Ends {
		switch {
		case c.used[i], e.Verdict == Dropped && c.checked.Many:
			continue
		case e.Verdict == Lost:
			out = append(out, Finding{Underlay, e.Host, fmt.Sprintf("the packet went out %s, and did not arrive", e.Reason)})
		case e.Verdict == Vanished:
			out = append(out, Finding{Dataplane, e.Host, fmt.Sprintf("the packet came in and was seen nowhere after that; the switch had said: %s", list(c.missing))})
		default:
			out = append(out, Finding{Dataplane, e.Host, fmt.Sprintf("the packet was %s; the switch had said: %s", e, list(c.missing))})
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, e := range c.missing {
		if !slices.ContainsFunc(c.way.Copies, func(m Copy) bool { return m.Host == e.Host }) {
			out = append(out, Finding{Underlay, e.Host, "no copy of the packet arrived"})
			continue
		}
		out = append(out, Finding{Dataplane, e.Host, fmt.Sprintf("the packet was not %s, as the switch had said", e)})
	}
	return out
}
