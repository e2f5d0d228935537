package inventory_test

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sync/inventory"
)

// many records at Top every server that the site has.
func many(t *testing.T, s *cascadetest.Stack) map[ident.BottomID]ident.TopID {
	t.Helper()
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	tops := map[ident.BottomID]ident.TopID{}
	var page []sites.Object
	flush := func() error {
		err := s.DB.Write(t.Context(), func(tx dbschema.Tx) error {
			for _, o := range page {
				r := index.New(sites.Server, cascadetest.Member("p1"), o.Text("name"))
				r.Site, r.State, r.Status, r.Applied = "east", index.Live, o.Text("status"), 1
				r.CreatedAt, r.ObservedAt = index.Stamp(o.Began.Add(-time.Hour)), index.Stamp(o.Began)
				r.Observed = sites.Body{"status": o.Body["status"], "updated": o.Body["updated"]}
				for _, key := range []string{"OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state"} {
					r.Observed[key] = o.Body[key]
				}
				r.ObservedAdmin = sites.Body{"host_status": "UP"}
				if err := r.Encode(struct{}{}); err != nil {
					return err
				}
				if err := s.Core.Index.Insert(tx, r); err != nil {
					return err
				}
				err := s.Core.Bindings.Adopt(tx, binding.Binding{TopID: r.ID, Site: "east", Kind: sites.Server, ProjectID: "p1", BottomID: o.ID, Generation: 1})
				if err != nil {
					return err
				}
				tops[o.ID] = r.ID
			}
			return nil
		})
		page = page[:0]
		return err
	}
	err = admin.List(t.Context(), sites.Server, sites.Query{AllProjects: true, PageSize: 1000}, func(o sites.Object) error {
		if page = append(page, o); len(page) < 1000 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return tops
}

// A comparison had the five minutes of one turn: a site with very many servers, or one that answers slowly, never saw
// the end of one, so that no deletion there was ever found. Not parallel: it measures the heap of the whole process.
func TestHundredThousandServersAreCompared(t *testing.T) {
	if testing.Short() {
		t.Skip("compares 100,000 servers")
	}
	const n, slice, latency = 100_000, 2 * time.Second, 60 * time.Millisecond
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Cloud(func(c *emulator.Config) { c.Unlimited = true }))
	cloud := s.Clouds["east"]
	if err := cloud.Seed(emulator.Seeding{Servers: n}); err != nil {
		t.Fatal(err)
	}
	tops := many(t, s)
	if len(tops) != n {
		t.Fatalf("%d servers at Top, want %d", len(tops), n)
	}
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	var deleted []ident.TopID
	for bottom, top := range tops {
		if err := admin.Delete(t.Context(), sites.Server, bottom); err != nil {
			t.Fatal(err)
		}
		if deleted = append(deleted, top); len(deleted) == 3 {
			break
		}
	}
	if _, err := cloud.Faults().Add(emulator.Fault{Method: "GET", Path: "^/compute/v2.1/servers/detail", Latency: latency}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, slices := uint64(0), 0
	began := time.Now()
	progress := json.RawMessage("null")
	for {
		// Each slice by a process that knows nothing but what the last one stored.
		p := slicedPoller(s, later, slice)
		cur := &inventory.Cursor{Site: "east", PolledAt: later()}
		if err := json.Unmarshal(progress, &cur.Progress); err != nil {
			t.Fatal(err)
		}
		if cur.Progress == nil && slices > 0 {
			break
		}
		p.cur["east"] = cur
		at := time.Now()
		p.must(t, "east", false)
		if took := time.Since(at); took > slice+5*time.Second {
			t.Errorf("a slice took %v, want about %v", took, slice)
		}
		if cur.Alarm != "" {
			t.Fatal(cur.Alarm)
		}
		if progress, err = json.Marshal(cur.Progress); err != nil {
			t.Fatal(err)
		}
		if len(progress) > 2000 {
			t.Errorf("the progress is %d bytes", len(progress))
		}
		runtime.GC()
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		slices++
	}
	grown := int64(peak) - int64(before.HeapAlloc)
	t.Logf("100,000 servers compared in %v and %d slices; the heap grew by %d MB", time.Since(began).Round(time.Millisecond), slices, grown>>20)
	if slices < 3 {
		t.Errorf("%d slices: the comparison was not cut", slices)
	}
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	for _, id := range deleted {
		cascadetest.Until(t, "a server in error", func() (any, bool) {
			r, err := s.Core.Index.Get(t.Context(), id)
			return r, err == nil && r.State == index.Failed
		})
	}
}
