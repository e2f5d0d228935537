package apps

import (
	"context"
	"net/netip"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// FromSwitch reads a packet-in. ok is false for one that carries no operation of this package: it is not for the services.
func FromSwitch(m *openflow.PacketIn2) (p Packet, ok bool) {
	if len(m.UserData) == 0 || flows.Op(m.UserData[0]) == 0 || flows.Op(m.UserData[0]) == flows.OpTrace || len(m.Packet) < 14 {
		return Packet{}, false
	}
	p = Packet{Op: flows.Op(m.UserData[0]), Data: m.UserData[1:], Frame: m.Packet}
	var v6 openflow.Value
	for _, f := range m.Metadata {
		switch f.Field {
		case openflow.InPort:
			p.InPort = uint32(f.Value.Lo) //nolint:gosec // a field of 32 bits
		case flows.RSource:
			p.Source = uint32(f.Value.Lo & state.MaxKey) //nolint:gosec // just masked
		case flows.ROrigin:
			p.Origin = uint32(f.Value.Lo & state.MaxKey) //nolint:gosec // just masked
		case flows.ROutNet:
			p.OutNet = uint32(f.Value.Lo & state.MaxKey) //nolint:gosec // just masked
		case flows.RNextHop:
			p.NextHop = netip.AddrFrom4([4]byte{byte(f.Value.Lo >> 24), byte(f.Value.Lo >> 16), byte(f.Value.Lo >> 8), byte(f.Value.Lo)})
		case openflow.Metadata:
			p.Network = uint32(f.Value.Lo & (1<<flows.MetaNetworkBits - 1))                       //nolint:gosec // just masked
			p.Router = uint32(f.Value.Lo >> flows.MetaRouterFrom & (1<<flows.MetaRouterBits - 1)) //nolint:gosec // just masked
		case openflow.Reg12, openflow.Reg13, openflow.Reg14, openflow.Reg15:
			v6 = v6.Or(openflow.Num(f.Value.Lo).Shl(32 * int(openflow.Reg15-f.Field)))
		case flows.RNextV6:
			v6 = f.Value
		}
	}
	if len(m.Packet) >= 14 && m.Packet[12] == 0x86 && m.Packet[13] == 0xdd {
		p.NextHop = netip.AddrFrom16(v6.Bytes16())
	}
	if len(m.Continuation) > 0 {
		p.Paused = m
	}
	return p, true
}

// behindAt is how many bytes of further messages may wait while packets are answered where they are read. Beyond, all are read first, so that each port gets
// its share of what can be answered: where the switch waits for us to read, it drops packets of any port.
const behindAt = 32 << 10

// Handle takes a message of the switch's and says whether it was one for the services. It never waits. waiting is how many bytes of further messages there
// are (openflow.Conn.Waiting).
func (a *Apps) Handle(ctx context.Context, m openflow.Message, waiting int) bool {
	in, ok := m.(*openflow.PacketIn2)
	if !ok {
		return false
	}
	p, ok := FromSwitch(in)
	switch {
	case !ok:
	case waiting < behindAt:
		a.Answer(ctx, p)
	default:
		a.Submit(p)
	}
	return ok
}

// ToSwitch is a reply as the switch is told it; nil: it goes to a port that is not plugged here.
func ToSwitch(v *state.View, r Reply) openflow.Message {
	switch r.To {
	case ToResume:
		m := &openflow.Resume{PacketIn2: *r.Paused}
		m.Packet = r.Frame
		return m
	case ToPort:
		return toPort(v, r)
	case ToNetwork:
		return injected(r.Frame, flows.TSwitch, uint64(r.Network))
	case ToRouter:
		return injected(r.Frame, flows.TNatIn, uint64(r.Network)|uint64(r.Router)<<flows.MetaRouterFrom)
	}
	return nil
}

// toPort sends a frame out of the port's place in the switch, and to a subport through its trunk.
func toPort(v *state.View, r Reply) openflow.Message {
	p, _ := v.ByKey(state.KindPort, r.Port).(*state.Port)
	if p == nil {
		return nil
	}
	var actions []openflow.Action
	place := p.ID
	if p.Parent != "" {
		const present = 1 << 12 // OFPVID_PRESENT
		place = p.Parent
		actions = append(actions, &openflow.PushVLAN{EtherType: 0x8100},
			&openflow.SetField{Field: openflow.VLANVID, Value: openflow.Num(uint64(p.ParentVLAN) | present)})
	}
	plug := state.Find[*state.Plug](v, place)
	if plug == nil {
		return nil
	}
	actions = append(actions, &openflow.Output{Port: plug.OFPort})
	return &openflow.PacketOut{BufferID: openflow.NoBuffer, InPort: openflow.PortController, Actions: actions, Data: r.Frame}
}

// injected puts a frame into a table as if it had come that far.
func injected(frame []byte, table flows.Table, metadata uint64) openflow.Message {
	return &openflow.PacketOut{BufferID: openflow.NoBuffer, InPort: openflow.PortController, Data: frame, Actions: []openflow.Action{
		&openflow.SetField{Field: openflow.Metadata, Value: openflow.Num(metadata)},
		&openflow.SetField{Field: flows.RFlags, Value: openflow.Num(1 << flows.FlagAgent)},
		&openflow.Resubmit{InPort: openflow.ResubmitInPort, Table: uint8(table)},
	}}
}

// connection is the part of *openflow.Conn that sends.
type connection interface {
	Offer(xid uint32, m openflow.Message) error
}

// Sender is a Config.Send to a switch. It never waits: what the switch is too slow for is lost.
func Sender(store *state.Store, conn connection) func(context.Context, []Reply) error {
	return func(_ context.Context, replies []Reply) (err error) {
		store.Read(func(v *state.View) {
			for _, r := range replies {
				if m := ToSwitch(v, r); m != nil && err == nil {
					err = conn.Offer(0, m)
				}
			}
		})
		return err
	}
}
