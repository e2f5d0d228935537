package inventory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// shared is what an adopter takes over, and how a test makes and ends it at the site.
type shared struct {
	kind   sites.Kind
	path   string // of the listing, as the fault sees it
	member string // of the listing
	make   func(t *testing.T, admin sites.Adaptor, name string) ident.BottomID
	adopt  func(t *testing.T, s *cascadetest.Stack) error
}

func adopters() []shared {
	create := func(kind sites.Kind, body func(name string) sites.Body) func(*testing.T, sites.Adaptor, string) ident.BottomID {
		return func(t *testing.T, admin sites.Adaptor, name string) ident.BottomID {
			t.Helper()
			obj, err := admin.Create(t.Context(), kind, body(name), sites.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return obj.ID
		}
	}
	probed := func(t *testing.T, s *cascadetest.Stack) sites.Capabilities {
		t.Helper()
		admin, err := s.Registry.Admin(t.Context(), "east")
		if err != nil {
			t.Fatal(err)
		}
		caps, err := admin.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		caps.Admin = true // what finds less than before is not stored: see sync/health
		return caps
	}
	newImage := create(sites.Image, func(name string) sites.Body {
		return sites.Body{"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
	})
	return []shared{
		{sites.Flavor, "^/compute/v2.1/flavors/detail", "flavors", create(sites.Flavor, func(name string) sites.Body {
			return sites.Body{"name": name, "vcpus": 3, "ram": 1000 + len(name), "disk": 7}
		}), func(t *testing.T, s *cascadetest.Stack) error {
			return s.Compute.AdoptSite(t.Context(), "east", probed(t, s))
		}},
		{sites.VolumeType, "^/volume/v3/[^/]*/?types$", "volume_types", create(sites.VolumeType, func(name string) sites.Body {
			return sites.Body{"name": name, "os-volume-type-access:is_public": false}
		}), func(t *testing.T, s *cascadetest.Stack) error {
			return s.Volume.AdoptSite(t.Context(), "east", probed(t, s))
		}},
		{sites.Image, "^/image/v2/images$", "images", func(t *testing.T, admin sites.Adaptor, name string) ident.BottomID {
			id := newImage(t, admin, name)
			if err := admin.Upload(t.Context(), id, strings.NewReader(name), int64(len(name))); err != nil {
				t.Fatal(err)
			}
			return id
		}, func(t *testing.T, s *cascadetest.Stack) error {
			return s.Image.AdoptSite(t.Context(), "east", probed(t, s))
		}},
	}
}

// bound counts the bottoms that Top knows of those given.
func bound(t *testing.T, s *cascadetest.Stack, kind sites.Kind, ids []ident.BottomID) int {
	t.Helper()
	tops, err := s.Core.Bindings.Tops(t.Context(), "east", kind, ids...)
	if err != nil {
		t.Fatal(err)
	}
	return len(tops)
}

// Adopters believed one list: a service that answered with an empty list once, or an account that lost its role for a
// minute, took every flavor and every volume type from all tenants, and gave them back under other ids.
func TestAdoptersBelieveNoAbsence(t *testing.T) {
	t.Parallel()
	for _, a := range adopters() {
		for _, tt := range []struct {
			name  string
			n     int // made at the site
			fault func(t *testing.T, f *emulator.Faults, list []json.RawMessage)
			doubt bool // whether the operator is told at once
		}{
			{"one empty list of few", 2, func(t *testing.T, f *emulator.Faults, _ []json.RawMessage) { answer(t, f, a, nil, 1) }, false},
			{"empty lists of many", 9, func(t *testing.T, f *emulator.Faults, _ []json.RawMessage) { answer(t, f, a, nil, 0) }, true},
			{"half lists", 16, func(t *testing.T, f *emulator.Faults, list []json.RawMessage) { answer(t, f, a, list[:len(list)/2], 0) }, true},
			{"role lost", 3, func(_ *testing.T, f *emulator.Faults, _ []json.RawMessage) { f.LoseRoles("admin", "admin") }, a.kind == sites.VolumeType},
		} {
			t.Run(string(a.kind)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Idle())
				ids, list := a.fill(t, s, tt.n)
				tt.fault(t, s.Clouds["east"].Faults(), list)
				var doubt *cascade.DoubtError
				if err := a.adopt(t, s); errors.As(err, &doubt) != tt.doubt {
					t.Errorf("adoption ended with %v, want an alarm: %v", err, tt.doubt)
				}
				if got := bound(t, s, a.kind, ids); got != tt.n {
					t.Errorf("%d of %d are left at Top", got, tt.n)
				}
				s.Clouds["east"].Faults().Clear()
				s.Clouds["east"].Faults().RestoreRoles("admin")
				if err := a.adopt(t, s); err != nil {
					t.Errorf("adoption afterwards: %v", err)
				}
				if got := bound(t, s, a.kind, ids); got != tt.n {
					t.Errorf("%d of %d are left at Top afterwards", got, tt.n)
				}
			})
		}
	}
}

