package trace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Verdict is what becomes of a packet.
type Verdict uint8

// The verdicts.
const (
	Dropped   Verdict = iota // Reason says why
	Delivered                // to Port
	Outside                  // out to the physical network of Network
	Answered                 // the switch itself sends an answer back
	Served                   // the agent gets it; Reason says what for
	Sent                     // to Host, which was not asked
	Vanished                 // of a real packet: the switch of Host took it, and it was seen nowhere after that
	Lost                     // of a real packet: it left for Host, and did not arrive there; Reason says from where
)

func verdicts() []string {
	return []string{"dropped", "delivered", "outside", "answered", "served", "sent", "vanished", "lost"}
}

// String is the verdict in a word.
func (v Verdict) String() string { return verdicts()[v] }

// MarshalText is String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (v *Verdict) UnmarshalText(text []byte) error {
	i := slices.Index(verdicts(), string(text))
	if i < 0 {
		return fmt.Errorf("verdict %q: there is none", text)
	}
	*v = Verdict(i) //nolint:gosec // there are eight
	return nil
}

// End is where a copy of the packet ends.
type End struct {
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // of Dropped: as the counters of drops are called; of Served: dhcpv4, dhcpv6, solicit, neighbor, ttl, too-big, unreachable
	Port    string  `json:"port,omitempty"`
	Network string  `json:"network,omitempty"`
	Host    string  `json:"host,omitempty"` // where
}

// String is the end in a line.
func (e End) String() string {
	words, where := []string{e.Verdict.String()}, "at"
	if e.Verdict == Sent || e.Verdict == Lost {
		where = "to"
	}
	for _, w := range []struct{ name, value string }{{"", e.Reason}, {"port", e.Port}, {"network", e.Network}, {where, e.Host}} {
		if w.value != "" {
			words = append(words, strings.TrimSpace(w.name+" "+w.value))
		}
	}
	return strings.Join(words, " ")
}

// Step is one thing that was decided on the way.
type Step struct {
	Host   string    `json:"host"`
	Point  string    `json:"table"`            // that decides it, by its name
	Object state.Ref `json:"object,omitempty"` // what decided: the port, rule, route, binding; its ID is "" where nothing did
	Rule   string    `json:"rule,omitempty"`   // of a security group: the rule's id; of a router: the route's destination
	Fields Fields    `json:"fields,omitempty"` // of the packet: what the decision hung on
	Text   string    `json:"text"`

	// Of a step that a switch has told:
	Packets uint64 `json:"packets,omitempty"` // that the flow has counted
	Foreign bool   `json:"foreign,omitempty"` // the flow is not of the agent's program
}

// String is the step in a line.
func (s Step) String() string {
	out := fmt.Sprintf("%-8s %-12s %s", s.Host, s.Point, s.Text)
	if s.Object.ID != "" {
		out += " (" + s.Object.String()
		if s.Rule != "" {
			out += " rule " + s.Rule
		}
		out += ")"
	}
	if len(s.Fields) > 0 {
		out += " by " + strings.Join(s.Fields, ", ")
	}
	return out
}

// Result is what becomes of a packet, and why. A packet for many has several ends, sorted.
type Result struct {
	Ends   []End  `json:"ends"`
	Copies []End  `json:"copies,omitempty"` // for mirrors; what switches say has them among the ends until it is held against a simulation
	Steps  []Step `json:"steps"`
	Many   bool   `json:"many,omitempty"` // copies went to all of a network; those that were dropped are not told one by one
}

// String is the result for people: each step in a line, then the ends.
func (r *Result) String() string {
	var b strings.Builder
	for _, s := range r.Steps {
		b.WriteString(s.String() + "\n")
	}
	for _, e := range r.Ends {
		b.WriteString("=> " + e.String() + "\n")
	}
	for _, e := range r.Copies {
		b.WriteString("=> for a mirror: " + e.String() + "\n")
	}
	return b.String()
}

func (r *Result) end(e End) { r.Ends = append(r.Ends, e) }

func (r *Result) settle() *Result {
	for _, list := range [][]End{r.Ends, r.Copies} {
		slices.SortFunc(list, func(a, b End) int { return strings.Compare(a.String(), b.String()) })
	}
	return r
}
