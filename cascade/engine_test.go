package cascade

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// The plain life of a server: made, seen, deleted, its quota taken and given back.
func TestMadeAndDeleted(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		r.run(0)
		r.one(row)
		if r.used() != 1 {
			t.Errorf("quota = %d", r.used())
		}
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// What a site refuses for good ends in an error that says why and where; it was made nowhere, and it can be deleted.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.site.decide(func(func() sites.Object) (sites.Object, error) {
			return sites.Object{}, &fault.Error{Op: "fake", Site: string(east), Kind: fault.BadRequest, Msg: "Invalid flavor.", RequestID: "req-site"}
		})
		row := r.create(sites.Server)
		r.run(time.Minute)
		got := r.row(row.ID)
		if got.State != index.Failed || got.Status != "ERROR" || got.Fault == nil || got.Fault.Message != "Invalid flavor." || got.Fault.Site != east || got.Fault.RequestID != "req-site" {
			t.Errorf("row = %s %s %+v", got.State, got.Status, got.Fault)
		}
		if _, creates := r.site.count(); creates != 1 {
			t.Errorf("the site was asked %d times", creates)
		}
		if b := r.bound(row.ID); b != nil && !b.AttemptedAt.IsZero() {
			t.Error("a definite refusal left the mark of an attempt")
		}
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// Answers get lost in every way; there is one server in the end, and a second create is sent only when the site has settled.
func TestLostAnswers(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, tt := range []struct {
			name    string
			made    bool          // before the answer was lost
			late    time.Duration // after which the site makes it all the same; 0 for never
			creates int
		}{
			{"made, answer lost", true, 0, 1},
			{"not made", false, 0, 2},
			{"made late", false, 15 * time.Second, 1},
		} {
			var keepLate func() sites.Object
			asked := 0
			r.site.set(func() { r.site.creates = 0 })
			r.site.decide(func(keep func() sites.Object) (sites.Object, error) {
				if asked++; asked > 1 {
					return keep(), nil
				}
				if tt.made {
					keep()
				}
				keepLate = keep
				return sites.Object{}, lost()
			})
			row := r.create(sites.Server)
			r.run(tt.late)
			if tt.late > 0 {
				keepLate()
			} else if !tt.made {
				r.run(15 * time.Second)
				if _, n := r.site.count(); n != 1 {
					t.Errorf("%s: %d creates before the site had settled", tt.name, n)
				}
			}
			r.run(30 * time.Second)
			if _, n := r.site.count(); n != tt.creates {
				t.Errorf("%s: %d creates, want %d", tt.name, n, tt.creates)
			}
			r.one(row)
			r.remove(row.ID)
			r.run(5 * time.Second)
			r.none(row)
		}
	})
}

// What is deleted while its create is undecided is looked for until the site has settled, also when the site is late.
func TestDeleteOfUnknown(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, late := range []bool{false, true} {
			var keepLate func() sites.Object
			r.site.decide(func(keep func() sites.Object) (sites.Object, error) {
				if keepLate = keep; !late {
					keep()
				}
				return sites.Object{}, lost()
			})
			row := r.create(sites.Server)
			r.run(0)
			r.remove(row.ID)
			r.run(10 * time.Second)
			if late {
				if got := r.row(row.ID); got.State != index.Deleting {
					t.Errorf("ended as %s while the site could still make it", got.State)
				}
				keepLate()
			}
			r.run(30 * time.Second)
			r.none(row)
		}
	})
}

// A worker that was away for longer than its claim comes back with a server of its own, while another replica has made
// and bound one: the late one goes. (It was left to the sweep when the other had not bound its own yet.)
func TestLateWorkerDeletesItsOwn(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		other := r.another()
		var row *index.Resource
		asked := 0
		r.site.decide(func(keep func() sites.Object) (sites.Object, error) {
			if asked++; asked > 1 {
				return keep(), nil
			}
			r.clock.step(time.Minute) // we stand still; our request is still on its way
			if _, err := other.Ensure(t.Context(), east, row.ID); err != nil {
				t.Errorf("the other replica: %v", err)
			}
			return keep(), nil
		})
		row = r.create(sites.Server)
		_, err := r.Ensure(t.Context(), east, row.ID)
		if !isWait(err) {
			t.Errorf("Ensure = %v, want a reason to come back", err)
		}
		r.run(5 * time.Second)
		r.one(row)
		if _, creates := r.site.count(); creates != 2 || len(r.site.deletes) != 1 {
			t.Errorf("%d creates, deleted %v", creates, r.site.deletes)
		}
	})
}

