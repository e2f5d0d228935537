package cascade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// PurgeKind is the kind of the jobs that purge sites.
const PurgeKind = "cascade.purge"

// PurgeResource is the resource by which a site's purge is found among the jobs.
func PurgeResource(site ident.SiteID) string { return "site/" + string(site) }

type purgeArgs struct {
	Site ident.SiteID `json:"site"`
}

// Kind names the job.
func (purgeArgs) Kind() string { return PurgeKind }

// purgeStages is the order in which kinds go, users before what they use.
func purgeStages() [][]sites.Kind {
	return [][]sites.Kind{
		{sites.Server}, {sites.FloatingIP, sites.Snapshot, sites.Backup}, {sites.Volume, sites.Port}, {sites.Router}, {sites.Subnet}, {sites.Network},
	}
}

const (
	// purgePoll is how often is looked whether what ends with a project or a site has ended.
	purgePoll = 2 * time.Second
	// purgeRounds is how often what a site refuses to delete is asked for in one purge, 1, 2, 4 and 8 s apart (the job's
	// attempts): long enough for a site that was still busy with the thing, short enough for an operator who waits.
	purgeRounds = 5
	// purgeBatch is how many deletes are recorded in one transaction: nobody else writes meanwhile.
	purgeBatch = 100
	// purgePatience is how long a purge waits for a site that does not answer, or that goes on deleting, in all.
	purgePatience = 24 * time.Hour
	// purgeNamed is how many of the things that remain are named one by one.
	purgeNamed = 10
)

type purgeWorker struct{ *SiteRemover }

// Work deletes one stage after the other, then the copies that the site has of what lives at several, then the site.
//
// What the site refuses does not hold up the rest. When all else is gone the attempt fails with what remains and why, and the next
// asks again for that alone; after the last one the job is failed, the site stays in state removing, and the operator purges again or keeps what is left.
func (w purgeWorker) Work(ctx context.Context, job jobs.Job[purgeArgs]) error {
	site := job.Args.Site
	going, err := w.rows.Removing(ctx, site)
	if err != nil || !going {
		return err // another purge was faster, or the operator chose to keep what is there
	}
	began, err := w.round(ctx, job.Info)
	if err != nil {
		return err
	}
	var refused []string
	for _, kinds := range purgeStages() {
		stage, err := w.deleteStage(ctx, site, kinds, began)
		if err != nil {
			return err
		}
		if stage.going > 0 {
			return w.wait(job.Info, pollAfter(w.core.now(), began), fmt.Sprintf("%d of kind %s are still being deleted there", stage.going, texts(kinds, " or ")))
		}
		refused = append(refused, stage.refused...)
	}
	more, err := w.deleteCopies(ctx, site)
	if err != nil {
		return w.later(job.Info, err)
	}
	if refused = append(refused, more...); len(refused) > 0 {
		return remain(site, refused)
	}
	if err := w.core.DB.Write(ctx, func(tx dbschema.Tx) error { return w.Forget(ctx, tx, site) }); err != nil {
		return err
	}
	return w.later(job.Info, w.rows.Drop(ctx, site))
}

// round is when the present attempt began: what the site refused since is not asked for again in it.
func (w purgeWorker) round(ctx context.Context, job jobs.Info) (time.Time, error) {
	record, err := jobs.NewStore(w.core.DB).Show(ctx, job.ID)
	if err != nil {
		return time.Time{}, err
	}
	if n := len(record.Errors); n > 0 && record.Errors[n-1].At.After(job.CreatedAt) {
		return record.Errors[n-1].At, nil
	}
	return job.CreatedAt, nil
}

// wait comes back later at no cost of an attempt, until patience ends.
func (w purgeWorker) wait(job jobs.Info, after time.Duration, what string) error {
	if w.core.now().Sub(job.CreatedAt) > purgePatience {
		return jobs.Cancel(fault.New(fault.Unavailable, "cascade.purge", "gave up after %v: %s", purgePatience, what))
	}
	return jobs.Snooze(after)
}

// later is outcome with the purge's patience.
func (w purgeWorker) later(job jobs.Info, err error) error {
	if err == nil || definite(err) || fault.Is(err, fault.Internal) {
		return w.core.outcome(err, job.CreatedAt)
	}
	return w.wait(job, max(siteWait(w.core.now(), job.CreatedAt), purgePoll), fault.Message(err))
}

