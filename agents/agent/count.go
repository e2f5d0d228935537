package agent

import (
	"context"
	"maps"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// countEvery is how often drops are counted. The switch's own counters are about a second old.
const countEvery = 10 * time.Second

// count reads the counters of drops, and reports them with the state of tunnels.
func (a *Agent) count(ctx context.Context) error {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	metered := map[uint32]uint64{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		conn := a.switcher.connection()
		if conn == nil {
			continue
		}
		drops, err := a.readDrops(ctx, conn)
		if err != nil {
			continue // the connection has ended: the next one counts
		}
		if metered, err = a.readMetered(ctx, conn, metered); err != nil {
			continue
		}
		a.core.mu.Lock()
		a.core.drops = drops
		r := &api.Report{Flows: a.core.flowStatus(), Tunnels: a.core.tunnels()}
		a.core.mu.Unlock()
		if a.reporter != nil {
			a.reporter.Report(r)
		}
	}
}

// readDrops are the packets that were dropped, by reason, since their flows were made. The flows that drop are about nothing of the state: no kind stands in
// their cookies.
func (a *Agent) readDrops(ctx context.Context, conn *openflow.Conn) (map[string]uint64, error) {
	r := openflow.EveryFlow()
	r.CookieMask = 0xff << 32
	found := map[flows.Cookie]uint64{}
	err := conn.EachFlow(ctx, r, func(f *openflow.FlowView) error {
		if len(f.Instructions) == 0 {
			found[flows.Cookie(f.Cookie)] += f.Packets
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	drops := map[string]uint64{}
	for cookie, packets := range found {
		if reason := a.core.compiler.Reason(cookie); reason != "" {
			drops[reason] += packets
		}
	}
	return drops, nil
}

// tunnels are the ends that tunnels lead to. One is up where the switch has the way, and nobody knows the other host to be dead.
func (c *core) tunnels() []*api.TunnelStatus {
	problems := map[string]string{}
	for id := range c.mirror.own {
		if row := c.mirror.interfaces[id]; row.problem() != "" {
			problems[row.ExternalIDs[keyTunnel]] = row.problem()
		}
	}
	var out []*api.TunnelStatus
	c.store.Read(func(v *state.View) {
		self := state.Find[*state.Host](v, c.cfg.Host)
		if self == nil {
			return
		}
		for _, other := range state.All[*state.Host](v, state.Index{List: state.ListAll, ID: state.KindHost.String()}) {
			end, ok := self.Reach(other)
			if !ok || other.ID == self.ID {
				continue
			}
			id := state.TunnelID(end.Encap, end.Port)
			up := v.Get(state.Ref{Kind: state.KindTunnel, ID: id}) != nil && state.Find[*state.Down](v, other.ID) == nil
			out = append(out, &api.TunnelStatus{Host: other.ID, Address: end.Address.String(), Up: up, Error: problems[id]})
		}
	})
	return out
}

// dropCounts are the last counts.
func (c *core) dropCounts() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.drops)
}
