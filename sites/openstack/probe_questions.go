package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

const (
	// freshGrant is how old a token may be for a probe to trust its roles.
	freshGrant = 10 * time.Second
	// maxSkew is the difference of clocks from which on an operator should act: tokens and change filters still work.
	maxSkew = 30 * time.Second
)

// ask makes one read for the probe.
func (p *probe) ask(ctx context.Context, service sites.Service, path string, query url.Values) (sites.Body, error) {
	reply, err := p.adaptor.doJSON(ctx, &call{op: "sites/openstack.Probe", service: service, method: http.MethodGet, path: path, query: query})
	return reply.Body, err
}

// has reports whether the site has a service that answered.
func (p *probe) has(service sites.Service) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.caps.Services[service]
	return ok
}

func (p *probe) flavors(ctx context.Context) error {
	var flavors []sites.FlavorInfo
	err := p.adaptor.List(ctx, sites.Flavor, sites.Query{AllProjects: true}, func(o sites.Object) error {
		f := readFlavor(o)
		if _, shown := o.Body["extra_specs"]; !shown {
			if body, err := p.ask(ctx, sites.Compute, "flavors/"+url.PathEscape(string(f.ID))+"/os-extra_specs", nil); err == nil {
				full := copyBody(o.Body)
				full["extra_specs"] = body["extra_specs"]
				f = readFlavor(sites.Object{ID: o.ID, Body: full})
			}
		}
		flavors = append(flavors, f)
		return nil
	})
	if err != nil {
		return p.skip(err, "the flavors")
	}
	slices.SortFunc(flavors, func(x, y sites.FlavorInfo) int {
		return cmp.Or(cmp.Compare(x.VCPUs, y.VCPUs), cmp.Compare(x.RAM, y.RAM), cmp.Compare(x.Name, y.Name))
	})
	p.with(func(c *sites.Capabilities) { c.Flavors = flavors })
	return nil
}

func (p *probe) volumeTypes(ctx context.Context) error {
	if !p.has(sites.BlockStorage) {
		return nil
	}
	var names []string
	err := p.adaptor.List(ctx, sites.VolumeType, sites.Query{}, func(o sites.Object) error {
		names = append(names, o.Text("name"))
		return nil
	})
	if err != nil {
		return p.skip(err, "the volume types")
	}
	slices.Sort(names)
	p.with(func(c *sites.Capabilities) { c.VolumeTypes = names })
	return nil
}

func (p *probe) extensions(ctx context.Context) error {
	body, err := p.ask(ctx, sites.NetworkSvc, "extensions", nil)
	if err != nil {
		return p.skip(err, "the network service's extensions")
	}
	var aliases []string
	for _, row := range objects(body["extensions"]) {
		aliases = append(aliases, str(row["alias"]))
	}
	slices.Sort(aliases)
	p.with(func(c *sites.Capabilities) { c.Extensions = slices.Compact(aliases) })
	return nil
}

func (p *probe) importMethods(ctx context.Context) error {
	body, err := p.ask(ctx, sites.ImageService, "info/import", nil)
	if err != nil {
		return p.skip(err, "the image import methods")
	}
	methods, _ := body["import-methods"].(map[string]any)
	var names []string
	for _, name := range texts(methods["value"]) {
		names = append(names, str(name))
	}
	slices.Sort(names)
	p.with(func(c *sites.Capabilities) { c.ImportMethods = names })
	return nil
}

// zones reads the availability zones of each service. No service tells its
// default; a single zone is it, of several the service picks or follows its own setting.
func (p *probe) zones(ctx context.Context) error {
	for _, q := range []struct {
		service                sites.Service
		path, list, name, open string
	}{
		{sites.Compute, "os-availability-zone", "availabilityZoneInfo", "zoneName", "zoneState"},
		{sites.BlockStorage, "os-availability-zone", "availabilityZoneInfo", "zoneName", "zoneState"},
		{sites.NetworkSvc, "availability_zones", "availability_zones", "name", "state"},
	} {
		if !p.has(q.service) {
			continue
		}
		body, err := p.ask(ctx, q.service, q.path, nil)
		if err != nil {
			if err := p.skip(err, "the availability zones of "+string(q.service)); err != nil {
				return err
			}
			continue
		}
		names := []string{}
		for _, row := range objects(body[q.list]) {
			state, nested := row[q.open].(map[string]any)
			available := nested && state["available"] == true || !nested && str(row[q.open]) == "available"
			if name := str(row[q.name]); name != "" && available && name != "internal" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		p.with(func(c *sites.Capabilities) {
			c.Zones[q.service], c.DefaultZones[q.service] = names, ""
			if len(names) == 1 {
				c.DefaultZones[q.service] = names[0]
			}
		})
	}
	return nil
}

// objects returns the objects of a list, whatever else may be in it.
func objects(v any) []sites.Body {
	list, _ := v.([]any)
	var found []sites.Body
	for _, item := range list {
		if o, ok := item.(map[string]any); ok {
			found = append(found, o)
		}
	}
	return found
}

// whole reads a whole number of any size.
func whole(v any) int64 {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	f, err := n.Float64()
	if err != nil || f > 1<<62 || f < -(1<<62) {
		return 0
	}
	return int64(f)
}

// administration tries three administrators' reads that change nothing.
func (p *probe) administration(ctx context.Context) error {
	tries := []func() error{
		func() error {
			_, err := p.ask(ctx, sites.Identity, "projects", url.Values{"limit": {"1"}})
			return err
		},
		func() error {
			_, err := p.ask(ctx, sites.Compute, "os-hypervisors", url.Values{"limit": {"1"}})
			return err
		},
		func() error { // 404 when the flavor is public or there is none: the policy let us pass
			_, err := p.ask(ctx, sites.Compute, "flavors/headwater-probe/os-flavor-access", nil)
			if fault.Is(err, fault.NotFound) {
				return nil
			}
			return err
		},
	}
	names := []string{"list projects", "list hypervisors", "read access to flavors"}
	for i, try := range tries {
		switch err := try(); fault.KindOf(err) {
		case fault.Forbidden, fault.NotFound, fault.Unauthorized, fault.NotImplemented, fault.BadRequest:
			p.with(func(c *sites.Capabilities) {
				c.AdminReason = "the account may not " + names[i] + ": " + strings.TrimRight(fault.Message(err), ". ")
			})
			return nil
		default:
			if err != nil {
				return err
			}
		}
	}
	p.with(func(c *sites.Capabilities) { c.Admin = true })
	return nil
}
