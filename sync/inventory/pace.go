package inventory

import (
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// What a site cannot filter by time is listed whole, which at 10,000 ports takes
// a second: with every poll, ten such sites would keep a core busy. So lists that
// take longer than freeList have a pause that makes them one part in restShare of
// the time. Verbs do not wait for it: they look at their resource by its id.
const (
	freeList  = 100 * time.Millisecond
	restShare = 50
)

// pace remembers when the kinds that a site lists whole are due again. It is of
// this process alone: after a restart, or at another replica, everything is due.
type pace struct {
	now func() time.Time
	mu  sync.Mutex // guards due
	due map[paced]time.Time
}

// paced is one kind as one account of a site sees it.
type paced struct {
	site    ident.SiteID
	kind    sites.Kind
	account int
}

func newPace(now func() time.Time) *pace { return &pace{now: now, due: map[paced]time.Time{}} }

// ready reports whether it is time for a list.
func (p *pace) ready(what paced) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.now().Before(p.due[what])
}

// took says how long a list took, and so when the next is due: within longest.
func (p *pace) took(what paced, elapsed, longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due[what] = p.now().Add(min(max(elapsed-freeList, 0)*restShare, longest))
}
