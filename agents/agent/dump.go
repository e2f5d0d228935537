package agent

import (
	"context"
	"fmt"
	"unique"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
)

// carried is what a switch carries out at one moment.
type carried struct {
	flows   map[flows.FlowKey]flows.Flow // cookies with their epochs
	learned int                          // flows that the switch made by itself, which end by themselves
	groups  map[uint32]string            // groupKey
	meters  map[uint32]flows.Meter
}

// canaryKey is the flow whose cookie says which epoch and which layout of the tables the switch carries out. No packet comes to its table.
func canaryKey() flows.FlowKey {
	return flows.FlowKey{Table: flows.TCanary, Priority: flows.PTop}
}

// canaryClass is a class that the compiler has no rule for.
const canaryClass = 255

// canary is the canary of a layout.
func canary(layout uint32) flows.Flow {
	return flows.Flow{Cookie: flows.Cookie(canaryClass<<40 | uint64(layout))}
}

// layoutOf is the layout that a canary tells.
func layoutOf(f flows.Flow) uint32 { return uint32(f.Cookie) } //nolint:gosec // its lower 32 bits

// read reads all that a switch carries out.
func read(ctx context.Context, conn *openflow.Conn) (*carried, error) {
	h := &carried{flows: map[flows.FlowKey]flows.Flow{}, groups: map[uint32]string{}, meters: map[uint32]flows.Meter{}}
	if err := h.readFlows(ctx, conn); err != nil {
		return nil, fmt.Errorf("dump flows: %w", err)
	}
	bodies, err := conn.Multipart(ctx, openflow.PartGroupDesc, &openflow.GroupDescRequest{})
	if err != nil {
		return nil, fmt.Errorf("dump groups: %w", err)
	}
	for _, body := range bodies {
		for _, g := range body.(*openflow.GroupDescList).Groups { //nolint:errcheck,forcetypeassert // as above
			h.groups[g.Group] = groupKey(g.Type, g.Group, g.Buckets)
		}
	}
	if bodies, err = conn.Multipart(ctx, openflow.PartMeterConfig, &openflow.MeterRequest{Meter: openflow.AllMeters}); err != nil {
		return nil, fmt.Errorf("dump meters: %w", err)
	}
	for _, body := range bodies {
		for _, m := range body.(*openflow.MeterConfigList).Meters { //nolint:errcheck,forcetypeassert // as above
			h.meters[m.Meter] = flows.Meter{Flags: m.Flags, Bands: m.Bands}
		}
	}
	return h, nil
}

// readFlows reads the flows in pieces of some thousands: a switch in user space forwards nothing while it writes one.
func (h *carried) readFlows(ctx context.Context, conn *openflow.Conn) error {
	bodies, err := conn.Multipart(ctx, openflow.PartTable, nil)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		for _, t := range body.(*openflow.TableStatsList).Tables { //nolint:errcheck,forcetypeassert // what such a request is answered with
			if t.Active == 0 {
				continue
			}
			// The lowest bits of cookies are those of a hash.
			parts := uint64(1)
			for uint64(t.Active)/parts > pieceOf {
				parts *= 2
			}
			for part := range parts {
				r := openflow.EveryFlow()
				r.Table, r.Cookie, r.CookieMask = t.Table, part, parts-1
				if err := conn.EachFlow(ctx, r, h.add); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (h *carried) add(f *openflow.FlowView) error {
	if f.Idle != 0 || f.Hard != 0 {
		h.learned++
		return nil
	}
	h.flows[flows.FlowKey{Table: flows.Table(f.Table), Priority: f.Priority, Match: string(f.Match)}] = flows.Flow{
		Cookie: flows.Cookie(f.Cookie), Instructions: unique.Make(string(f.Instructions)).Value()} // many flows do the same
	return nil
}

// groupKey is a group as bytes: two groups are the same if their keys are.
func groupKey(kind openflow.GroupType, id uint32, buckets []openflow.Bucket) string {
	raw, err := openflow.Append(nil, 0, &openflow.GroupMod{Type: kind, ID: id, Buckets: buckets})
	if err != nil {
		return "" // one that cannot be written is like none
	}
	return string(raw)
}
