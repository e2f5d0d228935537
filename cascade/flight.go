package cascade

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// shareWait is how long somebody waits for another of this process who is making what he needs, before he comes back
// later. An image's copy takes minutes: all servers that wait for it would keep the site's jobs from any other work.
const shareWait = 2 * time.Second

// inFlight runs ensure once for all who ask for the same pair at the same time, in the context of the first.
// Shared says that the error may be another's.
func (c *Core) inFlight(ctx context.Context, site ident.SiteID, id ident.TopID) (bottom ident.BottomID, shared bool, err error) {
	leads := make(chan struct{})
	answer := c.flight.DoChan(string(site)+"/"+string(id), func() (any, error) {
		close(leads)
		return c.guarded(ctx, site, id)
	})
	wait := time.NewTimer(shareWait)
	defer wait.Stop()
	var done singleflight.Result
	select {
	case done = <-answer:
	case <-leads:
		done = <-answer // it runs in our context and must not outlive us
	case <-ctx.Done():
		return c.leave(ctx.Err(), leads, answer)
	case <-wait.C:
		return c.leave(&WaitError{After: maxPoll, For: fmt.Sprintf("%s at site %s, which another request is making", id, site)}, leads, answer)
	}
	bottom, _ = done.Val.(ident.BottomID)
	return bottom, done.Shared, done.Err
}

// leave gives up waiting for another with err, unless it is we who lead: both can come about at the same time.
func (c *Core) leave(err error, leads <-chan struct{}, answer <-chan singleflight.Result) (ident.BottomID, bool, error) {
	select {
	case <-leads:
		done := <-answer
		bottom, _ := done.Val.(ident.BottomID)
		return bottom, done.Shared, done.Err
	default:
		return "", false, err
	}
}

// guarded is ensure with a panic turned into an error: in the goroutine that it runs in nobody else could catch it.
func (c *Core) guarded(ctx context.Context, site ident.SiteID, id ident.TopID) (bottom ident.BottomID, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.ErrorContext(ctx, "making panicked", "site", site, "top_id", id, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "cascade.Ensure", "panic while making %s", id)
		}
	}()
	return c.ensure(ctx, site, id)
}