// A claim that is lost before the site is called is no fault of the resource: ErrLost is a Conflict, and made a
// server that another replica was making an error.
func TestLostClaimFailsNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		other := r.another()
		away := true
		var row *index.Resource
		r.maker.body = func(*index.Resource) (sites.Body, error) {
			if away {
				away = false
				r.clock.step(time.Minute)
				if _, err := other.Ensure(t.Context(), east, row.ID); err != nil {
					t.Errorf("the other replica: %v", err)
				}
			}
			return sites.Body{}, nil
		}
		row = r.create(sites.Server)
		r.run(5 * time.Second)
		r.one(row)
		if _, creates := r.site.count(); creates != 1 {
			t.Errorf("%d creates", creates)
		}
	})
}

// Only errors that prove that nothing was made clear the mark of an attempt. An error of our own was taken for a proof.
func TestSurelyNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{fault.New(fault.BadRequest, "", "no"), true},
		{fault.New(fault.OverQuota, "", "no"), true},
		{fault.New(fault.Unauthorized, "", "no"), true},
		{fault.New(fault.Unavailable, "", "no connection"), true},
		{lost(), false},
		{errors.New("ours"), false},
		{&WaitError{}, false},
		{binding.ErrLost, false},
	} {
		if got := surelyNothing(tt.err); got != tt.want {
			t.Errorf("surelyNothing(%v) = %t", tt.err, got)
		}
	}
	if !isWait(taken(binding.ErrLost)) {
		t.Error("a lost claim is not a reason to come back")
	}
}

// A row whose job gives up for a failure of our own says so. It stayed in BUILD for ever.
func TestOwnFailureEnds(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		broken := true
		r.maker.body = func(*index.Resource) (sites.Body, error) {
			if broken {
				return nil, errors.New("a bug")
			}
			return sites.Body{}, nil
		}
		row := r.create(sites.Server)
		for range 200 { // attempts are minutes apart
			r.clock.step(time.Minute)
			r.run(0)
		}
		if got := r.row(row.ID); got.State != index.Failed || got.Fault == nil || got.Fault.Message == "" {
			t.Errorf("row = %s %s %+v", got.State, got.Status, got.Fault)
		}
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// A bottom that is not found once is a suspicion, twice an end; between the two it may come back.
func TestMissingTwice(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		r.run(0)
		bottom := r.bound(row.ID).BottomID
		gone := &fault.Error{Site: string(east), Kind: fault.NotFound}
		look := func() (*index.Resource, error) { return r.Refresh(t.Context(), r.row(row.ID), east, bottom) }
		r.site.set(func() { r.site.showErr = gone })
		if got, err := look(); !isWait(err) || got.State != index.Live {
			t.Errorf("after one look: %s, %v", got.State, err)
		}
		r.site.set(func() { r.site.showErr = nil })
		if _, err := look(); err != nil || !r.row(row.ID).MissingSince.IsZero() {
			t.Errorf("found again: %v, missing since %v", err, r.row(row.ID).MissingSince)
		}
		r.site.set(func() { r.site.showErr = gone })
		for range 2 {
			if _, err := look(); !isWait(err) {
				t.Errorf("two looks at once: %v", err)
			}
		}
		r.clock.step(missingAfter)
		if got, err := look(); err != nil || got.State != index.Failed || got.Fault == nil || got.Fault.Site != east {
			t.Errorf("after the second look: %s %+v, %v", got.State, got.Fault, err)
		}
	})
}

// An account that lost its role is refused what it could see before. That made a server in BUILD an error; it is not forgotten, and goes on when the role is back.
func TestLostRoleForgetsNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.site.set(func() { r.site.status = "BUILD" })
		row := r.create(sites.Server)
		r.run(0)
		for _, kind := range []fault.Kind{fault.Forbidden, fault.Unauthorized} {
			r.site.set(func() { r.site.showErr = fault.New(kind, "fake", "Policy doesn't allow it.") })
			r.run(time.Minute)
			if got := r.row(row.ID); got.State != index.Live || got.Fault != nil {
				t.Errorf("%v: row = %s %+v", kind, got.State, got.Fault)
			}
		}
		r.site.set(func() {
			r.site.showErr = nil
			for _, o := range r.site.objects {
				o.Body["status"] = "ACTIVE"
			}
		})
		r.run(time.Minute)
		r.one(row)
	})
}

// Cinder refuses to delete a volume that it is creating; Top accepted the delete, and the volume became an error.
func TestDeleteWaitsForTheSite(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.site.set(func() { r.site.status = "creating" })
		row := r.create(sites.Volume)
		r.run(0)
		r.site.set(func() { r.site.refuse = fault.New(fault.BadRequest, "fake", "Volume status must be available.") })
		r.remove(row.ID)
		r.run(10 * time.Second)
		if got := r.row(row.ID); got.State != index.Deleting {
			t.Fatalf("row = %s %+v", got.State, got.Fault)
		}
		r.site.set(func() { r.site.refuse = nil })
		r.run(10 * time.Second)
		r.none(row)
	})
}

