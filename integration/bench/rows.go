package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// siteContent is what an emulated site lists of the seeded servers.
type siteContent struct {
	name    string
	began   time.Time // of the reading
	network sites.Body
	subnet  sites.Body
	servers []sites.Body
	ports   map[string]sites.Body // by server
}

// readSite reads what was seeded, as the site's administrator.
func readSite(ctx context.Context, name string, a account) (*siteContent, error) {
	c, err := signIn(ctx, a)
	if err != nil {
		return nil, err
	}
	s := &siteContent{name: name, began: time.Now(), ports: map[string]sites.Body{}}
	var nets struct{ Networks, Subnets []sites.Body }
	if err := c.call(ctx, "GET", "network", "/networks?name=seed-0", nil, &nets); err != nil {
		return nil, err
	}
	if err := c.call(ctx, "GET", "network", "/subnets?name=seed-0", nil, &nets); err != nil {
		return nil, err
	}
	if len(nets.Networks) != 1 || len(nets.Subnets) != 1 {
		return nil, fmt.Errorf("site %s has %d networks seed-0 and %d subnets: seed at most 16,000 servers a site", name, len(nets.Networks), len(nets.Subnets))
	}
	s.network, s.subnet = nets.Networks[0], nets.Subnets[0]
	for marker := ""; ; {
		var page struct{ Servers []sites.Body }
		if err := c.call(ctx, "GET", "compute", "/servers/detail?all_tenants=1&limit=1000&name="+name+"-&marker="+marker, nil, &page); err != nil {
			return nil, err
		}
		if len(page.Servers) == 0 {
			break
		}
		for _, o := range page.Servers {
			marker = text(o, "id")
			if strings.HasPrefix(text(o, "name"), name+"-") { // not the one that Top booted
				s.servers = append(s.servers, o)
			}
		}
	}
	for marker := ""; ; {
		var page struct{ Ports []sites.Body }
		if err := c.call(ctx, "GET", "network", "/ports?limit=1000&network_id="+text(s.network, "id")+"&marker="+marker, nil, &page); err != nil {
			return nil, err
		}
		if len(page.Ports) == 0 {
			return s, nil
		}
		for _, o := range page.Ports {
			marker = text(o, "id")
			if device := text(o, "device_id"); device != "" {
				s.ports[device] = o
			}
		}
	}
}

func text(o sites.Body, key string) string {
	s, _ := o[key].(string)
	return s
}

// writer puts rows into a database that no Top has open.
type writer struct {
	c        *crowd
	db       *dbschema.DB
	index    *index.Store
	bindings *binding.Store
	group    ident.TopID // the tenant's default security group
	caller   sites.Caller
}

// write records at Top all that the sites hold.
func (c *crowd) write(ctx context.Context, all []*siteContent) (err error) {
	db, err := dbschema.Open(ctx, dbschema.Config{Driver: dbschema.SQLite, DSN: filepath.Join(c.dir, "headwater.db")}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w := &writer{c: c, db: db, index: index.NewStore(db, time.Now), bindings: binding.NewStore(db, time.Now),
		caller: sites.Caller{ProjectID: c.project, UserID: c.user}}
	groups, err := w.index.List(ctx, index.Query{Kind: sites.SecurityGroup, Project: c.project})
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return errors.New("the tenant has no security group")
	}
	w.group = groups[0].ID
	for _, s := range all {
		if err := w.site(ctx, s); err != nil {
			return fmt.Errorf("write site %s: %w", s.name, err)
		}
	}
	return nil
}

// perWrite is how many servers one transaction records.
const perWrite = 500

