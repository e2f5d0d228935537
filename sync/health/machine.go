package health

import (
	"time"

	"github.com/headwater-cloud/headwater/sites/registry"
)

// The thresholds: how many findings in a row turn a state. Getting worse takes
// fewer, because what is placed on a dead site is lost time for a tenant;
// getting better takes more, so that a site that comes and goes stays marked.
const (
	WorseAfter  = 2
	BetterAfter = 3
)

// Finding is what one check says.
type Finding struct {
	State  registry.HealthState // Up, Degraded or Down
	Reason string               // "" when Up
}

// Track is the debounced state of a site and how far it is on the way to another.
type Track struct {
	State  registry.HealthState
	Reason string
	Since  time.Time
	// Run counts the findings in a row that were all worse (Worse) or all better than State.
	Run   int
	Worse bool
	// Lead is where the run leads: the least change that all its findings agree on.
	Lead Finding
}

// severity orders the states.
func severity(s registry.HealthState) int {
	switch s {
	case registry.Degraded:
		return 1
	case registry.Down:
		return 2
	default:
		return 0
	}
}

// Next returns the track after one more finding, and whether State changed. It
// is pure. A site of unknown state takes the first finding as it is.
func (t Track) Next(f Finding, now time.Time) (Track, bool) {
	if t.State != registry.Up && t.State != registry.Degraded && t.State != registry.Down {
		return Track{State: f.State, Reason: f.Reason, Since: now}, true
	}
	if f.State == t.State {
		return Track{State: t.State, Reason: f.Reason, Since: t.Since}, false
	}
	worse := severity(f.State) > severity(t.State)
	switch {
	case t.Run == 0 || t.Worse != worse:
		t.Run, t.Worse, t.Lead = 1, worse, f
	case nearer(f, t.Lead, worse):
		t.Run, t.Lead = t.Run+1, f
	default:
		t.Run++
	}
	need := BetterAfter
	if worse {
		need = WorseAfter
	}
	if t.Run < need {
		return t, false
	}
	return Track{State: t.Lead.State, Reason: t.Lead.Reason, Since: now}, true
}

// nearer reports whether f is at most as far from the present state as the lead: the milder of worse ones, the worse of better ones.
func nearer(f, lead Finding, worse bool) bool {
	if worse {
		return severity(f.State) <= severity(lead.State)
	}
	return severity(f.State) >= severity(lead.State)
}
