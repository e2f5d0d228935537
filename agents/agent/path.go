package agent

import (
	"net/http"
	"net/netip"
	"strconv"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Path is where a packet goes: what should happen by the desired state, and what the switch of this host would do with it.
type Path struct {
	Packet    string        `json:"packet"` // in the words of ovs-fields(7)
	Simulated *trace.Result `json:"simulated"`
	Checked   *trace.Result `json:"checked"` // by this host's switch; how other hosts go on is not asked
	Agree     bool          `json:"agree"`
}

// Devices are the bridge's ports, and the bridges behind it, by their names.
func (a *Agent) Devices() map[string]trace.Device {
	out := map[string]trace.Device{}
	c := a.core
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.plugged {
		if row, ok := c.mirror.interfaces[p.iface]; ok && row.ExternalIDs[keyIfaceID] == id {
			out[row.Name] = trace.Device{Port: id}
		}
	}
	for _, row := range c.mirror.ours(keyTunnel) {
		out[row.Name] = trace.Device{Tunnel: true}
	}
	for physical, bridge := range a.cfg.BridgeMappings {
		out[bridge] = trace.Device{Physical: physical}
	}
	return out
}

// pathView follows a packet that a port of this host sends.
func (a *Agent) pathView(r *http.Request) (any, error) {
	to, err := netip.ParseAddr(r.FormValue("to"))
	if err != nil {
		return nil, fault.New(fault.BadRequest, "", "to: %v", err)
	}
	p, err := packetOf(r)
	if err != nil {
		return nil, err
	}
	port := r.FormValue("port")
	var out Path
	a.core.store.Read(func(v *state.View) {
		if p, err = trace.Compose(v, port, to.Unmap(), p); err != nil {
			return
		}
		out.Packet = p.Text()
		if out.Simulated, err = trace.Simulate(v, port, p); err != nil {
			return
		}
		out.Checked, err = trace.Check(r.Context(), v, func(host string) trace.Switch {
			if host == a.cfg.Host {
				return a
			}
			return nil
		}, port, p)
	})
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	out.Agree = trace.Agree(port, out.Simulated, out.Checked)
	return out, nil
}

func packetOf(r *http.Request) (p trace.Packet, err error) {
	number := func(name string, bits int) uint64 {
		s := r.FormValue(name)
		if s == "" || err != nil {
			return 0
		}
		n, e := strconv.ParseUint(s, 0, bits)
		if e != nil {
			err = fault.New(fault.BadRequest, "", "%s: %q is no number of %d bits", name, s, bits)
		}
		return n
	}
	p.Proto = int(number("proto", 8))                                                     //nolint:gosec // 8 bits
	p.SrcPort, p.DstPort = uint16(number("src_port", 16)), uint16(number("dst_port", 16)) //nolint:gosec // 16 bits
	p.ICMPType, p.ICMPCode = uint8(number("icmp_type", 8)), uint8(number("icmp_code", 8)) //nolint:gosec // 8 bits
	p.TTL, p.Length = uint8(number("ttl", 8)), int(number("length", 16))                  //nolint:gosec // 8 and 16 bits
	p.Established = r.FormValue("established") == "true"
	if s := r.FormValue("from"); s != "" && err == nil {
		if p.Src, err = netip.ParseAddr(s); err != nil {
			err = fault.New(fault.BadRequest, "", "from: %v", err)
		}
	}
	return p, err
}
