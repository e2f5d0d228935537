package placement

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// promisedFor is how long a count of what is being made is used. The sites' own figures are older than that.
const promisedFor = time.Second

// promised is what servers need that Top accepted for each site and that the
// site does not count yet. It is counted once in promisedFor, and what this
// process decides meanwhile is added: a burst of creates costs one count, not one each.
type promised struct {
	index *index.Store
	now   func() time.Time

	mu      sync.Mutex // guards the fields below
	counted time.Time
	load    map[ident.SiteID]Load
}

func newPromised(idx *index.Store, now func() time.Time) *promised {
	return &promised{index: idx, now: now, load: map[ident.SiteID]Load{}}
}

// at returns what is promised at a site.
func (p *promised) at(ctx context.Context, site ident.SiteID) (Load, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.counted.IsZero() || now.Sub(p.counted) >= promisedFor {
		load, err := p.count(ctx)
		if err != nil {
			return Load{}, err
		}
		p.load, p.counted = load, now
	}
	return p.load[site], nil
}

// add counts a decision that is about to be recorded.
func (p *promised) add(site ident.SiteID, l Load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.load[site] = p.load[site].plus(l)
}

// count adds up the rows in state Creating. Their spec carries the figures of the flavor.
func (p *promised) count(ctx context.Context) (map[ident.SiteID]Load, error) {
	rows, err := p.index.Promises(ctx, sites.Server)
	sum := map[ident.SiteID]Load{}
	for _, r := range rows {
		var size struct {
			VCPUs int64 `json:"vcpus"`
			RAM   int64 `json:"ram"`
			Disk  int64 `json:"disk"`
		}
		if json.Unmarshal(r.Spec, &size) == nil {
			sum[r.Site] = sum[r.Site].plus(Load{Servers: 1, VCPUs: size.VCPUs, RAMMiB: size.RAM, DiskGiB: size.Disk})
		}
	}
	return sum, err
}

func (l Load) plus(m Load) Load {
	return Load{Servers: l.Servers + m.Servers, VCPUs: l.VCPUs + m.VCPUs, RAMMiB: l.RAMMiB + m.RAMMiB, DiskGiB: l.DiskGiB + m.DiskGiB}
}
