package cascade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Reviver puts in the job that follows a live row of its kind, where that is not the engine's own (an image that a site is filling).
type Reviver interface {
	// Revive reports whether it put one in; it does nothing for a row that needs none.
	Revive(tx *Tx, r *index.Resource) (bool, error)
}

const (
	// reviveEvery is how often rows are looked through.
	reviveEvery = 30 * time.Second
	// reviveAfter is how long a row must rest before it is looked at: what changes has somebody who changes it.
	reviveAfter = time.Minute
	// reviveTries is how many jobs in a row may end without success before the row says that it came to nothing. Each
	// has twenty attempts of its own (jobs.DefaultMaxAttempts).
	reviveTries = 3
	// reviveWait is how long after the first of them the next begins; it doubles with each, up to reviveMost.
	reviveWait = time.Minute
	reviveMost = time.Hour
	// revivePage bounds one read.
	revivePage = 200
)

// Reconciler keeps the promise that an accepted request ends done or in an error
// that says why also where the job was lost that should see to it: a job that
// ended with its last attempt while its process was killed, one that an operator
// cancelled, a row that came from a backup. It finds rows in transition that no
// job works on, and puts one in or writes why it gave up.
type Reconciler struct {
	core    *Core
	revived *prometheus.CounterVec
	idle    prometheus.Gauge
	again   map[ident.TopID]retry // of rows in state live; one pass at a time uses it
}

// retry is when a live row is due again, and how long was waited last.
type retry struct {
	at   time.Time
	wait time.Duration
}

// NewReconciler returns a Reconciler with its metrics registered.
func NewReconciler(core *Core, metrics prometheus.Registerer) (*Reconciler, error) {
	rc := &Reconciler{
		core: core, again: map[ident.TopID]retry{},
		revived: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_cascade_revived_total", Help: "Rows in transition that no job worked on, by kind and what was done."}, []string{"kind", "outcome"}),
		idle:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_cascade_without_job_count", Help: "Rows in transition that no job works on, as of the last pass."}),
	}
	return rc, errors.Join(metrics.Register(rc.revived), metrics.Register(rc.idle))
}

