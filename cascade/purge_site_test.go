package cascade_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// estate is a site with two projects of Top, each with a server, all around it and the same names.
type estate struct {
	*cascadetest.Stack
	cloud  *emulator.Cloud
	before map[string]bool // what the cloud had before the projects came
}

func newEstate(t *testing.T, tenancy sites.Tenancy) *estate {
	t.Helper()
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.As(tenancy))
	e := &estate{Stack: s, cloud: s.Clouds["east"], before: map[string]bool{}}
	for _, project := range []string{"acme", "bobs"} {
		if tenancy == sites.TenancyStatic {
			s.GiveAccount(t, "east", project)
		}
	}
	for _, r := range e.cloud.Everything() {
		e.before[r.Kind+r.ID] = true
	}
	external, err := s.Core.Index.List(t.Context(), index.Query{Kind: sites.Network, AllProjects: true, Shared: true})
	if err != nil || len(external) != 1 {
		t.Fatalf("external networks %v, %v", external, err)
	}
	for _, project := range []string{"acme", "bobs"} {
		e.fill(t, cascadetest.Member(project), external[0])
	}
	return e
}

func (e *estate) fill(t *testing.T, caller sites.Caller, external *index.Resource) {
	t.Helper()
	img, net := e.NewImage(t, caller, "img"), e.NewNetwork(t, caller, "net", "10.9.0.0/24")
	e.Boot(t, caller, "server", img, net)
	vol, err := e.Volume.Create(t.Context(), caller, volume.CreateRequest{Name: "vol", SizeGiB: 1, Zone: "east"})
	if err != nil {
		t.Fatal(err)
	}
	cascadetest.Until(t, "the volume", func() (any, bool) {
		r, err := e.Core.Index.Get(t.Context(), vol.ID)
		return r, err == nil && r.Status == "available"
	})
	gateway := map[string]any{"network_id": string(external.ID)}
	if _, err := e.Network.CreateRouters(t.Context(), caller, []network.Fields{{"name": "r", "external_gateway_info": gateway}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Network.CreateFloatingIP(t.Context(), caller, network.Fields{"floating_network_id": string(external.ID)}); err != nil {
		t.Fatal(err)
	}
}

// left is what the projects of Top have at the cloud itself.
func (e *estate) left() []string {
	var out []string
	for _, r := range e.cloud.Everything() {
		if !e.before[r.Kind+r.ID] && (!r.Auto || r.Kind != "security_group") {
			out = append(out, fmt.Sprintf("%s %s %v", r.Kind, r.Name, r.Markers))
		}
	}
	return out
}

// gone waits until Top does not know the site any more.
func (e *estate) gone(t *testing.T) {
	t.Helper()
	cascadetest.Until(t, "the end of the site", func() (any, bool) {
		_, err := e.Registry.Site(t.Context(), "east")
		return e.left(), fault.Is(err, fault.NotFound)
	})
}

// job waits until the newest purge of the site is as wanted.
func (e *estate) job(t *testing.T, what string, want func(jobs.Record) bool) jobs.Record {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(90 * time.Second) // a purge that is refused takes its time
	for {
		list, err := jobs.NewStore(e.DB).List(t.Context(), jobs.Filter{Kind: cascade.PurgeKind, ResourceID: cascade.PurgeResource("east"), Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 && want(list[0]) {
			return list[0]
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("a purge that %s did not come about: %+v", what, list)
		}
	}
}

func tenancies() []sites.Tenancy {
	return []sites.Tenancy{sites.TenancyProject, sites.TenancyStatic, sites.TenancyShared}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	for _, tenancy := range tenancies() {
		t.Run(string(tenancy), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, tenancy)
			if len(e.left()) < 10 {
				t.Fatalf("the projects have little at the site: %v", e.left())
			}
			if gone, err := e.Registry.Remove(t.Context(), "east", registry.FatePurge); err != nil || gone {
				t.Fatalf("Remove = %v, %v; want a purge", gone, err)
			}
			e.gone(t)
			if left := e.left(); len(left) > 0 {
				t.Errorf("after the purge the cloud still has %v", left)
			}
			for _, kind := range []sites.Kind{sites.Server, sites.Volume, sites.FloatingIP, sites.Router, sites.Port} {
				rows, err := e.Core.Index.List(t.Context(), index.Query{Kind: kind, AllProjects: true})
				if err != nil || len(rows) > 0 {
					t.Errorf("after the purge Top lists the %s %v, %v", kind, rows, err)
				}
			}
		})
	}
}

// Keeping forgets at Top and touches nothing at the site.
func TestKeep(t *testing.T) {
	t.Parallel()
	for _, tenancy := range tenancies() {
		t.Run(string(tenancy), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, tenancy)
			before := strings.Join(e.left(), "\n")
			if gone, err := e.Registry.Remove(t.Context(), "east", registry.FateKeep); err != nil || !gone {
				t.Fatalf("Remove = %v, %v", gone, err)
			}
			e.gone(t)
			if got := strings.Join(e.left(), "\n"); got != before {
				t.Errorf("keeping changed the cloud from\n%s\nto\n%s", before, got)
			}
		})
	}
}

