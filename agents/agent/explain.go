package agent

import (
	"context"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
)

// explain finds the flows that the switch has named. What each has counted, and whether it is of the program, is read from the switch now.
func (a *Agent) explain(ctx context.Context, steps []*api.TraceStep) ([]*api.TraceStep, error) {
	conn := a.switcher.connection()
	if conn == nil {
		return steps, nil
	}
	for _, s := range steps {
		found, err := flowsLike(ctx, conn, s)
		if err != nil {
			return nil, err
		}
		a.core.mu.Lock()
		a.core.explain(s, found)
		a.core.mu.Unlock()
	}
	return steps, nil
}

// met is a flow of the switch.
type met struct {
	key     flows.FlowKey
	timed   bool // it ends by itself
	packets uint64
}

// flowsLike are the flows with the table, the cookie and the priority of a step.
func flowsLike(ctx context.Context, conn *openflow.Conn, s *api.TraceStep) (out []met, err error) {
	r := openflow.EveryFlow()
	r.Table, r.Cookie, r.CookieMask = uint8(s.GetTable()), s.GetCookie(), ^uint64(0) //nolint:gosec // the switch's own number
	err = conn.EachFlow(ctx, r, func(v *openflow.FlowView) error {
		if uint32(v.Priority) == s.GetPriority() {
			out = append(out, met{flows.FlowKey{Table: flows.Table(v.Table), Priority: v.Priority, Match: string(v.Match)}, v.Idle != 0 || v.Hard != 0, v.Packets})
		}
		return nil
	})
	return out, err
}

// explain says of a step what it is there for. The caller holds the lock.
func (c *core) explain(s *api.TraceStep, found []met) {
	n := newNamer(c)
	k := flows.Cookie(s.GetCookie())
	if k.Class() != 0 {
		s.Kind, s.Object = n.what(k)
	}
	ours := 0
	for _, f := range found {
		if c.owns(f, k) {
			ours++
		}
		m, err := openflow.DecodeMatch(f.key.Match)
		if len(found) == 1 || err == nil && n.names.Match(m) == s.GetFlow() {
			s.Packets, s.Foreign = f.packets, !c.owns(f, k)
			return
		}
	}
	s.Foreign = len(found) > 0 && ours == 0
}

// owns says whether a flow is of the program, or one that a flow of the program has learned.
func (c *core) owns(f met, k flows.Cookie) bool {
	if f.timed {
		return f.key.Table == flows.TLearned && k.Class() != 0
	}
	_, ours := c.compiler.Flow(f.key)
	return ours
}
