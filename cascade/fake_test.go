package cascade

import (
	"context"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const east ident.SiteID = "east"

var tenant = sites.Caller{UserID: "u", ProjectID: "p", RequestID: "req-1"}

// fakeSite is a cloud in memory whose next answers a test decides.
type fakeSite struct {
	now func() time.Time

	mu      sync.Mutex // guards the fields below
	objects map[ident.BottomID]*fakeObject
	creates int
	deletes []ident.BottomID
	// onCreate decides a create: it may call keep to have the site make the thing. Nil makes it and answers.
	onCreate func(keep func() sites.Object) (sites.Object, error)
	showErr  error // what Show answers while it is not nil
	refuse   error // what Delete answers while it is not nil
	status   string
}

type fakeObject struct {
	sites.Object
	kind   sites.Kind
	marker ident.TopID
}

func (f *fakeSite) Site() ident.SiteID { return east }

func (f *fakeSite) Account(context.Context) (sites.Account, error) { return sites.Account{}, nil }

func (f *fakeSite) Probe(context.Context) (sites.Capabilities, error) {
	return sites.Capabilities{}, nil
}

func (f *fakeSite) Create(ctx context.Context, kind sites.Kind, body sites.Body, o sites.CreateOptions) (sites.Object, error) {
	f.mu.Lock()
	f.creates++
	decide := f.onCreate
	f.mu.Unlock()
	keep := func() sites.Object { return f.keep(kind, body, o.Marker) }
	if err := ctx.Err(); err != nil {
		return sites.Object{}, fault.Wrap(fault.Unavailable, "fake", err)
	}
	if decide == nil {
		return keep(), nil
	}
	return decide(keep)
}

func (f *fakeSite) keep(kind sites.Kind, body sites.Body, marker ident.TopID) sites.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := &fakeObject{kind: kind, marker: marker, Object: sites.Object{ID: ident.BottomID(ident.NewUUID()), Body: maps.Clone(body)}}
	if o.Body == nil {
		o.Body = sites.Body{}
	}
	if f.status != "" {
		o.Body["status"] = f.status
	}
	f.objects[o.ID] = o
	return f.shown(o)
}

// shown is the object as of now. The caller holds the lock.
func (f *fakeSite) shown(o *fakeObject) sites.Object {
	return sites.Object{ID: o.ID, Body: maps.Clone(o.Body), Began: f.now()}
}

func (f *fakeSite) Show(_ context.Context, kind sites.Kind, id ident.BottomID) (sites.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.showErr != nil {
		return sites.Object{}, f.showErr
	}
	o, ok := f.objects[id]
	if !ok {
		return sites.Object{}, &fault.Error{Site: string(east), Kind: fault.NotFound, Msg: fmt.Sprintf("%s %s could not be found.", kind, id)}
	}
	return f.shown(o), nil
}

func (f *fakeSite) List(context.Context, sites.Kind, sites.Query, func(sites.Object) error) error {
	return nil
}

func (f *fakeSite) Update(_ context.Context, _ sites.Kind, id ident.BottomID, body sites.Body) (sites.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.objects[id].Body, body)
	return f.shown(f.objects[id]), nil
}

func (f *fakeSite) Delete(_ context.Context, _ sites.Kind, id ident.BottomID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	delete(f.objects, id)
	f.deletes = append(f.deletes, id)
	return nil
}

func (f *fakeSite) FindMarked(_ context.Context, kind sites.Kind, marker ident.TopID) ([]sites.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []sites.Object
	for _, o := range f.objects {
		if o.kind == kind && o.marker == marker {
			out = append(out, f.shown(o))
		}
	}
	return out, nil
}

func (f *fakeSite) Do(context.Context, sites.Request) (sites.Reply, error) { return sites.Reply{}, nil }

func (f *fakeSite) Upload(context.Context, ident.BottomID, io.Reader, int64) error { return nil }

func (f *fakeSite) Download(context.Context, ident.BottomID, int64) (io.ReadCloser, int64, error) {
	return nil, 0, nil
}

var _ sites.Adaptor = (*fakeSite)(nil)

// count is how many things are at the site, and of how many creates.
func (f *fakeSite) count() (there, creates int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.objects), f.creates
}

// decide has the next creates decided by d.
func (f *fakeSite) decide(d func(keep func() sites.Object) (sites.Object, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onCreate = d
}

// set changes a field of the site under its lock.
func (f *fakeSite) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// directory has one site.
type directory struct{ site sites.Adaptor }

func (d directory) Admin(context.Context, ident.SiteID) (sites.Adaptor, error) { return d.site, nil }

func (d directory) Tenant(context.Context, ident.SiteID, string) (sites.Adaptor, error) {
	return d.site, nil
}

// fakeMaker makes things of any kind: it needs what a test says, counts one "instances" each, and rests in any status but BUILD.
type fakeMaker struct {
	needs func(r *index.Resource) ([]ident.TopID, error)
	body  func(r *index.Resource) (sites.Body, error)
}

func (m *fakeMaker) Needs(_ context.Context, r *index.Resource, _ ident.SiteID) ([]ident.TopID, error) {
	if m.needs == nil {
		return nil, nil
	}
	return m.needs(r)
}

func (m *fakeMaker) Body(_ context.Context, r *index.Resource, _ At) (sites.Body, error) {
	if m.body == nil {
		return sites.Body{"name": r.Name}, nil
	}
	return m.body(r)
}

func (m *fakeMaker) Settled(r *index.Resource) bool { return r.Status != "BUILD" }

func (m *fakeMaker) Usage(*index.Resource) map[string]int64 { return map[string]int64{"instances": 1} }

// rig is an engine on one database over the fake site.
type rig struct {
	*Core
	t     *testing.T
	db    *dbschema.DB
	site  *fakeSite
	maker *fakeMaker
	jobs  *jobs.Engine
	clock *stepper
}

// stepper moves the engine's and the database's clock together.
type stepper struct {
	db    dbtest.Clock
	ahead atomic.Int64
}

func (s *stepper) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *stepper) step(d time.Duration) {
	s.ahead.Add(int64(d))
	s.db.Step(d)
}

