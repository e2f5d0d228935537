package cascade

import (
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
	g.Go(func() error {
		defer cancel() // ends the heartbeat
		var err error
		obj, err = create(beat)
		return err
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
	err := g.Wait()
	return obj, err
}
