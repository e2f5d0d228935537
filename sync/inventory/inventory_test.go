package inventory_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sync/inventory"
)

// later is a clock far enough ahead that whatever a test made is old.
func later() time.Time { return time.Now().Add(time.Hour) }

// poller polls a stack's sites when told to.
type poller struct {
	stack *cascadetest.Stack
	inv   *inventory.Inventory
	cur   map[ident.SiteID]*inventory.Cursor
}

func newPoller(s *cascadetest.Stack, now func() time.Time) *poller { return slicedPoller(s, now, 0) }

func slicedPoller(s *cascadetest.Stack, now func() time.Time, slice time.Duration) *poller {
	return &poller{stack: s, cur: map[ident.SiteID]*inventory.Cursor{}, inv: inventory.New(inventory.Config{
		Slice: slice,
		Core:  s.Core, Directory: s.Registry, Store: inventory.NewStore(s.DB), Log: slog.New(slog.DiscardHandler), Now: now,
		Adopters: []inventory.Adopter{s.Network, s.Compute, s.Volume, s.Image}, Metrics: prometheus.NewRegistry(), DiffEvery: time.Hour,
	})}
}

// poll looks once for changes, or at everything.
func (p *poller) poll(t *testing.T, site ident.SiteID, all bool) (*inventory.Cursor, error) {
	t.Helper()
	row, err := p.stack.Registry.Site(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	cur := p.cur[site]
	if cur == nil {
		cur = &inventory.Cursor{Site: site}
		p.cur[site] = cur
	}
	if all {
		cur.DiffedAt = time.Time{}
	}
	return cur, p.inv.Poll(t.Context(), &row, cur)
}

func (p *poller) must(t *testing.T, site ident.SiteID, all bool) *inventory.Cursor {
	t.Helper()
	cur, err := p.poll(t, site, all)
	if err != nil {
		t.Fatal(err)
	}
	return cur
}

// Nova gives a snapshot all properties of the image that its server was booted
// from, our marker among them (nova/utils.py get_image_from_system_metadata).
// The sweep took such a snapshot for a second copy of that image, and deleted it when it was ten minutes old.
func TestSweepKeepsSnapshots(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", img, net)
	snap, err := s.Compute.CreateImage(t.Context(), who, string(one.ID), "snap", map[string]string{sites.ImageMarker: "hw:" + string(img.ID)})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "an active snapshot", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), snap)
		return r, err == nil && r.Status == image.Active
	})
	newPoller(s, later).must(t, "east", true)
	b, err := s.Core.Bindings.Get(t.Context(), snap, "east")
	if err != nil {
		t.Fatal(err)
	}
	row, err := s.Core.Index.Get(t.Context(), snap)
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.Core.At(t.Context(), row, "east")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at.Adaptor.Show(t.Context(), sites.Image, b.BottomID); err != nil {
		t.Errorf("the snapshot after a full comparison: %v", err)
	}
}

// What a site says of its copy of an image was taken for the image's own state:
// while a copy was on its way to a second site, the image was "queued" for
// everybody, and no server could be booted of it anywhere.
func TestCopySaysNothingOfTheImage(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east", "west"})
	who := cascadetest.Member("p1")
	img := s.NewImage(t, who, "img")
	bottoms := map[ident.SiteID]ident.BottomID{}
	for site := range s.Clouds {
		bottom, err := s.Core.Ensure(t.Context(), site, img.ID)
		if err != nil {
			t.Fatal(err)
		}
		bottoms[site] = bottom
	}
	for site, bottom := range bottoms {
		admin, err := s.Registry.Admin(t.Context(), site)
		if err != nil {
			t.Fatal(err)
		}
		_, err = admin.Do(t.Context(), sites.Request{Service: sites.ImageService, Method: "POST", Path: "images/" + string(bottom) + "/actions/deactivate"})
		if err != nil {
			t.Fatal(err)
		}
		newPoller(s, time.Now).must(t, site, true)
		got, err := s.Core.Index.Get(t.Context(), img.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != image.Active || got.State != index.Live {
			t.Errorf("image after a look at %s: %s %s, want live active", site, got.State, got.Status)
		}
	}
}

// A full comparison asked for every server by id, since the members that it
// compared are kept in columns of their own: ten thousand servers were ten thousand calls.
func TestRestCostsNoLook(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", img, net)
	ahead := time.Duration(0)
	p := newPoller(s, func() time.Time { return time.Now().Add(ahead) })
	p.must(t, "east", true)
	cascadetest.Until(t, "a server that was seen after its last change", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), one.ID)
		if err != nil || time.Since(r.ObservedAt) < 3*time.Second {
			return r, false
		}
		return r, true
	})
	// The last stored look may lie within the second of the last change: one more is allowed to be stored.
	p.must(t, "east", true)
	s.Clouds["east"].ForgetCalls()
	p.must(t, "east", true)
	for _, c := range s.Clouds["east"].Calls() {
		if c.Method == http.MethodGet && strings.HasPrefix(c.Path, "/compute/") && strings.Contains(c.Path, "/servers/") && !strings.Contains(c.Path, "/detail") {
			t.Errorf("a comparison of what rests looked at %s", c.Path)
		}
	}
}

// A volume service that answered nothing stopped the whole poll: the states of servers stood still until it was back.
func TestOneServiceDown(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", img, net)
	p := newPoller(s, time.Now)
	p.must(t, "east", true)
	b, err := s.Core.Bindings.Get(t.Context(), one.ID, "east")
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.Core.At(t.Context(), one.Resource, "east")
	if err != nil {
		t.Fatal(err)
	}
	_, err = at.Adaptor.Do(t.Context(), sites.Request{Service: sites.Compute, Method: "POST", Path: "servers/" + string(b.BottomID) + "/action", Body: sites.Body{"os-stop": nil}})
	if err != nil {
		t.Fatal(err)
	}
	s.Clouds["east"].Faults().Outage("volume")
	for _, all := range []bool{false, true} {
		if _, err := p.poll(t, "east", all); err == nil {
			t.Error("a poll of a site whose volume service is down says nothing of it")
		}
	}
	cascadetest.Until(t, "the stop that was made at the site", func() (any, bool) {
		_, _ = p.poll(t, "east", true) // fails for the volumes
		r, err := s.Core.Index.Get(t.Context(), one.ID)
		return r, err == nil && r.Status == "SHUTOFF"
	})
}

// An account that loses its role sees an empty list; that is no deletion of everything (cascade/README.md: Absence).
func TestLostRoleForgetsNothing(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	one := s.Boot(t, who, "web", img, net)
	p := newPoller(s, later)
	p.must(t, "east", true)
	s.Clouds["east"].Faults().LoseRoles("admin", "admin")
	for range 3 {
		_, _ = p.poll(t, "east", true) // refused
	}
	if cur := p.cur["east"]; cur.Alarm == "" {
		t.Error("no alarm was raised")
	}
	if got := s.Await(t, who, one.ID, "ACTIVE"); got.State != index.Live || !got.MissingSince.IsZero() {
		t.Errorf("server = %s, missing since %v", got.State, got.MissingSince)
	}
	s.Clouds["east"].Faults().RestoreRoles("admin")
	if cur := p.must(t, "east", true); cur.Alarm != "" {
		t.Errorf("the alarm stays: %s", cur.Alarm)
	}
}
