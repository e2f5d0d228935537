package trace

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Switch is the switch of a host, as a check asks it.
type Switch interface {
	// Trace has the switch say what it would do with a packet: ofproto/trace of ovs-vswitchd(8) on the integration bridge, with --names. flow is in the words of
	// ovs-fields(7); established says that its connection was allowed before (Established). Of the result, steps may be left out; devices are not looked at.
	Trace(ctx context.Context, flow string, established bool) (*api.TraceResult, error)
	// Devices are the bridge's ports by the names of their devices; a bridge of a physical network stands under its own name where a patch leads there.
	Devices() map[string]Device
}

// Device is what a port of the switch is. One field is set.
type Device struct {
	Port     string // a guest's
	Physical string // the bridge of a physical network
	Tunnel   bool
}

// Established are the options of ofproto/trace that say of a packet whether its connection was allowed before.
func Established(established bool) (out []string) {
	if !established {
		return nil
	}
	for range maxLookups {
		out = append(out, "--ct-next", "trk,est")
	}
	return out
}

// maxLookups is how often the connection tracker is asked of one packet at one host.
const maxLookups = 4

// Flows are the flows of the bridge that was asked that ofproto/trace has named, in its order, without what the switch's agent knows of them.
func Flows(text string) []*api.TraceStep { return readTrace(text).flows }

// maxHosts is how many hosts a check follows a packet over: the sender's, the receiver's, one that the receiver has just left, a gateway.
const maxHosts = 4

// Check asks the switches what becomes of a packet that a port sends, host by host. Of a host whose switch is nil it says only that the packet is sent there. v tells which host an underlay address is. It changes nothing; whoever
// has many packets checked finds the switches' caches as before.
func Check(ctx context.Context, v *state.View, switches func(host string) Switch, port string, p Packet) (*Result, error) {
	src := state.Find[*state.Port](v, port)
	if src == nil || src.Host == "" {
		return nil, fmt.Errorf("port %s: there is none in the state that this was asked of, or it is plugged nowhere", port)
	}
	c := &checker{ctx: ctx, v: v, switches: switches, r: &Result{}, established: p.Established}
	sw := switches(src.Host)
	if sw == nil {
		return nil, fmt.Errorf("host %s cannot be asked", src.Host)
	}
	plugged := src.ID
	if src.Parent != "" {
		plugged, p.VLAN = src.Parent, src.ParentVLAN
	}
	for name, d := range sw.Devices() {
		if d.Port == plugged {
			if err := c.ask(src.Host, sw, "in_port="+name+","+p.Text(), 1); err != nil {
				return nil, err
			}
			return c.r.settle(), nil
		}
	}
	return nil, fmt.Errorf("port %s has no device on host %s", plugged, src.Host)
}

type checker struct {
	ctx      context.Context
	v        *state.View
	switches func(string) Switch
	r        *Result

	established bool
}

// ask follows a packet through one host.
func (c *checker) ask(host string, sw Switch, flow string, n int) error {
	said, err := sw.Trace(c.ctx, flow, c.established)
	if err != nil {
		return fmt.Errorf("host %s: ofproto/trace of %s: %w", host, flow, err)
	}
	t := readTrace(said.GetText())
	for i, s := range t.steps {
		s.Host = host
		if i < len(said.GetSteps()) {
			s.explained(said.GetSteps()[i])
		}
		c.r.Steps = append(c.r.Steps, s)
	}
	ends := 0
	devices := sw.Devices()
	for _, out := range t.outputs {
		d, known := devices[out.device]
		if !known || d.Tunnel {
			continue // the underlay's own bridge: what goes there is read from the tunnel's header
		}
		ends++
		if d.Port != "" {
			c.r.end(End{Verdict: Delivered, Port: c.portOf(d.Port, out.vlan), Host: host})
		} else {
			c.r.end(End{Verdict: Outside, Network: c.networkOf(t.final), Host: host})
		}
	}
	for _, bridge := range t.bridges {
		if d := devices[bridge]; d.Physical != "" {
			ends++
			c.r.end(End{Verdict: Outside, Network: c.networkOf(t.left), Host: host})
		}
	}
	for _, op := range t.ops {
		ends++
		c.r.end(End{Verdict: Served, Reason: op, Host: host})
	}
	for _, tun := range t.tunnels {
		ends++
		if err := c.onward(host, tun, n); err != nil {
			return err
		}
	}
	if ends == 0 {
		c.r.end(End{Verdict: Dropped, Reason: t.reason, Host: host})
	}
	return nil
}