// A replica died after the site had accepted its delete of a volume; the next was refused, since the volume was being
// deleted, and it was gone when it looked why. The volume became an error, and stayed.
func TestDeleteRefusedForItsOwnEnd(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Volume)
		r.run(0)
		r.site.set(func() {
			r.site.refuse = fault.New(fault.BadRequest, "fake", "Volume status must be available.")
			clear(r.site.objects)
		})
		r.remove(row.ID)
		r.run(5 * time.Second)
		r.none(row)
	})
}

// A site's definite refusal of a delete puts the row back with the reason; it can be deleted again.
func TestDeleteRefused(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Volume)
		r.run(0)
		r.site.set(func() { r.site.refuse = fault.New(fault.Conflict, "fake", "It is in use.") })
		r.remove(row.ID)
		r.run(time.Second)
		if got := r.row(row.ID); got.State != index.Failed || got.Fault == nil || got.Fault.Message != "It is in use." || r.used() != 1 {
			t.Errorf("row = %s %+v, quota %d", got.State, got.Fault, r.used())
		}
		r.site.set(func() { r.site.refuse = nil })
		r.remove(row.ID)
		r.run(time.Second)
		r.none(row)
	})
}

// What somebody needed while it was being deleted was made after the delete had looked for bindings, and stayed at the site for ever.
func TestNeededWhileDeleted(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		group := index.New(sites.SecurityGroup, tenant, "g")
		group.State, group.Status = index.Live, "ACTIVE"
		if err := r.Commit(t.Context(), tenant, "", func(tx *Tx) error { group.Version = 0; return tx.Insert(group) }); err != nil {
			t.Fatal(err)
		}
		r.maker.needs = func(row *index.Resource) ([]ident.TopID, error) {
			if row.Kind == sites.SecurityGroup { // between the look at the row and the claim
				r.remove(group.ID)
			}
			return nil, nil
		}
		if _, err := r.Ensure(t.Context(), east, group.ID); !fault.Is(err, fault.Conflict) {
			t.Errorf("Ensure = %v, want a Conflict", err)
		}
		r.run(time.Second)
		r.none(group)
	})
}

// A change that was committed while a copy was being made found nothing to push to, and the copy stayed as it was.
func TestChangedWhileMade(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		group := index.New(sites.SecurityGroup, tenant, "old")
		group.State, group.Status = index.Live, "ACTIVE"
		if err := r.Commit(t.Context(), tenant, "", func(tx *Tx) error { group.Version = 0; return tx.Insert(group) }); err != nil {
			t.Fatal(err)
		}
		r.site.decide(func(keep func() sites.Object) (sites.Object, error) {
			err := r.Commit(t.Context(), tenant, "", func(tx *Tx) error {
				row, err := tx.Load(group.ID)
				if err != nil {
					return err
				}
				row.Name = "new"
				return tx.Changed(row)
			})
			if err != nil {
				t.Error(err)
			}
			r.run(0) // the job of the change
			return keep(), nil
		})
		bottom, err := r.Ensure(t.Context(), east, group.ID)
		if err != nil {
			t.Fatal(err)
		}
		obj, err := r.site.Show(t.Context(), sites.SecurityGroup, bottom)
		if err != nil || obj.Text("name") != "new" {
			t.Errorf("the copy is called %q, %v", obj.Text("name"), err)
		}
	})
}

// An observation counts only if its request began after the last verb was acknowledged.
func TestStaleObservations(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		r.run(0)
		at, err := r.At(t.Context(), row, east)
		if err != nil {
			t.Fatal(err)
		}
		observe := func(seen *index.Resource, status string) string {
			t.Helper()
			got, err := r.Observe(t.Context(), seen, at, sites.Object{ID: "b", Began: r.Now(), Body: sites.Body{"status": status}})
			if err != nil {
				t.Fatal(err)
			}
			return got.Status
		}
		before := r.row(row.ID)
		r.clock.step(time.Second)
		verb := Verb{
			Action: "server.stop",
			Begin:  func(_ *Tx, row *index.Resource) error { row.TaskState = "powering-off"; return nil },
			Call: func(_ context.Context, _ At, _ ident.BottomID) (sites.Reply, error) {
				if got := observe(r.row(row.ID), "SUSPENDED"); got != "ACTIVE" {
					t.Errorf("seen while the verb was outstanding: %s", got)
				}
				return sites.Reply{}, nil
			},
			Done: func(_ *Tx, row *index.Resource, _ sites.Reply) error { row.TaskState = ""; return nil },
		}
		if _, err := r.Run(t.Context(), tenant, row.ID, verb); err != nil {
			t.Fatal(err)
		}
		if got := observe(before, "ERROR"); got != "ACTIVE" {
			t.Errorf("a look from before the verb was stored: %s", got)
		}
		r.clock.step(time.Second)
		before = r.row(row.ID)
		if got := observe(r.row(row.ID), "SHUTOFF"); got != "SHUTOFF" {
			t.Errorf("a look from after the verb was not stored: %s", got)
		}
		if got := observe(before, "ACTIVE"); got != "SHUTOFF" {
			t.Errorf("an older look than the last was stored: %s", got)
		}
	})
}

