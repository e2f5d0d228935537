package cascade

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/sites"
)

// held runs a create that may take longer than a lease (an image's bytes) while
// extending the claim; when the claim is lost, the create's context ends.
func (c *Core) held(ctx context.Context, claim *binding.Claim, create func(context.Context) (sites.Object, error)) (sites.Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, beat := errgroup.WithContext(ctx)
	var obj sites.Object
	var failed error
	g.Go(func() error {
		defer cancel() // ends the heartbeat
		obj, failed = create(beat)
		return nil
	})
	g.Go(func() error {
		tick := time.NewTicker(c.lease() / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := claim.Extend(ctx, c.lease()); err != nil && ctx.Err() == nil {
					return fmt.Errorf("hold claim of %s: %w", claim.TopID, err)
				}
			}
		}
	})
	// The loss of the claim comes first: the create's own error, then, only says that its context ended.
	return obj, cmp.Or(g.Wait(), failed)
}