// explained takes what the switch's agent knows of a step.
func (s *Step) explained(x *api.TraceStep) {
	s.Packets, s.Foreign = x.GetPackets(), x.GetForeign()
	if kind, ok := state.KindNamed(x.GetKind()); ok {
		s.Object = state.Ref{Kind: kind, ID: x.GetObject()}
	}
}

// onward goes on at the host that a tunnel leads to.
func (c *checker) onward(from string, tun tunnelTo, n int) error {
	if tun.src == "" { // a datapath in the kernel says nothing of a source that the tunnel's port has
		tun.src = c.sourceOf(from, tun.dst)
	}
	if n == maxHosts {
		return fmt.Errorf("the packet went over %d hosts: a loop", n)
	}
	for _, h := range state.All[*state.Host](c.v, state.Index{List: state.ListAll, ID: state.KindHost.String()}) {
		for _, e := range h.TunnelEnds {
			if e.Address.String() != tun.dst {
				continue
			}
			sw := c.switches(h.ID)
			if sw == nil {
				c.r.end(End{Verdict: Sent, Host: h.ID})
				return nil
			}
			for name, d := range sw.Devices() {
				if d.Tunnel {
					return c.ask(h.ID, sw, fmt.Sprintf("in_port=%s,tun_id=%#x,%s,%s", name, tun.key, tun.outer(), inner(tun.packet)), n+1)
				}
			}
			return fmt.Errorf("host %s has no tunnel", h.ID)
		}
	}
	return fmt.Errorf("host %s sends to %s, which is no host's address", from, tun.dst)
}

// sourceOf is the address from which a host sends to another's.
func (c *checker) sourceOf(from, dst string) string {
	h := state.Find[*state.Host](c.v, from)
	if h == nil {
		return ""
	}
	for _, e := range h.TunnelEnds {
		if strings.Contains(dst, ":") == e.Address.Is6() {
			return e.Address.String()
		}
	}
	return ""
}

// portOf is the port behind a device: of a trunk's, the one that has the tag.
func (c *checker) portOf(id string, vlan uint16) string {
	for _, sub := range state.All[*state.Port](c.v, state.Index{List: state.ListSubports, ID: id}) {
		if vlan != 0 && sub.ParentVLAN == vlan {
			return sub.ID
		}
	}
	return id
}

func (c *checker) networkOf(final string) string {
	if n, ok := c.v.ByKey(state.KindNetwork, uint32(field(final, "metadata"))).(*state.Network); ok { //nolint:gosec // its lower 32 bits are the network
		return n.ID
	}
	return ""
}

// Agree says whether a simulation and a check of a packet from a port come to the same ends. Of a packet for many, copies that are dropped do not count. Of hosts that
// the check did not ask, all that counts is that the packet is sent there.
func Agree(port string, simulated, checked *Result) bool {
	sent := map[string]bool{}
	for _, e := range checked.Ends {
		if e.Verdict == Sent {
			sent[e.Host] = true
		}
	}
	reached := map[string]bool{}
	ends := func(r *Result, back bool) []string {
		var out []string
		for _, e := range r.Ends {
			if e.Verdict != Sent && sent[e.Host] {
				reached[e.Host] = true
				continue
			}
			if e.Verdict == Sent || simulated.Many && e.Verdict == Dropped {
				continue
			}
			if back && e.Verdict == Delivered && e.Port == port {
				e = End{Verdict: Answered, Host: e.Host} // by the device that the question came from
			}
			out = append(out, e.String())
		}
		slices.Sort(out)
		return out
	}
	same := slices.Equal(ends(simulated, false), ends(checked, !simulated.delivers(port)))
	return same && (simulated.Many || len(reached) == len(sent))
}

// delivers says whether the packet comes to a port.
func (r *Result) delivers(port string) bool {
	return slices.ContainsFunc(r.Ends, func(e End) bool { return e.Verdict == Delivered && e.Port == port })
}