// What a site refused to delete was asked for again for ever, and nobody could see what was left. Now the purge deletes all else,
// ends as failed with the reasons, and takes up what is left when it is asked for again.
func TestPurgeIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tenancy sites.Tenancy
		path    string // whose deletes the site refuses
		kind    string
	}{
		{sites.TenancyProject, `/servers/[^/]*$`, "server"},
		{sites.TenancyStatic, `/floatingips/[^/]*$`, "floatingip"},
		{sites.TenancyShared, `/networks/[^/]*$`, "network"}, // its own delete waits two minutes for a site that calls it in use
	} {
		t.Run(string(tt.tenancy), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, tt.tenancy)
			refuse, err := e.cloud.Faults().Add(emulator.Fault{Method: http.MethodDelete, Path: tt.path, Status: http.StatusConflict})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Registry.Remove(t.Context(), "east", registry.FatePurge); err != nil {
				t.Fatal(err)
			}
			purge := e.job(t, "failed", func(r jobs.Record) bool { return r.State == jobs.Failed })
			if said := purge.LastError(); !strings.Contains(said, "site east did not delete 2 of what Top made there") || strings.Count(said, tt.kind+" ") < 2 {
				t.Errorf("the purge failed with %q; want two of kind %s named", said, tt.kind)
			}
			if n := e.cloud.Faults().Struck(refuse); n < 2 || n > 2*purge.MaxAttempts {
				t.Errorf("the site was asked %d times, want each of two things at most %d times", n, purge.MaxAttempts)
			}
			for _, left := range e.left() {
				if kind, _, _ := strings.Cut(left, " "); kind != tt.kind && (kind == "volume" || kind == "router" || kind == "image") && !strings.Contains(left, "[]") {
					t.Errorf("the refusal of each %s held up the end of %s", tt.kind, left)
				}
			}
			site, err := e.Registry.Site(t.Context(), "east")
			if err != nil || site.State != registry.Removing {
				t.Fatalf("the site is %v, %v; want it shown as being removed", site.State, err)
			}
			e.cloud.Faults().Clear()
			if _, err := e.Registry.Remove(t.Context(), "east", registry.FatePurge); err != nil {
				t.Fatal(err)
			}
			e.gone(t)
			if left := e.left(); len(left) > 0 {
				t.Errorf("after the second purge the cloud still has %v", left)
			}
		})
	}
}

// A site that does not answer is waited for at no cost of an attempt. A purge that outlives its site ends without a word: it must not
// touch another site of that name.
func TestPurgeOfADeadSite(t *testing.T) {
	t.Parallel()
	e := newEstate(t, sites.TenancyShared)
	e.cloud.Faults().Outage()
	if _, err := e.Registry.Remove(t.Context(), "east", registry.FatePurge); err != nil {
		t.Fatal(err)
	}
	e.job(t, "waits", func(r jobs.Record) bool { return r.Snoozes > 0 && r.Attempt <= 1 && len(r.Errors) == 0 })
	if _, err := e.Registry.Remove(t.Context(), "east", registry.FateKeep); err != nil {
		t.Fatal(err)
	}
	e.gone(t)
	e.job(t, "ended", func(r jobs.Record) bool { return r.State == jobs.Completed && len(r.Errors) == 0 })
}
