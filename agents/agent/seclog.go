package agent

import (
	"context"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
)

// ruleOf says what a conjunction of the program stands for.
func (c *core) ruleOf(conjunction uint32) (flows.Rule, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compiler.RuleOf(conjunction)
}

// logMeters says whether the program has meters of logs.
func (c *core) logMeters() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compiler.Logs()
}

// readMetered tells the log of packets that its meters let no copy of through since before, which is what each meter had counted then, and returns what each has
// counted now. A meter that has counted less than before is another one.
func (a *Agent) readMetered(ctx context.Context, conn *openflow.Conn, before map[uint32]uint64) (map[uint32]uint64, error) {
	now := map[uint32]uint64{}
	if !a.core.logMeters() {
		return now, nil
	}
	bodies, err := conn.Multipart(ctx, openflow.PartMeter, &openflow.MeterRequest{Meter: openflow.AllMeters})
	if err != nil {
		return before, err
	}
	for _, body := range bodies {
		for _, m := range body.(*openflow.MeterStatsList).Meters { //nolint:errcheck,forcetypeassert // what the request is answered with
			if !flows.IsLogMeter(m.Meter) || len(m.Bands) == 0 {
				continue
			}
			now[m.Meter] = m.Bands[0].Packets
			if was := before[m.Meter]; was <= now[m.Meter] {
				a.seclog.Metered(now[m.Meter] - was)
			} else {
				a.seclog.Metered(now[m.Meter])
			}
		}
	}
	return now, nil
}
