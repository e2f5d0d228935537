package cascade

import (
	"context"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A verb whose answer came after that of a later one (a reboot, and a lock meanwhile) left the moment of its answer
// unnoted: a look from before it counted, and a client that waited for the reboot saw ACTIVE at once.
func TestOvertakenVerb(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Server)
		r.run(0)
		at, err := r.At(t.Context(), row, east)
		if err != nil {
			t.Fatal(err)
		}
		var stale *index.Resource
		reboot := Verb{
			Action: "server.reboot", Settle: true,
			Begin: func(_ *Tx, r *index.Resource) error { r.Status = "REBOOT"; return nil },
			Call: func(ctx context.Context, _ At, _ ident.BottomID) (sites.Reply, error) {
				lock := Verb{Action: "server.lock", Call: func(context.Context, At, ident.BottomID) (sites.Reply, error) { return sites.Reply{}, nil }}
				if _, err := r.Run(ctx, tenant, row.ID, lock); err != nil {
					return sites.Reply{}, err
				}
				r.clock.step(time.Second)
				stale = r.row(row.ID)
				// Both verbs count as answered now, so this is stored.
				_, err := r.Observe(ctx, stale, at, sites.Object{ID: "b", Began: r.Now(), Body: sites.Body{"status": "ACTIVE"}})
				r.clock.step(time.Second)
				return sites.Reply{}, err
			},
		}
		if _, err := r.Run(t.Context(), tenant, row.ID, reboot); err != nil {
			t.Fatal(err)
		}
		if got := r.row(row.ID); got.Status != "REBOOT" {
			t.Errorf("status right after the reboot was accepted = %s, want REBOOT", got.Status)
		}
		got, err := r.Observe(t.Context(), stale, at, sites.Object{ID: "b", Began: r.Now(), Body: sites.Body{"status": "ACTIVE"}})
		if err != nil || got.Status != "REBOOT" {
			t.Errorf("after a look from before the answer: %s, %v; want REBOOT", got.Status, err)
		}
	})
}

// several gives each site an adaptor of its own.
type several map[ident.SiteID]*fakeSite

func (s several) Admin(_ context.Context, site ident.SiteID) (sites.Adaptor, error) {
	if s[site] == nil {
		return nil, &fault.Error{Op: "several", Site: string(site), Kind: fault.Unavailable, Msg: "down"}
	}
	return s[site], nil
}

func (s several) Tenant(ctx context.Context, site ident.SiteID, _ string) (sites.Adaptor, error) {
	return s.Admin(ctx, site)
}

// One site's refusal of a change ended the job, and a second site, which was
// down at the time, kept for ever what had been taken away: an open port of a security group.
func TestRefusalDoesNotHideAnotherSite(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		all := several{east: r.site}
		now := r.clock.now
		c := New(Config{
			DB: r.db, Index: index.NewStore(r.db, now), Bindings: binding.NewStore(r.db, now), Quota: quota.NewStore(r.db), Audit: audit.NewStore(r.db, now),
			Directory: all, Log: testLog(t), Now: now,
		})
		c.Register(sites.SecurityGroup, r.maker)
		group := index.New(sites.SecurityGroup, tenant, "g")
		group.State = index.Live
		err := c.Commit(t.Context(), tenant, "", func(tx *Tx) error {
			group.Version, group.Generation = 0, 2
			for _, site := range []ident.SiteID{east, "west"} {
				if err := c.Bindings.Adopt(tx.Tx, binding.Binding{TopID: group.ID, Site: site, Kind: group.Kind, BottomID: "b", Generation: 1}); err != nil {
					return err
				}
			}
			return tx.Insert(group)
		})
		if err != nil {
			t.Fatal(err)
		}
		r.maker.body = func(*index.Resource) (sites.Body, error) {
			return nil, fault.New(fault.Conflict, "fake", "east refuses")
		}
		if err := c.Push(t.Context(), group); definite(err) || !fault.Is(err, fault.Unavailable) {
			t.Errorf("Push = %v: it would end the job while west does not know of the change", err)
		}
	})
}

// A site's own ids are no world-wide ones: two sites' flavors are both called "1". Whoever asked west for its "1" got east's.
func TestBottomIDOfThePinnedSite(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		rows := map[ident.SiteID]*index.Resource{}
		for _, site := range []ident.SiteID{"west", east} {
			row := &index.Resource{ID: ident.NewTopID(), Kind: sites.Flavor, Name: "of " + string(site), State: index.Live}
			rows[site] = row
			err := r.Commit(t.Context(), tenant, "", func(tx *Tx) error {
				row.Version = 0
				if err := r.Bindings.Adopt(tx.Tx, binding.Binding{TopID: row.ID, Site: site, Kind: row.Kind, BottomID: "1", Generation: 1, Adopted: true}); err != nil {
					return err
				}
				return tx.Insert(row)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for site, want := range rows {
			caller := tenant
			caller.Pin = site
			got, err := r.Index.Find(t.Context(), caller, sites.Flavor, "1")
			if err != nil || got.ID != want.ID {
				t.Errorf("flavor 1 behind %s = %+v, %v; want %s", site, got, err, want.Name)
			}
		}
		// What hides one of two must not hide the other.
		theirs := index.New(sites.Volume, sites.Caller{ProjectID: "other"}, "theirs")
		ours := index.New(sites.Volume, tenant, "ours")
		for i, row := range []*index.Resource{theirs, ours} {
			row.State, row.Site = index.Live, []ident.SiteID{east, "west"}[i]
			err := r.Commit(t.Context(), tenant, "", func(tx *Tx) error {
				row.Version = 0
				if err := r.Bindings.Adopt(tx.Tx, binding.Binding{TopID: row.ID, Site: row.Site, Kind: row.Kind, BottomID: "same", Generation: 1}); err != nil {
					return err
				}
				return tx.Insert(row)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.Index.Find(t.Context(), tenant, sites.Volume, "same"); err != nil || got.ID != ours.ID {
			t.Errorf("Find = %v, %v; want our own", got, err)
		}
	})
}
