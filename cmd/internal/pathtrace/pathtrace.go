// Package pathtrace is what the commands that trace a packet share, whoever answers them: their flags, and how a report is printed.
package pathtrace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// Long is what help says of a trace.
const Long = `Follows a packet from a port to an address in three ways that share nothing, and compares them: what the desired state makes of it, host by host, with the
rule, route, translation or binding that decides each step; what the switches of the hosts say that they would do (ofproto/trace); and what they do
with a real packet, of which each switch on the way lifts copies. Without --proto it is a ping.

--live probe sends packets as if the port had: whoever they are for gets them, and may answer. --live watch waits for the next that the port itself
sends to the address. --live off sends nothing.

The status is 0 where all agree, and 1 where they differ. Then the layer at fault is named: "compiler" (the flows are not what the state says),
"foreign" (somebody else's flows are in the switch), "switch" (it does not do what it says), "underlay" (what left one host did not arrive at
the other) or "guest" (nothing was sent that could be followed).`

// Flags are the flags of a trace.
type Flags struct {
	JSON bool

	q     trace.Question
	proto string
	from  string
	live  string
}

// Add registers the flags.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringVar(&f.proto, "proto", "", "icmp, tcp, udp, sctp or a number; none is a ping, or with --live watch anything")
	flags.StringVar(&f.from, "from", "", "source address (the port's first of the family)")
	flags.Uint16Var(&f.q.SrcPort, "src-port", 0, "source port (one that is free, as a rule; with --live watch any)")
	flags.Uint16Var(&f.q.DstPort, "dst-port", 0, "destination port")
	flags.Uint8Var(&f.q.TTL, "ttl", 0, "time to live, or hop limit (64)")
	flags.IntVar(&f.q.Length, "length", 0, "bytes of the IP packet")
	flags.BoolVar(&f.q.Established, "established", false, "of a connection that was allowed before; not with --live probe")
	flags.StringVar(&f.live, "live", string(trace.Probe), "the real packet: probe, watch or off")
	flags.IntVar(&f.q.Count, "count", 1, "with --live watch, how many packets")
	flags.DurationVar(&f.q.Wait, "wait", 0, "how long to wait for the real packet at most (5s; with --live watch 30s)")
	flags.BoolVar(&f.JSON, "json", false, "for programs")
}

// Question is what the flags and arguments PORT and ADDRESS ask.
func (f *Flags) Question(port, address string) (trace.Question, error) {
	q := f.q
	var errs []error
	var err error
	if q.To, err = netip.ParseAddr(address); err != nil {
		errs = append(errs, fmt.Errorf("ADDRESS %q: want an IP address", address))
	}
	if f.from != "" {
		if q.From, err = netip.ParseAddr(f.from); err != nil {
			errs = append(errs, fmt.Errorf("--from %q: want an IP address", f.from))
		}
	}
	if q.Proto, err = protocol(f.proto, q.To); err != nil {
		errs = append(errs, err)
	}
	q.Port, q.Live = port, trace.Mode(f.live)
	if !slices.Contains([]trace.Mode{trace.Probe, trace.Watch, trace.Off}, q.Live) {
		errs = append(errs, fmt.Errorf("--live %s: want probe, watch or off", f.live))
	}
	return q, run.Usage(errors.Join(errs...))
}

// protocol is the number of a protocol; 0: none was named.
func protocol(name string, to netip.Addr) (int, error) {
	switch name {
	case "":
		return 0, nil
	case "icmp":
		if to.Is6() && !to.Is4In6() {
			return trace.ICMPv6, nil
		}
		return trace.ICMP, nil
	case "tcp":
		return trace.TCP, nil
	case "udp":
		return trace.UDP, nil
	case "sctp":
		return trace.SCTP, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("--proto %s: want icmp, tcp, udp, sctp or a number", name)
	}
	return int(n), nil //nolint:gosec // 8 bits
}

var errDisagree = errors.New("the state, the switches and the packet differ")

// Print prints a report. Its error has the status of a report with findings, which have been printed.
func (f *Flags) Print(w io.Writer, r *trace.Report) error {
	var err error
	if f.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = text(w, r)
	}
	if err == nil && len(r.Findings) > 0 {
		err = run.Quiet(errDisagree)
	}
	return err
}

func text(w io.Writer, r *trace.Report) error {
	fmt.Fprintln(w, r.Packet)
	if err := (&table.Output{}).List(w, []string{"Host", "Table", "By", "Fields", "What", "Packets"}, steps(r)); err != nil {
		return err
	}
	if way := r.Followed(); way != nil {
		if err := (&table.Output{}).List(w, []string{"Host", "Lifted", "For", "After", "Packet"}, lifted(way)); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "by the state:    %s\nby the switches: %s\n", ends(r.Simulated), ends(r.Checked))
	switch way := r.Followed(); {
	case r.Mode == trace.Off:
	case way == nil:
		fmt.Fprintln(w, "the packet:      was not seen")
	default:
		fmt.Fprintf(w, "the packet:      %s (%d %s)\n", ends(way.Result()), r.Sent, map[trace.Mode]string{trace.Probe: "sent", trace.Watch: "seen"}[r.Mode])
	}
	for _, host := range slices.Sorted(maps.Keys(r.Unasked)) {
		fmt.Fprintf(w, "host %s was not asked: %s\n", host, r.Unasked[host])
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "FAULT in layer %s\n", f)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "all agree")
	}
	return nil
}

func ends(r *trace.Result) string {
	if r == nil {
		return "not known"
	}
	words := make([]string, 0, len(r.Ends))
	for _, e := range r.Ends {
		words = append(words, e.String())
	}
	return strings.Join(words, "; ")
}

// steps are what the state decides, each with what the flows of that table have counted at that host; and the flows that are somebody else's.
func steps(r *trace.Report) (rows [][]any) {
	counted := func(s trace.Step) any {
		for _, c := range r.Checked.Steps {
			if c.Host == s.Host && c.Point == s.Point && (c.Object == s.Object || s.Object.ID == "") {
				return c.Packets
			}
		}
		return ""
	}
	foreign := func(host string) {
		for _, c := range r.Checked.Steps {
			if c.Host == host && c.Foreign {
				rows = append(rows, []any{c.Host, c.Point, "somebody else's flow", "", c.Text, c.Packets})
			}
		}
	}
	last := ""
	for _, s := range r.Simulated.Steps {
		if last != "" && last != s.Host {
			foreign(last)
		}
		last = s.Host
		by := ""
		if s.Object.ID != "" {
			by = s.Object.String()
		}
		if s.Rule != "" {
			by += " rule " + s.Rule
		}
		rows = append(rows, []any{s.Host, s.Point, by, strings.Join(s.Fields, " "), s.Text, counted(s)})
	}
	foreign(last)
	return rows
}

// lifted are the copies of a packet. Times are since it came to the host: hosts' clocks need not agree.
func lifted(way *trace.Way) (rows [][]any) {
	var came trace.Copy
	for _, c := range way.Copies {
		if c.Host != came.Host {
			came = c
		}
		to := c.Reason
		for _, t := range []struct{ what, id string }{{"port ", c.ToPort}, {"host ", c.ToHost}, {"physical network ", c.ToPhysical}} {
			if t.id != "" {
				to = t.what + t.id
			}
		}
		rows = append(rows, []any{c.Host, c.Point, to, c.At.Sub(came.At).Round(time.Microsecond).String(), c.Packet})
	}
	return rows
}
