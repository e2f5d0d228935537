package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// reportEvery bounds how often the reporter is told of ports: what changes in between is told once. That a revision is carried out is told at once,
// since whoever asked for it waits for that.
const reportEvery = 20 * time.Millisecond

// tell tells the reporter, where there is one, what has changed, and the log which alarms begin and end.
func (a *Agent) tell(ctx context.Context) error {
	last, standing := map[string]*api.PortStatus{}, map[alarmKey]bool{}
	var applied struct {
		incarnation string
		revision    uint64
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.report:
		}
		r := a.core.report(last)
		a.logAlarms(ctx, r.Alarms, standing)
		if a.reporter == nil {
			continue
		}
		a.core.mu.Lock()
		done := a.core.done
		a.core.mu.Unlock()
		if done != applied {
			applied = done
			a.reporter.Applied(done.incarnation, done.revision)
		}
		if len(r.Ports)+len(r.Alarms) == 0 {
			continue
		}
		a.reporter.Report(r)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reportEvery):
		}
	}
}

// logAlarms writes alarms into the log as they begin and end. One whose text changes is in the agent's status; those of the state file, the switch and its database
// are in the log already.
func (a *Agent) logAlarms(ctx context.Context, alarms []*api.Alarm, standing map[alarmKey]bool) {
	for _, m := range alarms {
		k := alarmKey{m.Code, m.Object}
		switch {
		case k.code == alarmState || k.code == alarmSwitch || k.code == alarmDatabase:
		case m.Over && standing[k]:
			delete(standing, k)
			a.log.InfoContext(ctx, "alarm is over", "code", m.Code, "object", m.Object)
		case !m.Over && !standing[k]:
			standing[k] = true
			a.log.WarnContext(ctx, "alarm", "code", m.Code, "object", m.Object, "text", m.Text)
		}
	}
}

// report is what has changed since last, which it brings up to date.
func (c *core) report(last map[string]*api.PortStatus) *api.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &api.Report{Alarms: c.alarms.told(false)}
	ids := slices.Sorted(maps.Keys(c.untold))
	c.untold = map[string]struct{}{}
	c.store.Read(func(v *state.View) {
		for _, id := range ids {
			p := c.plugged[id]
			if p == nil {
				if was := last[id]; was != nil {
					r.Ports = append(r.Ports, &api.PortStatus{Port: id, BindingEpoch: was.BindingEpoch})
					delete(last, id)
				}
				continue
			}
			if now := c.port(v, id, p); !proto.Equal(last[id], now) {
				r.Ports = append(r.Ports, now)
				last[id] = now
			}
		}
	})
	return r
}

// Status is all that there is to tell of the host.
func (a *Agent) Status() *api.Report {
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	ports := a.core.ports()
	r := &api.Report{Alarms: a.core.alarms.told(true), Flows: a.core.flowStatus()}
	for _, id := range slices.Sorted(maps.Keys(ports)) {
		r.Ports = append(r.Ports, ports[id])
	}
	return r
}

// ports are the ports that are plugged here, or should be.
func (c *core) ports() map[string]*api.PortStatus {
	out := make(map[string]*api.PortStatus, len(c.plugged))
	c.store.Read(func(v *state.View) {
		for id, p := range c.plugged {
			out[id] = c.port(v, id, p)
		}
	})
	return out
}

func (c *core) port(v *state.View, id string, p *plugging) *api.PortStatus {
	s := &api.PortStatus{Port: id, Plugged: v.Get(state.Ref{Kind: state.KindPlug, ID: id}) != nil, Ready: p.ready, BindingEpoch: p.epoch, Error: p.error}
	port := state.Find[*state.Port](v, id)
	mac := c.mirror.interfaces[p.iface].ExternalIDs[keyAttachedMAC]
	if s.Error != "" || port == nil || port.Parent != "" || mac == "" {
		return s
	}
	if m, err := state.ParseMAC(mac); err != nil || m != port.MAC {
		s.Error = "interface " + p.name + " is attached to a guest's device with the address " + mac + ", the port's is " + port.MAC.String()
	}
	return s
}

func (c *core) flowStatus() *api.FlowStatus {
	return &api.FlowStatus{
		Flows: uint32(c.compiler.Stats().Flows), Groups: uint32(len(c.compiler.Groups())), Meters: uint32(len(c.compiler.Meters())), //nolint:gosec // far fewer
		Epoch: uint32(c.epoch), ForeignChanges: c.foreign, Drops: maps.Clone(c.drops),
	}
}

// neighborReport tells of neighbours that were found and lost here.
func neighborReport(found []state.Object, lost []state.Ref) *api.Report {
	r := &api.Report{}
	for _, o := range found {
		if n, ok := o.(*state.Neighbor); ok {
			r.Neighbors = append(r.Neighbors, &api.Neighbor{Id: n.ID, Network: n.Network, Address: n.Address.String(), Mac: n.MAC.String(),
				Port: n.Port, Host: n.Host, Epoch: n.Epoch, Lease: n.Lease})
		}
	}
	for _, l := range lost {
		r.NeighborsGone = append(r.NeighborsGone, l.ID)
	}
	return r
}
