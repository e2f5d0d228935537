package cascade

import (
	"context"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Maker knows how one kind of top resource becomes a bottom resource. Its
// methods may run more than once and must not keep memory between runs.
// The other interfaces of this file are optional powers, found by assertion.
type Maker interface {
	// Needs returns what must exist at the site before the row can: each is ensured first, in this order.
	Needs(ctx context.Context, r *index.Resource, site ident.SiteID) ([]ident.TopID, error)
	// Body returns what to send to make the row at the site, references translated with at.Bottom.
	Body(ctx context.Context, r *index.Resource, at At) (sites.Body, error)
}

// Adopter maps a row onto something that is at the site already (a flavor of
// equal size, a volume type of the same name) instead of making it.
type Adopter interface {
	// Adopt returns the id to bind, or "" to go on and create.
	Adopt(ctx context.Context, r *index.Resource, at At) (ident.BottomID, error)
}

// Creator replaces the plain Adaptor.Create, for kinds that take more than one call to exist (an image and its bytes).
type Creator interface {
	// Create makes and marks the row's bottom. It is not called while an earlier attempt is undecided.
	Create(ctx context.Context, r *index.Resource, at At, body sites.Body) (sites.Object, error)
}

// Elevator says as whom the bottom of a row is made. Without it that is the row's project.
type Elevator interface {
	// Session returns at.Adaptor or, for a body that an ordinary member of the site may not send, the site's
	// administrator; it then writes into body to whom the bottom belongs. It is called before anything is sent.
	Session(ctx context.Context, r *index.Resource, at At, body sites.Body) (sites.Adaptor, error)
}

// Finisher does what belongs to a bottom after it is bound and before the row counts as made: a router's
// interfaces, a group's rules. It is repeated until it succeeds.
type Finisher interface {
	Finish(ctx context.Context, r *index.Resource, at At, bottom ident.BottomID) error
}

// Changer pushes a changed Spec to a bottom that is there; without it the kind's Body is sent by Adaptor.Update.
type Changer interface {
	Change(ctx context.Context, r *index.Resource, at At, bottom ident.BottomID) error
}

// Remover prepares or replaces the delete of a bottom.
type Remover interface {
	// Remove does everything up to the end of the bottom; with done true the plain Adaptor.Delete is left out.
	Remove(ctx context.Context, r *index.Resource, at At, bottom ident.BottomID) (done bool, err error)
}

// Observer turns what a site showed into what Top stores. Kinds without it only get Status and the body with "id" replaced.
type Observer interface {
	// Observe changes r (Status, TaskState, Fault, Observed, ObservedAdmin, LaunchedAt, ...) by obj, references translated to Top ids.
	Observe(ctx context.Context, r *index.Resource, at At, obj sites.Object) error
}

// Reckoner does, in the transaction that stores an observation, what follows
// from it beyond the row itself: quota, references.
type Reckoner interface {
	// Reckon sees the row as it was and as it will be saved; it is called when the two differ.
	Reckon(tx *Tx, before, after *index.Resource) error
}

// Settler tells transitional states from final ones: a row that is not settled is polled by id until it is.
type Settler interface {
	Settled(r *index.Resource) bool
}

// Decider finds out, for verbs whose answers were lost, what came of them at the site beyond the row itself.
type Decider interface {
	// Open reports whether verbs up to a number left anything to find out.
	Open(r *index.Resource, verb int64) bool
	// Decide looks. Sure says that the verb was carried out, so that nothing has to be waited for; commit, which is called
	// once the verb is decided, writes what was found, or that it never came.
	Decide(ctx context.Context, r *index.Resource, at At, verb int64) (sure bool, commit func(tx *Tx, r *index.Resource) error, err error)
}

// Ender does, within the transaction that ends a row, what must end with it: release addresses, free the quota of
// what it held, enqueue the delete of what was made for it.
type Ender interface {
	End(tx *Tx, r *index.Resource) error
}

// Usage is what a row takes of its project's quota, reserved by Tx.Insert and released when it ends.
type Usage interface {
	Usage(r *index.Resource) map[string]int64
}

// Arriver is told, within the transaction, that Tx.Place gave a row its site: what is placed is mostly made there (Tx.Make).
type Arriver interface {
	Arrived(tx *Tx, r *index.Resource) error
}

// Failer says how a row looks after its create failed for good. Without it the status becomes "ERROR".
type Failer interface {
	Failed(r *index.Resource)
}

// Timing of polls and waits. A row in transition is polled after minPoll, then
// at half of the time that it has been in transition, at most maxPoll apart.
const (
	minPoll = 300 * time.Millisecond
	maxPoll = 5 * time.Second
	// heldWait is how long to stay away from a pair that another worker is making.
	heldWait = 500 * time.Millisecond
)

// pollAfter is when to look again at something that began to change at since.
func pollAfter(now, since time.Time) time.Duration {
	return min(max(now.Sub(since)/2, minPoll), maxPoll)
}

// lease is how long a binding's claim must last: the site call, what comes before and after it, and a margin.
func (c *Core) lease() time.Duration { return c.timeout + c.timeout/2 + 5*time.Second }