// read is what ofproto/trace said.
type read struct {
	steps   []Step
	flows   []*api.TraceStep // of steps
	outputs []outputTo
	vlan    uint16 // that the packet has so far
	tunnels []tunnelTo
	ops     []string
	reason  string
	final   string
	first   string
	here    string   // the bridge that the pass is in
	bridges []string // beside the first
	left    string   // the flow of the pass that went to another bridge, at its end
	leaves  bool     // this pass does
}

type outputTo struct {
	device string
	vlan   uint16
}

type tunnelTo struct {
	src, dst string
	key      uint64
	packet   string // as it is then
}

// outer is the tunnel's header in the words of ovs-fields(7).
func (t tunnelTo) outer() string {
	v6 := ""
	if strings.Contains(t.dst, ":") {
		v6 = "ipv6_"
	}
	return fmt.Sprintf("tun_%[1]ssrc=%[2]s,tun_%[1]sdst=%[3]s", v6, t.src, t.dst)
}

var (
	lineStep   = regexp.MustCompile(`^\s*(\d+)\. (.*?)(?:, )?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$`)
	lineMiss   = regexp.MustCompile(`^\s*(\d+)\. No match`)
	lineBridge = regexp.MustCompile(`^\s*bridge\("([^"]+)"\)`)
	lineDo     = regexp.MustCompile(`^Datapath actions: (.*)$`)
	lineFlow   = regexp.MustCompile(`^Flow: (.*)$`)
	lineFinal  = regexp.MustCompile(`^Final flow: (.*)$`)
	tunnelPush = regexp.MustCompile(`src=([0-9a-f.:]+),dst=([0-9a-f.:]+)[^|]*?(?:vni=|tun_id=)(0x[0-9a-f]+)`)
	tunnelSet  = regexp.MustCompile(`set\(tunnel\(tun_id=(0x[0-9a-f]+),(?:src=([0-9a-f.:]+),)?(?:ipv6_)?dst=([0-9a-f.:]+)`)
	tagged     = regexp.MustCompile(`^(?:push_vlan|set\(vlan)\(vid=(\d+)`)
	userdata   = regexp.MustCompile(`controller\(.*?userdata=([0-9a-f]{2})`)
)

func readTrace(text string) *read {
	t := &read{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := lineStep.FindStringSubmatch(line); m != nil {
			if t.here == t.first {
				t.step(m)
			}
			continue
		}
		if lineMiss.MatchString(line) {
			t.reason = "no flow"
		}
		if m := lineBridge.FindStringSubmatch(line); m != nil && m[1] != "" {
			t.enter(m[1])
		}
		if strings.Contains(line, "skipping output to input port") {
			t.reason = "own-packet"
		}
		if strings.Contains(line, "native tunnel routing failed") {
			t.reason = noUnderlay
		}
		if strings.Contains(line, "neighbor cache miss for") {
			t.reason = noNeighbor
		}
		if m := userdata.FindStringSubmatch(line); m != nil {
			op, _ := strconv.ParseUint(m[1], 16, 8)
			if op := flows.Op(op); op != flows.OpTrace && op != flows.OpLog { //nolint:gosec // 8 bits
				t.ops = append(t.ops, op.String())
			} // else a copy: the packet goes on
		}
		if m := lineFlow.FindStringSubmatch(line); m != nil {
			t.final = m[1]                          // of this pass; a packet that is looked up again has several
			t.vlan = uint16(field(m[1], "dl_vlan")) //nolint:gosec // 12 bits
		}
		if m := lineFinal.FindStringSubmatch(line); m != nil {
			t.finish(m[1])
		}
		if m := lineDo.FindStringSubmatch(line); m != nil {
			t.actions(m[1])
		}
	}
	return t
}

// enter is told of each bridge that a pass comes to; the first is the one that was asked.
func (t *read) enter(bridge string) {
	if t.here = bridge; t.first == "" {
		t.first = bridge
	}
	if bridge != t.first {
		t.bridges, t.leaves = append(t.bridges, bridge), true
	}
}

// finish is told of the flow at the end of a pass.
func (t *read) finish(flow string) {
	if flow != "unchanged" {
		t.final = flow
	}
	if t.leaves {
		t.left, t.leaves = t.final, false
	}
}