// A verb that the site refuses leaves the status as it was; one whose answer is lost is decided by what the site shows once it has settled.
func TestVerbOutcomes(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		r.run(0)
		undone := false
		verb := Verb{
			Action: "server.reboot",
			Begin: func(_ *Tx, row *index.Resource) error {
				row.Status, row.TaskState = "REBOOT", "rebooting"
				return nil
			},
			Undo:   func(*Tx, *index.Resource) error { undone = true; return nil },
			Settle: true,
			Call: func(context.Context, At, ident.BottomID) (sites.Reply, error) {
				return sites.Reply{}, fault.New(fault.Conflict, "fake", "locked")
			},
		}
		if _, err := r.Run(t.Context(), tenant, row.ID, verb); !fault.Is(err, fault.Conflict) {
			t.Errorf("Run = %v", err)
		}
		if got := r.row(row.ID); got.Status != "ACTIVE" || got.TaskState != "" || got.Outstanding() || !undone {
			t.Errorf("after a refusal: %s %q, outstanding %t, undone %t", got.Status, got.TaskState, got.Outstanding(), undone)
		}
		verb.Call = func(context.Context, At, ident.BottomID) (sites.Reply, error) { return sites.Reply{}, lost() }
		if _, err := r.Run(t.Context(), tenant, row.ID, verb); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Run = %v", err)
		}
		if got := r.row(row.ID); got.Status != "REBOOT" || !got.Outstanding() {
			t.Errorf("without an answer: %s, outstanding %t", got.Status, got.Outstanding())
		}
		r.run(15 * time.Second)
		if got := r.row(row.ID); !got.Outstanding() {
			t.Error("decided before the site had settled")
		}
		r.run(15 * time.Second)
		if got := r.row(row.ID); got.Status != "ACTIVE" || got.Outstanding() {
			t.Errorf("in the end: %s, outstanding %t", got.Status, got.Outstanding())
		}
	})
}

// What a tenant cannot have is not recorded at all: no row, no job, no event.
func TestOverQuotaRecordsNothing(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		err := r.db.Write(t.Context(), func(tx dbschema.Tx) error {
			return r.Quota.SetLimits(tx, tenant.ProjectID, map[string]int64{"instances": 1})
		})
		if err != nil {
			t.Fatal(err)
		}
		r.create(sites.Server)
		second := index.New(sites.Server, tenant, "n")
		second.Site = east
		err = r.Commit(t.Context(), tenant, "create", func(tx *Tx) error {
			if err := tx.Insert(second); err != nil {
				return err
			}
			_, err := tx.Make(second)
			return err
		})
		if !fault.Is(err, fault.OverQuota) || r.used() != 1 {
			t.Errorf("Commit = %v, quota %d", err, r.used())
		}
		if _, err := r.Index.Get(t.Context(), second.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("the row: %v", err)
		}
		r.run(time.Second)
		if there, _ := r.site.count(); there != 1 {
			t.Errorf("%d servers", there)
		}
	})
}

// A project whose last resource is on its way out can be deleted: its tenant has deleted all that he had. (It was
// refused until the site had confirmed, which whoever deletes network and project in a row cannot wait for.)
func TestProjectGone(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		gone := func() error {
			return r.db.Write(t.Context(), func(tx dbschema.Tx) error { return r.ProjectGone(t.Context(), tx, tenant.ProjectID) })
		}
		if err := gone(); !fault.Is(err, fault.Conflict) {
			t.Errorf("with a server: %v, want a conflict", err)
		}
		r.run(0)
		r.remove(row.ID)
		if err := gone(); err != nil {
			t.Errorf("with a server on its way out: %v", err)
		}
		accounts := &releases{site: r.site}
		if err := NewProjectCleaner(r.Core, accounts).RegisterJobs(r.jobs); err != nil {
			t.Fatal(err)
		}
		r.run(time.Minute)
		r.none(row)
		if accounts.released != tenant.ProjectID || accounts.early {
			t.Errorf("released %q, while something was there: %t", accounts.released, accounts.early)
		}
	})
}

// releases are the accounts of one site; it notes whether the account went before what it had made.
type releases struct {
	site     *fakeSite
	released string
	early    bool
}

func (a *releases) Sites(context.Context) ([]registry.Site, error) {
	return []registry.Site{{Name: east}}, nil
}

func (a *releases) ReleaseProject(_ context.Context, _ ident.SiteID, project string) error {
	there, _ := a.site.count()
	a.released, a.early = project, there > 0
	return nil
}
