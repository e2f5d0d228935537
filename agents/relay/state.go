package relay

import (
	"maps"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/sites/fault"
)

var _ trace.Asker = (*Server)(nil)

// State is all of the site that is held now, in a store of its own. Objects that cannot be read are left out, as from every host's part.
func (s *Server) State() (*state.Store, error) {
	s.mu.Lock()
	held, incarnation := slices.Collect(maps.Values(s.objects)), s.incarnation
	s.mu.Unlock()
	if incarnation == "" {
		return nil, fault.New(fault.Unavailable, "", "nothing has come from above yet")
	}
	objects := make([]state.Object, 0, len(held))
	for _, o := range held {
		if p, err := o.Parse(); err == nil {
			objects = append(objects, p)
		}
	}
	out := state.NewStore()
	out.Apply(objects, nil)
	return out, nil
}
