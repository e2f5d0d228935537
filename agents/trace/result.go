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
)

// String is the verdict in a word.
func (v Verdict) String() string {
	return [...]string{"dropped", "delivered", "outside", "answered", "served", "sent"}[v]
}

// End is where a copy of the packet ends.
type End struct {
	Verdict Verdict
	Reason  string // of Dropped: as the counters of drops are called; of Served: dhcpv4, dhcpv6, solicit, neighbor, ttl, too-big, unreachable
	Port    string
	Network string
	Host    string // where
}

// String is the end in a line.
func (e End) String() string {
	words := []string{e.Verdict.String()}
	for _, w := range []struct{ name, value string }{{"", e.Reason}, {"port", e.Port}, {"network", e.Network}, {"at", e.Host}} {
		if w.value != "" {
			words = append(words, strings.TrimSpace(w.name+" "+w.value))
		}
	}
	return strings.Join(words, " ")
}

// Step is one thing that was decided on the way.
type Step struct {
	Host   string
	Point  string    // the table that decides it, by its name
	Object state.Ref // what decided: the port, rule, route, binding; its ID is "" where nothing did
	Rule   string    // of a security group: the rule's id; of a router: the route's destination
	Fields Fields    // of the packet: what the decision hung on
	Text   string
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
	Ends  []End
	Steps []Step
	Many  bool // copies went to all of a network; those that were dropped are not told one by one
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
	return b.String()
}

func (r *Result) end(e End) { r.Ends = append(r.Ends, e) }

func (r *Result) settle() *Result {
	slices.SortFunc(r.Ends, func(a, b End) int { return strings.Compare(a.String(), b.String()) })
	return r
}
