package agent

import (
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// disconnect has the connections of floating IPs forgotten that stand for another port now, or for none: a connection goes on with the translation that it
// began with, to a guest that is no longer meant.
func (c *core) disconnect(changes []state.Change) {
	for _, ch := range changes {
		was, _ := ch.Old.(*state.FloatingIP)
		if was == nil || was.Port == "" {
			continue
		}
		if now, _ := ch.New.(*state.FloatingIP); now != nil && now.Address == was.Address && now.Router == was.Router && now.Port == was.Port && now.FixedIP == was.FixedIP {
			continue
		}
		var zone *state.Zone
		c.store.Read(func(v *state.View) { zone = state.Find[*state.Zone](v, was.Router) })
		if zone != nil && zone.Dnat != 0 {
			c.forget = append(c.forget, forgetting(zone.Dnat, was.Address)...)
		}
	}
}

// refuse tells of floating IPs that are not carried out: their external network travels in tunnels.
func (c *core) refuse(changes []state.Change) {
	c.store.Read(func(v *state.View) {
		for _, ch := range changes {
			ids := []string{ch.Ref.ID}
			switch ch.Ref.Kind {
			case state.KindFloatingIP:
			case state.KindNetwork:
				ids = v.IDs(state.Index{List: state.ListFloatingOfNetwork, ID: ch.Ref.ID})
			default:
				continue
			}
			for _, id := range ids {
				f := state.Find[*state.FloatingIP](v, id)
				if f == nil {
					c.alarms.end(alarmFloating, id)
					continue
				}
				n := state.Find[*state.Network](v, f.Network)
				c.alarms.set(n != nil && n.Segment == state.Overlay && f.Port != "", alarmFloating, id,
					"floating IP %s is in network %s, which travels in tunnels: an external network with floating IPs is to be a VLAN or flat", f.Address, f.Network)
			}
		}
	})
}

// forgetting flushes a zone's connections to an address, and those that were translated to it.
func forgetting(zone uint16, a netip.Addr) []openflow.Message {
	raw := a.As16()
	to := func() *openflow.CTTuple { return &openflow.CTTuple{Dst: raw[:]} }
	return []openflow.Message{&openflow.CTFlush{Zone: &zone, Original: to()}, &openflow.CTFlush{Zone: &zone, Reply: to()}}
}
