package trace

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
)

// read is what ofproto/trace said.
type read struct {
	steps   []Step
	at      []int            // which of flows each of steps is
	flows   []*api.TraceStep // all, also of branches that the packet does not take
	outputs []outputTo
	vlan    uint16 // that the packet has so far
	tunnels []tunnelTo
	ops     []string
	reason  string
	final   string
	first   string
	branch  branch
	here    string   // the bridge that the pass is in
	bridges []string // beside the first
	left    string   // the flow of the pass that went to another bridge, at its end
	leaves  bool     // this pass does
	depth   int      // how far what is said of the bridge is indented
	copies  copies
}

// copies are those for mirrors, each begun by a clone, which asks first whether it is too big for where it goes.
type copies struct {
	asks bool // a clone has begun, and has not asked yet
	fit  int
	sent int // that came to somebody; ofproto/trace tells so of those that are too big, too
}

// ends are how many of the packet's ends are those of copies. What comes out of a tunnel for a mirror is no copy of something here.
func (c copies) ends() int { return min(c.fit, c.sent) }

// of says whether a line is of a copy's beginning, and no branch of the packet's own.
func (c *copies) of(line string, length int) bool {
	if lineCopy.MatchString(line) {
		c.asks = true
		return true
	}
	m := lineLarger.FindStringSubmatch(line)
	if m == nil || !c.asks {
		return false
	}
	c.asks = false
	if n, _ := strconv.Atoi(m[1]); length+ethernetHeader <= n {
		c.fit++
	}
	return true
}

// branch is where a switch asks whether a packet is larger than something: ofproto/trace, which knows no lengths, tells of both ways, first of the one that larger packets go, a level
// deeper. That one ends at the agent.
type branch struct {
	length int // of the IP packet
	indent int // of what is told of the first way; 0: it is over
	larger bool
	other  bool // what is told now is of the way that the packet does not go
	ends   bool // the packet was larger, and has ended
}

// enter is told of each line.
func (b *branch) enter(line string) {
	indent := indented(line)
	if m := lineLarger.FindStringSubmatch(line); m != nil && !b.ends {
		n, _ := strconv.Atoi(m[1])
		b.indent, b.larger = indent, b.length+ethernetHeader > n
		b.other = !b.larger
		return
	}
	if b.indent > 0 && indent < b.indent && (lineStep.MatchString(line) || strings.HasPrefix(strings.TrimSpace(line), "Final flow:")) {
		b.indent = 0
		b.other, b.ends = b.larger, b.larger
	}
}

func indented(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// ethernetHeader is its length, which the switch counts too.
const ethernetHeader = 14

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
	lineCopy   = regexp.MustCompile(fmt.Sprintf(`^\s*clone\(.*resubmit\(,%d\)`, flows.TMirror))
	lineSize   = regexp.MustCompile(`^check_pkt_len\(size=(\d+)`)
	lineLarger = regexp.MustCompile(`^\s*check_pkt_larger\((\d+)\)`)
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

// readTrace reads what becomes of an IP packet of a length.
func readTrace(text string, length int) *read {
	t := &read{branch: branch{length: length}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if t.copies.of(line, length) {
			continue
		}
		t.branch.enter(line)
		if m := lineStep.FindStringSubmatch(line); m != nil {
			if indented(line) < t.depth { // a copy was in that bridge: the packet goes on in the first
				t.here, t.depth = t.first, 0
			}
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
			t.depth = indented(line)
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
		if m := userdata.FindStringSubmatch(line); m != nil && !t.branch.other {
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
		if m := lineDo.FindStringSubmatch(line); m != nil && !t.branch.ends {
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
	if !t.branch.other {
		if t.reason = flows.ReasonOf(flows.Cookie(cookie)); table == uint64(flows.TMirror) && t.reason == "" {
			t.copies.sent++
		}
		t.steps, t.at = append(t.steps, s), append(t.at, len(t.flows)-1)
	}
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
		case "clone", "sample", "check_pkt_len", "le": // not "gt": what is too big, the agent answers
			if m := lineSize.FindStringSubmatch(a); m != nil {
				if n, _ := strconv.Atoi(m[1]); t.branch.length+ethernetHeader > n {
					continue
				}
			}
			before := t.vlan
			t.actions(strings.TrimSuffix(strings.TrimPrefix(a, name+"("), ")"))
			t.vlan = before
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
		case k == "nd_sll" && field(flow, "icmp_type") == 136, k == "nd_tll" && field(flow, "icmp_type") == 135:
			continue // an answer that a flow made of a question: the packet has one option
		case k == "nd_sll" || k == "nd_tll" || k == "arp_tha":
			if v == "00:00:00:00:00:00" {
				continue
			}
		}
		out = append(out, part)
	}
	return strings.Join(out, ",")
}