// Run looks through the rows until ctx ends. Several replicas may do so: who puts in a job looks in the same transaction whether there is one.
func (rc *Reconciler) Run(ctx context.Context) error {
	t := time.NewTicker(reviveEvery)
	defer t.Stop()
	for {
		if err := rc.Pass(ctx); err != nil && ctx.Err() == nil {
			rc.core.log.WarnContext(ctx, "rows without a job were not all looked at", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Pass looks through all rows once.
func (rc *Reconciler) Pass(ctx context.Context) error {
	var last index.Place
	var errs []error
	idle := 0
	maps.DeleteFunc(rc.again, func(_ ident.TopID, r retry) bool { return rc.core.Now().Sub(r.at) > reviveMost })
	for {
		page, err := rc.core.Index.Unsettled(ctx, rc.core.Now().Add(-reviveAfter), last, revivePage)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		resting, err := rc.resting(ctx, page)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, id := range resting {
			outcome, err := rc.look(ctx, id)
			if outcome != "" {
				idle++
			}
			errs = append(errs, err)
		}
		if len(page) < revivePage || ctx.Err() != nil {
			rc.idle.Set(float64(idle))
			return errors.Join(errs...)
		}
		last = page[len(page)-1]
	}
}

// resting returns the rows of a page that no job is for. Each is looked at again where a job is put in.
func (rc *Reconciler) resting(ctx context.Context, page []index.Place) ([]ident.TopID, error) {
	ids := make([]string, len(page))
	for i, p := range page {
		ids[i] = string(p.ID)
	}
	idle, err := jobs.NewStore(rc.core.DB).Idle(ctx, ids)
	out := make([]ident.TopID, len(idle))
	for i, id := range idle {
		out[i] = ident.TopID(id)
	}
	return out, err
}

// What a look can lead to; "" is that somebody works on the row, or that it needs nobody.
const (
	revived = "revived"
	gaveUp  = "gave_up"
	waits   = "waits"
)

func (rc *Reconciler) look(ctx context.Context, id ident.TopID) (string, error) {
	var outcome string
	var r *index.Resource
	err := rc.core.internal(ctx, func(tx *Tx) error {
		outcome = ""
		busy, err := jobs.Busy(tx.Tx, string(id))
		if err != nil || busy {
			return err
		}
		if r, err = tx.Load(id); err != nil {
			return ignoreNotFound(err)
		}
		switch r.State {
		case index.Creating:
			outcome, err = rc.pending(tx, r, createArgs{ID: id})
		case index.Deleting:
			outcome, err = rc.pending(tx, r, deleteArgs{ID: id})
		case index.Live:
			outcome, err = rc.live(tx, r)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("look at %s, which may have no job: %w", id, err)
	}
	if outcome == revived || outcome == gaveUp {
		rc.revived.WithLabelValues(string(r.Kind), outcome).Inc()
		rc.core.log.WarnContext(ctx, "row without a job was found", "site", r.Site, "kind", r.Kind, "top_id", id, "outcome", outcome, "state", r.State)
		if r.State == index.Live && outcome == revived {
			wait := min(max(2*rc.again[id].wait, reviveWait), reviveMost)
			rc.again[id] = retry{at: rc.core.Now().Add(wait), wait: wait}
		}
	}
	return outcome, nil
}

// pending puts in the job of a row that is to be made or ended, or ends it in an error when enough of them came to nothing.
func (rc *Reconciler) pending(tx *Tx, r *index.Resource, args jobs.Args) (string, error) {
	if r.State == index.Creating && r.Site == "" {
		return "", nil // made where it is needed first, by who needs it
	}
	ended, err := jobs.Fruitless(tx.Tx, string(r.ID), args.Kind())
	if err != nil {
		return "", err
	}
	n := len(ended)
	switch {
	case n > 0 && (n >= reviveTries || ended[0].State == jobs.Cancelled):
		return gaveUp, rc.giveUp(tx, r, ended)
	case n > 0 && rc.core.Now().Before(ended[0].EndedAt.Add(min(reviveWait<<(n-1), reviveMost))):
		return waits, nil
	}
	_, err = tx.enqueue(args, r, jobs.Options{ResourceID: string(r.ID)})
	return revived, err
}

// giveUp writes into the row that it came to nothing, and why. It can then be deleted, once more.
func (rc *Reconciler) giveUp(tx *Tx, r *index.Resource, ended []jobs.Record) error {
	verb := map[index.State]string{index.Creating: "made", index.Deleting: "deleted"}[r.State]
	why := fmt.Sprintf("The %s could not be %s: %d jobs ended without success; the operator finds the reason at job %d.", r.Kind, verb, len(ended), ended[0].ID)
	if ended[0].State == jobs.Cancelled {
		why = fmt.Sprintf("The %s was not %s: the operator cancelled job %d.", r.Kind, verb, ended[0].ID)
	}
	r.State, r.Status, r.TaskState = index.Failed, "ERROR", ""
	r.Fault = FaultOf(&fault.Error{Op: "cascade.Reconciler", Kind: fault.Unavailable, Msg: why}, rc.core.Now())
	if f, ok := rc.core.makers[r.Kind].(Failer); ok {
		f.Failed(r)
	}
	return tx.Save(r)
}

// live puts in the job that follows a row whose verb or state has not come to an end.
func (rc *Reconciler) live(tx *Tx, r *index.Resource) (string, error) {
	if again, ok := rc.again[r.ID]; ok && rc.core.Now().Before(again.at) {
		return waits, nil
	}
	m := rc.core.makers[r.Kind]
	if rv, ok := m.(Reviver); ok {
		if did, err := rv.Revive(tx, r); err != nil || did {
			return revived, err
		}
	}
	s, settles := m.(Settler)
	if !r.Outstanding() && (!settles || s.Settled(r)) {
		return "", nil
	}
	_, err := tx.enqueue(settleArgs{ID: r.ID, Verb: r.VerbNo}, r, jobs.Options{})
	return revived, err
}