// fill makes things of the adopter's kind at the site and takes them over. It returns their ids, and the rows of the site's list.
func (a shared) fill(t *testing.T, s *cascadetest.Stack, n int) ([]ident.BottomID, []json.RawMessage) {
	t.Helper()
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	var ids []ident.BottomID
	for i := range n {
		ids = append(ids, a.make(t, admin, fmt.Sprintf("%s-%d%s", a.kind, i, strings.Repeat("x", i))))
	}
	if err := a.adopt(t, s); err != nil {
		t.Fatal(err)
	}
	if got := bound(t, s, a.kind, ids); got != n {
		t.Fatalf("%d of %d were taken over", got, n)
	}
	var list []json.RawMessage
	err = admin.List(t.Context(), a.kind, sites.Query{AllProjects: true}, func(o sites.Object) error {
		raw, err := json.Marshal(o.Body)
		list = append(list, raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids, list
}

// answer makes the site list the given rows and nothing else, count times; 0 is for ever.
func answer(t *testing.T, f *emulator.Faults, a shared, rows []json.RawMessage, count int) {
	t.Helper()
	if rows == nil {
		rows = []json.RawMessage{}
	}
	body, err := json.Marshal(map[string]any{a.member: rows})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add(emulator.Fault{Method: "GET", Path: a.path, Status: 200, Body: string(body), Count: count}); err != nil {
		t.Fatal(err)
	}
}

// What is really gone goes at Top too, at the second look.
func TestAdoptersSeeDeletions(t *testing.T) {
	t.Parallel()
	for _, a := range adopters() {
		t.Run(string(a.kind), func(t *testing.T) {
			t.Parallel()
			s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Idle())
			ids, _ := a.fill(t, s, 3)
			admin, err := s.Registry.Admin(t.Context(), "east")
			if err != nil {
				t.Fatal(err)
			}
			if err := admin.Delete(t.Context(), a.kind, ids[0]); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := a.adopt(t, s); err != nil {
				t.Fatal(err)
			}
			if got := bound(t, s, a.kind, ids); got != 3 && time.Since(began) < 3*time.Second {
				t.Errorf("one look was believed: %d of 3 are left", got)
			}
			cascadetest.Until(t, "the end of what was deleted", func() (any, bool) {
				if err := a.adopt(t, s); err != nil {
					t.Fatal(err)
				}
				return bound(t, s, a.kind, ids), bound(t, s, a.kind, ids) == 2
			})
			if got := bound(t, s, a.kind, ids[1:]); got != 2 {
				t.Errorf("%d of 2 that are there are left", got)
			}
		})
	}
}

// stacked is a project with groups and servers at one site, and a poller that has looked at all of it.
func stacked(t *testing.T, servers int) (*cascadetest.Stack, *poller, []ident.TopID) {
	t.Helper()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	who := cascadetest.Member("p1")
	img, net := s.NewImage(t, who, "img"), s.NewNetwork(t, who, "net", "10.1.0.0/24")
	var ids []ident.TopID
	for i := range servers {
		ids = append(ids, s.Boot(t, who, fmt.Sprintf("web-%d", i), img, net).ID)
	}
	p := newPoller(s, later)
	p.must(t, "east", true)
	return s, p, ids
}

func (p *poller) bottom(t *testing.T, id ident.TopID) ident.BottomID {
	t.Helper()
	b, err := p.stack.Core.Bindings.Get(t.Context(), id, "east")
	if err != nil || !b.Known() {
		t.Fatalf("binding of %s: %+v, %v", id, b, err)
	}
	return b.BottomID
}

// A comparison takes an empty or a half list for a fault of the list.
func TestComparisonBelievesNoAbsence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		servers int
		keep    int // rows of the true list that the faulty one has
		alarm   bool
	}{
		{"empty list of few", 2, 0, false},
		{"empty list of many", 7, 0, true},
		{"half list", 10, 4, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, p, ids := stacked(t, tt.servers)
			admin, err := s.Registry.Admin(t.Context(), "east")
			if err != nil {
				t.Fatal(err)
			}
			var rows []json.RawMessage
			err = admin.List(t.Context(), sites.Server, sites.Query{Params: sites.ByID(sites.Server), AllProjects: true}, func(o sites.Object) error {
				raw, err := json.Marshal(o.Body)
				rows = append(rows, raw)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			answer(t, s.Clouds["east"].Faults(), shared{path: "^/compute/v2.1/servers/detail", member: "servers"}, rows[:tt.keep], 0)
			for range 3 {
				if cur := p.must(t, "east", true); (cur.Alarm != "") != tt.alarm {
					t.Errorf("alarm %q, want one: %v", cur.Alarm, tt.alarm)
				}
			}
			s.Clouds["east"].Faults().Clear()
			if cur := p.must(t, "east", true); cur.Alarm != "" {
				t.Errorf("the alarm stays: %s", cur.Alarm)
			}
			list, err := s.Core.Index.GetAll(t.Context(), ids)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				if r.State != index.Live || !r.MissingSince.IsZero() {
					t.Errorf("server %s is %s, missing since %v", r.Name, r.State, r.MissingSince)
				}
			}
		})
	}
}