// each runs f with a rig on SQLite and on PostgreSQL.
func each(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	for _, driver := range []string{dbschema.SQLite, dbschema.Postgres} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			clock := &stepper{}
			open := dbtest.SQLite
			if driver == dbschema.Postgres {
				open = dbtest.Postgres
			}
			f(t, newRig(t, open(t, clock.db.Option), clock))
		})
	}
}

func newRig(t *testing.T, db *dbschema.DB, clock *stepper) *rig {
	t.Helper()
	r := &rig{t: t, db: db, clock: clock, maker: &fakeMaker{}, jobs: jobtest.New(t, db)}
	r.site = &fakeSite{now: clock.now, objects: map[ident.BottomID]*fakeObject{}, status: "ACTIVE"}
	r.Core = r.another()
	if err := r.RegisterJobs(r.jobs); err != nil {
		t.Fatal(err)
	}
	return r
}

// another returns a second engine on the same database and site, as another replica has.
func (r *rig) another() *Core { return r.anotherAt(r.clock.now) }

// anotherAt is another with a clock of its own.
func (r *rig) anotherAt(now func() time.Time) *Core {
	c := New(Config{
		DB: r.db, Index: index.NewStore(r.db, now), Bindings: binding.NewStore(r.db, now), Quota: quota.NewStore(r.db), Audit: audit.NewStore(r.db, now),
		Directory: directory{r.site}, Log: testLog(r.t), Now: now, CallTimeout: 10 * time.Second, SettleTime: 20 * time.Second,
	})
	for _, k := range []sites.Kind{sites.Server, sites.SecurityGroup, sites.Volume} {
		c.Register(k, r.maker)
	}
	return c
}

// create commits a row that is to be made at the site, and its job.
func (r *rig) create(kind sites.Kind) *index.Resource {
	r.t.Helper()
	row := index.New(kind, tenant, "n")
	row.Site, row.Status = east, "BUILD"
	err := r.Commit(r.t.Context(), tenant, "create", func(tx *Tx) error {
		row.Version = 0
		if err := tx.Insert(row); err != nil {
			return err
		}
		_, err := tx.Make(row)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return row
}

// remove commits the delete of a row, and its job.
func (r *rig) remove(id ident.TopID) {
	r.t.Helper()
	err := r.Commit(r.t.Context(), tenant, "delete", func(tx *Tx) error {
		row, err := tx.Load(id)
		if err != nil {
			return err
		}
		return tx.Delete(row)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// run works what is due, steps the clock and goes on, until d has gone by.
func (r *rig) run(d time.Duration) {
	r.t.Helper()
	const step = time.Second
	for gone := time.Duration(0); ; gone += step {
		jobtest.Drain(r.t, r.jobs)
		if gone >= d {
			return
		}
		r.clock.step(step)
	}
}

func (r *rig) row(id ident.TopID) *index.Resource {
	r.t.Helper()
	row, err := r.Index.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return row
}

func (r *rig) bound(id ident.TopID) *binding.Binding {
	r.t.Helper()
	b, err := r.Bindings.Get(r.t.Context(), id, east)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rig) used() int64 {
	r.t.Helper()
	f, err := r.Quota.Figures(r.t.Context(), tenant.ProjectID)
	if err != nil {
		r.t.Fatal(err)
	}
	return f["instances"].Used
}

// one fails the test unless exactly one thing is at the site and it is the row's, which lives.
func (r *rig) one(row *index.Resource) {
	r.t.Helper()
	there, creates := r.site.count()
	now, b := r.row(row.ID), r.bound(row.ID)
	if there != 1 || now.State != index.Live || now.Status != "ACTIVE" || !b.Known() {
		r.t.Errorf("%d at the site after %d creates; row %s %s %+v; binding %+v", there, creates, now.State, now.Status, now.Fault, b)
		return
	}
	if _, err := r.site.Show(r.t.Context(), row.Kind, b.BottomID); err != nil {
		r.t.Errorf("bound to %s: %v", b.BottomID, err)
	}
}

// none fails the test unless the row has ended and nothing is left of it.
func (r *rig) none(row *index.Resource) {
	r.t.Helper()
	there, _ := r.site.count()
	now := r.row(row.ID)
	if there != 0 || now.State != index.Deleted || r.bound(row.ID) != nil || r.used() != 0 {
		r.t.Errorf("%d at the site; row %s %+v; binding %+v; quota %d", there, now.State, now.Fault, r.bound(row.ID), r.used())
	}
}

func lost() error {
	return &fault.Error{Op: "fake", Site: string(east), Kind: fault.Ambiguous, Msg: "no answer"}
}
