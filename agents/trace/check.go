package trace

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/agents/api"
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
func Flows(text string) []*api.TraceStep { return readTrace(text, 0).flows }

// maxHosts is how many hosts a check follows a packet over: the sender's, the receiver's, one that the receiver has just left, a gateway.
const maxHosts = 4

// Check asks the switches what becomes of a packet that a port sends, host by host. Of a host whose switch is nil it says only that the packet is sent there. v tells which host an underlay address is. It changes nothing; whoever
// has many packets checked finds the switches' caches as before.
func Check(ctx context.Context, v *state.View, switches func(host string) Switch, port string, p Packet) (*Result, error) {
	src := state.Find[*state.Port](v, port)
	if src == nil || src.Host == "" {
		return nil, fmt.Errorf("port %s: there is none in the state that this was asked of, or it is plugged nowhere", port)
	}
	c := &checker{ctx: ctx, v: v, switches: switches, r: &Result{}, established: p.Established, length: p.Length}
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
	length      int // of the IP packet
}

// ask follows a packet through one host.
func (c *checker) ask(host string, sw Switch, flow string, n int) error {
	said, err := sw.Trace(c.ctx, flow, c.established)
	if err != nil {
		return fmt.Errorf("host %s: ofproto/trace of %s: %w", host, flow, err)
	}
	t := readTrace(said.GetText(), c.length)
	for i, s := range t.steps {
		s.Host = host
		if at := t.at[i]; at < len(said.GetSteps()) {
			s.explained(said.GetSteps()[at])
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
	if ends == t.copies.ends() { // the packet itself has none
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
	for _, e := range checked.everywhere() {
		if e.Verdict == Sent {
			sent[e.Host] = true
		}
	}
	reached := map[string]bool{}
	ends := func(r *Result, back bool) []string {
		var out []string
		for _, e := range r.everywhere() {
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

// everywhere are the ends and the copies.
func (r *Result) everywhere() []End { return slices.Concat(r.Ends, r.Copies) }

// delivers says whether the packet comes to a port.
func (r *Result) delivers(port string) bool {
	return slices.ContainsFunc(r.everywhere(), func(e End) bool { return e.Verdict == Delivered && e.Port == port })
}