// What somebody deletes at the site is in error at Top, after two looks by its id.
func TestComparisonSeesDeletions(t *testing.T) {
	t.Parallel()
	s, p, ids := stacked(t, 2)
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	bottom := p.bottom(t, ids[0])
	if err := admin.Delete(t.Context(), sites.Server, bottom); err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the end of the server at the site", func() (any, bool) {
		_, err := admin.Show(t.Context(), sites.Server, bottom)
		return err, fault.Is(err, fault.NotFound)
	})
	p.must(t, "east", true)
	cascadetest.Until(t, "a server in error", func() (any, bool) {
		r, err := s.Core.Index.Get(t.Context(), ids[0])
		return r, err == nil && r.State == index.Failed && r.Fault.Code == 404
	})
	if r, err := s.Core.Index.Get(t.Context(), ids[1]); err != nil || r.State != index.Live {
		t.Errorf("the other server is %+v, %v", r, err)
	}
}

// The copy of a group at a site was forgotten at the first 404, by whatever account: a role that was lost for a minute,
// or a service that lost its database connection, made every group there anew.
func TestLostCopyIsLookedForTwice(t *testing.T) {
	t.Parallel()
	s, p, _ := stacked(t, 1)
	groups, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.SecurityGroup, Project: "p1"})
	if err != nil || len(groups) == 0 {
		t.Fatalf("groups = %v, %v", groups, err)
	}
	bottom := p.bottom(t, groups[0].ID)
	f := s.Clouds["east"].Faults()
	answer(t, f, shared{path: "^/network/v2.0/security-groups$", member: "security_groups"}, nil, 0)
	if _, err := f.Add(emulator.Fault{Method: "GET", Path: "^/network/v2.0/security-groups/" + string(bottom), Status: 404}); err != nil {
		t.Fatal(err)
	}
	known := func() bool {
		b, err := s.Core.Bindings.Get(t.Context(), groups[0].ID, "east")
		return err == nil && b.Known() && b.BottomID == bottom
	}
	p.must(t, "east", true)
	if !known() {
		t.Error("one 404 was believed")
	}
	f.Clear()
	p.must(t, "east", true) // it is there: the suspicion is taken back
	answer(t, f, shared{path: "^/network/v2.0/security-groups$", member: "security_groups"}, nil, 0)
	if _, err := f.Add(emulator.Fault{Method: "GET", Path: "^/network/v2.0/security-groups/" + string(bottom), Status: 404}); err != nil {
		t.Fatal(err)
	}
	p.must(t, "east", true)
	if !known() {
		t.Error("the first of two looks was believed")
	}
	cascadetest.Until(t, "the end of the copy", func() (any, bool) {
		p.must(t, "east", true)
		return nil, !known()
	})
}