// remain says what a site did not delete. Its kind lets the job try again.
func remain(site ident.SiteID, what []string) error {
	text := strings.Join(what[:min(len(what), purgeNamed)], "; ")
	if n := len(what) - purgeNamed; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return &fault.Error{Op: "cascade.purge", Site: string(site), Kind: fault.Unavailable, Msg: fmt.Sprintf("site %s did not delete %d of what Top made there: %s", site, len(what), text)}
}

// stage is how far the purge of some kinds has come.
type stage struct {
	going   int      // are being deleted
	refused []string // what the site refused in this round, and why
}

// deleteStage has all rows of some kinds at the site deleted.
func (w purgeWorker) deleteStage(ctx context.Context, site ident.SiteID, kinds []sites.Kind, began time.Time) (stage, error) {
	var out stage
	for _, kind := range kinds {
		rows, err := w.core.Index.List(ctx, index.Query{Kind: kind, AllProjects: true, Shared: true, Hidden: true, Bare: true, In: map[index.Field][]string{index.BySite: {string(site)}},
			Sort: []index.Sort{{Field: index.ByCreated}}})
		if err != nil {
			return out, err
		}
		// What was asked for is not loaded again with each poll, by the hundred in the one transaction that may write.
		open := slices.DeleteFunc(slices.Clone(rows), func(r *index.Resource) bool { return r.State == index.Deleting })
		out.going += len(rows) - len(open)
		for batch := range slices.Chunk(open, purgeBatch) {
			var part stage
			if err := w.core.internal(ctx, func(tx *Tx) error {
				part = stage{}
				return part.ask(tx, batch, began)
			}); err != nil {
				return out, err
			}
			out.going += part.going
			out.refused = append(out.refused, part.refused...)
		}
	}
	return out, nil
}

// ask records the deletes of rows that were not refused in this round.
func (s *stage) ask(tx *Tx, rows []*index.Resource, began time.Time) error {
	for _, r := range rows {
		r, err := tx.Load(r.ID) // the end of an earlier row may have ended this one
		if err != nil {
			return err
		}
		switch {
		case r.State == index.Deleted:
			continue
		case r.State == index.Failed && r.Fault != nil && !r.Fault.At.Before(began):
			s.refused = append(s.refused, named(r)+": "+r.Fault.Message)
			continue
		case r.State != index.Deleting:
			if err := tx.delete(r, true); err != nil {
				return err
			}
		}
		if r.State != index.Deleted {
			s.going++
		}
	}
	return nil
}

// named is how a row is called in the report.
func named(r *index.Resource) string {
	if r.Name == "" {
		return fmt.Sprintf("%s %s", r.Kind, r.ID)
	}
	return fmt.Sprintf("%s %s (%s)", r.Kind, r.ID, r.Name)
}

// deleteCopies deletes what the site has of things that live at several, and says what it refused. Its error is what to wait for.
func (w purgeWorker) deleteCopies(ctx context.Context, site ident.SiteID) (refused []string, waits error) {
	for _, kind := range []sites.Kind{sites.SecurityGroup, sites.ServerGroup, sites.Keypair, sites.Image, sites.Flavor, sites.VolumeType} {
		bound, err := w.core.Bindings.OfSite(ctx, site, kind)
		if err != nil {
			return nil, err
		}
		for _, b := range bound {
			what, err := w.deleteCopy(ctx, b)
			switch {
			case err == nil:
			case definite(err) && !isWait(err):
				refused = append(refused, what+": "+fault.Message(err))
			default:
				waits = err
			}
		}
	}
	return refused, waits
}

func (w purgeWorker) deleteCopy(ctx context.Context, b *binding.Binding) (string, error) {
	r, err := w.core.Index.Get(ctx, b.TopID)
	if err != nil {
		return string(b.TopID), ignoreNotFound(err)
	}
	return named(r), w.core.removeOne(ctx, r, b)
}

// texts joins kinds.
func texts(kinds []sites.Kind, between string) string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = string(k)
	}
	return strings.Join(out, between)
}
