package agent

import (
	"encoding/json"
	"net/http"

	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// PathQuestion asks an agent to follow a packet.
type PathQuestion struct {
	trace.Question
	// Peers are the sockets of other hosts' agents. Of other hosts, only what is sent to them is known.
	Peers map[string]string `json:"peers,omitempty"`
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

// pathView follows a packet that a port sends, by the state that this agent has: which is what concerns this host.
func (a *Agent) pathView(r *http.Request) (any, error) {
	var q PathQuestion
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	return trace.Run(r.Context(), asker{a, q.Peers}, a.core.store.Copy(), q.Question)
}