func (w *writer) site(ctx context.Context, s *siteContent) error {
	net := w.row(sites.Network, s, s.network)
	sub := w.row(sites.Subnet, s, s.subnet)
	sub.ParentID = net.ID
	gateway := text(s.subnet, "gateway_ip")
	err := errors.Join(
		net.Encode(network.NetworkSpec{AdminStateUp: true, PortSecurity: true}),
		sub.Encode(network.SubnetSpec{IPVersion: 4, CIDR: text(s.subnet, "cidr"), Gateway: &gateway, DHCP: true}),
	)
	if err != nil {
		return err
	}
	err = w.db.Write(ctx, func(tx dbschema.Tx) error {
		return errors.Join(w.insert(tx, s, net, s.network), w.insert(tx, s, sub, s.subnet))
	})
	for from := 0; from < len(s.servers) && err == nil; from += perWrite {
		err = w.db.Write(ctx, func(tx dbschema.Tx) error {
			for _, o := range s.servers[from:min(from+perWrite, len(s.servers))] {
				if err := w.server(tx, s, net.ID, sub.ID, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

func (w *writer) server(tx dbschema.Tx, s *siteContent, net, sub ident.TopID, o sites.Body) error {
	shown := s.ports[text(o, "id")]
	if shown == nil {
		return fmt.Errorf("server %s has no port", text(o, "id"))
	}
	server, port := w.row(sites.Server, s, o), w.row(sites.Port, s, shown)
	server.FlavorID, server.ImageID = ident.TopID(w.c.kit.flavor), ident.TopID(w.c.kit.image)
	port.ParentID, port.DeviceID = net, server.ID
	fixed, _ := shown["fixed_ips"].([]any)
	ip, _ := fixed[0].(map[string]any)["ip_address"].(string)
	err := errors.Join(
		server.Encode(compute.ServerSpec{
			Size: compute.Size{VCPUs: 1, RAM: 64, Disk: 1}, FlavorName: "m1.tiny", Groups: []ident.TopID{w.group},
			Ports: []compute.PortUse{{ID: port.ID, Own: true}}, DiskConfig: "AUTO", Hostname: server.Name, Reservation: "r-seed",
		}),
		port.Encode(network.PortSpec{
			AdminStateUp: true, MAC: text(shown, "mac_address"), FixedIPs: []network.FixedIP{{Subnet: sub, IP: ip}},
			Groups: []ident.TopID{w.group}, PortSecurity: true, DeviceOwner: text(shown, "device_owner"),
		}),
		w.insert(tx, s, port, shown), w.insert(tx, s, server, o),
	)
	return errors.Join(err, w.index.AddRefs(tx,
		index.Ref{From: server.ID, To: server.FlavorID, Role: "flavor"}, index.Ref{From: server.ID, To: server.ImageID, Role: "image"},
		index.Ref{From: server.ID, To: port.ID, Role: "port"}, index.Ref{From: server.ID, To: w.group, Role: "group"},
		index.Ref{From: port.ID, To: net, Role: "network"}, index.Ref{From: port.ID, To: sub, Role: "subnet"},
		index.Ref{From: port.ID, To: w.group, Role: "group"}))
}

// row is a live row of the tenant for what a site shows.
func (w *writer) row(kind sites.Kind, s *siteContent, o sites.Body) *index.Resource {
	r := index.New(kind, w.caller, text(o, "name"))
	r.Site, r.State, r.Status = ident.SiteID(s.name), index.Live, text(o, "status")
	r.ObservedAt, r.Applied = index.Stamp(s.began), 1
	r.Observed, r.ObservedAdmin = sites.Body{}, sites.Body{}
	for key, v := range o {
		switch {
		case topsOwn[key]:
		case strings.HasPrefix(key, "OS-EXT-SRV-ATTR:"), strings.HasPrefix(key, "binding:"), strings.HasPrefix(key, "provider:"), key == "host_status", marks[key]:
			r.ObservedAdmin[key] = v
		default:
			r.Observed[key] = v
		}
	}
	return r
}

// marks are the members by which Top tells that nothing has changed at a site.
var marks = map[string]bool{"status": true, "updated": true, "updated_at": true, "revision_number": true, "OS-EXT-STS:task_state": true}

// topsOwn are members that Top renders from its own record and does not keep of what a site shows.
var topsOwn = map[string]bool{
	"id": true, "name": true, "links": true, "tenant_id": true, "project_id": true, "user_id": true, "metadata": true, "image": true, "flavor": true,
	"key_name": true, "addresses": true, "security_groups": true, "tags": true, "description": true, "created": true, "created_at": true,
	"fixed_ips": true, "network_id": true, "device_id": true, "mac_address": true, "subnets": true, "OS-EXT-AZ:availability_zone": true,
	"os-extended-volumes:volumes_attached": true, "accessIPv4": true, "accessIPv6": true, "OS-DCF:diskConfig": true,
}

func (w *writer) insert(tx dbschema.Tx, s *siteContent, r *index.Resource, o sites.Body) error {
	if err := w.index.Insert(tx, r); err != nil {
		return err
	}
	return w.bindings.Adopt(tx, binding.Binding{
		TopID: r.ID, Site: r.Site, Kind: r.Kind, ProjectID: r.ProjectID, BottomID: ident.BottomID(text(o, "id")), Generation: 1,
	})
}