func (t *read) step(m []string) {
	table, _ := strconv.ParseUint(m[1], 10, 8)
	priority, _ := strconv.ParseUint(m[3], 10, 16)
	cookie, _ := strconv.ParseUint(m[4], 0, 64)
	t.flows = append(t.flows, &api.TraceStep{Table: uint32(table), Cookie: cookie, Flow: m[2], Priority: uint32(priority)}) //nolint:gosec // 8 and 16 bits
	s := Step{Text: m[2], Point: strconv.FormatUint(table, 10)}
	for _, info := range flows.TableMap() {
		if uint64(info.Table) == table {
			s.Point = info.Name
		}
	}
	t.reason = flows.ReasonOf(flows.Cookie(cookie))
	t.steps = append(t.steps, s)
}

// actions reads where the datapath's actions send the packet.
func (t *read) actions(list string) {
	for _, a := range split(list) {
		name, _, _ := strings.Cut(a, "(")
		if m := tagged.FindStringSubmatch(a); m != nil {
			n, _ := strconv.ParseUint(m[1], 10, 12)
			t.vlan = uint16(n)
		}
		switch name {
		case "pop_vlan":
			t.vlan = 0
		case "clone", "sample", "check_pkt_len":
			t.actions(strings.TrimSuffix(strings.TrimPrefix(a, name+"("), ")"))
		case "tnl_push":
			if m := tunnelPush.FindStringSubmatch(a[strings.Index(a, "ipv"):]); m != nil {
				key, _ := strconv.ParseUint(m[3], 0, 64)
				t.tunnels = append(t.tunnels, tunnelTo{m[1], m[2], key, t.final})
			}
		case "set":
			if m := tunnelSet.FindStringSubmatch(a); m != nil {
				key, _ := strconv.ParseUint(m[1], 0, 64)
				t.tunnels = append(t.tunnels, tunnelTo{m[2], m[3], key, t.final})
			}
		default:
			if !strings.Contains(a, "(") && a != "drop" && a != "ct_clear" {
				t.outputs = append(t.outputs, outputTo{a, t.vlan})
			}
		}
	}
}

// split splits at the commas outside of parentheses.
func split(s string) (out []string) {
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

// field is a field's number in a flow as the tools print it, or 0.
func field(flow, name string) uint64 {
	for _, part := range strings.Split(flow, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == name {
			n, _ := strconv.ParseUint(v, 0, 64)
			return n
		}
	}
	return 0
}

// inner is the packet of a flow as the tools print it, in the words that they take: without what belongs to the switch, and with
// the names of ports and types that go with the protocol.
func inner(flow string) string {
	parts := strings.Split(flow, ",")
	protocol := "" // a word of its own
	for _, part := range parts {
		if part != "eth" && !strings.Contains(part, "=") {
			protocol = part
			break
		}
	}
	proto := strings.TrimSuffix(protocol, "6")
	out := []string{protocol}
	for _, part := range parts {
		k, v, _ := strings.Cut(part, "=")
		switch {
		case part == "eth", part == protocol:
			continue
		case strings.HasPrefix(k, "reg"), strings.HasPrefix(k, "ct_"), strings.HasPrefix(k, "tun_"), strings.HasPrefix(k, "gtpu"), strings.HasPrefix(k, "dl_vlan"), strings.HasPrefix(k, "vlan_tci"),
			k == "metadata", k == "in_port", k == "skb_priority", k == "pkt_mark", k == "recirc_id", k == "dp_hash", k == "conj_id", k == "actset_output":
			continue
		case (k == "icmp_type" || k == "icmp_code") && protocol == "icmp6":
			part = strings.Replace(part, "icmp_", "icmpv6_", 1)
		case (k == "tp_src" || k == "tp_dst") && (proto == "tcp" || proto == "udp" || proto == "sctp"):
			part = strings.Replace(part, "tp_", proto+"_", 1)
		case k == "nd_sll" || k == "nd_tll" || k == "arp_tha":
			if v == "00:00:00:00:00:00" {
				continue
			}
		}
		out = append(out, part)
	}
	return strings.Join(out, ",")
}
