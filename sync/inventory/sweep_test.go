package inventory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// litter makes, in one project at one site, bottoms of every kind that the sweep looks for.
type litter struct {
	stack  *cascadetest.Stack
	tenant sites.Adaptor
	number int

	image, flavor, network, external, volume string
}

func newLitter(t *testing.T) *litter {
	t.Helper()
	s := cascadetest.New(t, []ident.SiteID{"east"}, cascadetest.Idle())
	tenant, err := s.Registry.Tenant(t.Context(), "east", "p1")
	if err != nil {
		t.Fatal(err)
	}
	site, err := s.Registry.Site(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	l := &litter{stack: s, tenant: tenant, flavor: string(site.Capabilities.Flavors[0].ID), external: string(site.Capabilities.ExternalNetworks[0].ID)}
	l.image = string(l.filled(t, ident.NewTopID()))
	l.network = string(l.make(t, sites.Network, ident.NewTopID()))
	l.create(t, sites.Subnet, sites.Body{"network_id": l.network, "cidr": "10.9.0.0/24", "ip_version": 4}, ident.NewTopID())
	l.volume = string(l.make(t, sites.Volume, ident.NewTopID()))
	cascadetest.Until(t, "a volume to take snapshots of", func() (any, bool) {
		o, err := tenant.Show(t.Context(), sites.Volume, ident.BottomID(l.volume))
		return o.Body, err == nil && o.Text("status") == "available"
	})
	return l
}

func (l *litter) create(t *testing.T, kind sites.Kind, body sites.Body, marker ident.TopID) ident.BottomID {
	t.Helper()
	obj, err := l.tenant.Create(t.Context(), kind, body, sites.CreateOptions{Marker: marker})
	if err != nil {
		t.Fatalf("create a %s: %v", kind, err)
	}
	return obj.ID
}

// filled makes an image with bytes in it.
func (l *litter) filled(t *testing.T, marker ident.TopID) ident.BottomID {
	t.Helper()
	id := l.make(t, sites.Image, marker)
	if err := l.tenant.Upload(t.Context(), id, strings.NewReader("bytes"), 5); err != nil {
		t.Fatal(err)
	}
	return id
}

func (l *litter) make(t *testing.T, kind sites.Kind, marker ident.TopID) ident.BottomID {
	t.Helper()
	l.number++
	name := fmt.Sprintf("%s-%d", kind, l.number)
	body := map[sites.Kind]sites.Body{
		sites.Server: {"name": name, "imageRef": l.image, "flavorRef": l.flavor, "networks": []any{map[string]any{"uuid": l.network}}},
		sites.Volume: {"name": name, "size": 1}, sites.Snapshot: {"name": name, "volume_id": l.volume},
		sites.Network: {"name": name}, sites.Router: {"name": name}, sites.SecurityGroup: {"name": name}, sites.Port: {"name": name, "network_id": l.network},
		sites.FloatingIP: {"floating_network_id": l.external}, sites.Image: {"name": name, "disk_format": "raw", "container_format": "bare"},
	}[kind]
	if kind == sites.Subnet {
		body = sites.Body{"name": name, "network_id": string(l.make(t, sites.Network, ident.NewTopID())), "cidr": "10.8.0.0/24", "ip_version": 4}
	}
	return l.create(t, kind, body, marker)
}

// row records a resource of Top, bound to a bottom when that is not "".
func (l *litter) row(t *testing.T, kind sites.Kind, state index.State, id ident.TopID, bottom ident.BottomID) {
	t.Helper()
	r := index.New(kind, cascadetest.Member("p1"), "it")
	r.ID, r.Site, r.State = id, "east", state
	if err := r.Encode(struct{}{}); err != nil {
		t.Fatal(err)
	}
	err := l.stack.Core.Internal(t.Context(), func(tx *cascade.Tx) error {
		if err := l.stack.Core.Index.Insert(tx.Tx, r); err != nil || bottom == "" {
			return err
		}
		return l.stack.Core.Bindings.Adopt(tx.Tx, binding.Binding{TopID: id, Site: "east", Kind: kind, ProjectID: "p1", BottomID: bottom, Generation: 1})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The sweep ends, of every kind, the second bottom of one marker and the bottom of a row that is deleted, once they are
// old enough that no create can be under way; and never the bound one, nor what Top never marked.
func TestSweepOfEachKind(t *testing.T) {
	t.Parallel()
	for _, kind := range []sites.Kind{
		sites.Server, sites.Volume, sites.Snapshot, sites.Network, sites.Subnet, sites.Port, sites.Router, sites.FloatingIP, sites.SecurityGroup, sites.Image,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			l := newLitter(t)
			live, dead := ident.NewTopID(), ident.NewTopID()
			bound, second := l.make(t, kind, live), l.make(t, kind, live)
			orphan, stranger := l.make(t, kind, dead), l.make(t, kind, ident.NewTopID())
			l.row(t, kind, index.Live, live, bound)
			l.row(t, kind, index.Deleted, dead, "")
			kept := []ident.BottomID{bound, stranger}
			if kind == sites.Image {
				kept = append(kept, l.filled(t, live)) // a snapshot that inherited the marker
			}
			cascadetest.Until(t, "bottoms that can be deleted", func() (any, bool) {
				o, err := l.tenant.Show(t.Context(), kind, orphan)
				return o.Body, err == nil && o.Text("status") != "creating" && o.Text("status") != "BUILD"
			})
			newPoller(l.stack, time.Now).must(t, "east", true)
			l.there(t, kind, "young", append([]ident.BottomID{second, orphan}, kept...)...)
			newPoller(l.stack, later).must(t, "east", true)
			l.there(t, kind, "bound, of another Top, or inherited", kept...)
			for what, id := range map[string]ident.BottomID{"second": second, "orphan": orphan} {
				cascadetest.Until(t, "the end of the "+what+" "+string(kind), func() (any, bool) {
					o, err := l.tenant.Show(t.Context(), kind, id)
					return o.Body, fault.Is(err, fault.NotFound)
				})
			}
		})
	}
}

func (l *litter) there(t *testing.T, kind sites.Kind, why string, ids ...ident.BottomID) {
	t.Helper()
	for _, id := range ids {
		if _, err := l.tenant.Show(t.Context(), kind, id); err != nil {
			t.Errorf("a %s that is %s: %v", kind, why, err)
		}
	}
}
