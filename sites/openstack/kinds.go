package openstack

import (
	"fmt"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// form is how a kind of resource looks on the wire.
type form struct {
	path   string // of the collection
	detail string // path of the listing with all members; "" is path
	one    string // outer key of one resource; "" when there is none (Glance)
	many   string // outer key of a listing
	inRow  bool   // each row of a listing has the outer key of one, too
	id     string // member that holds the id; "" is "id"
	change string // method of an update; "" when there is none
	all    [2]string
	paging paging
	beside []string // members of a Body that stand beside the outer key on the wire
}

// paging is how a listing is cut into pages.
type paging uint8

const (
	byLinks  paging = iota // limit and marker; the service links to the next page
	byOffset               // limit and offset, without links
	allInOne               // the service sends everything
)

var (
	allTenants  = [2]string{"all_tenants", "1"}
	allProjects = [2]string{"all_projects", "True"}
	hints       = []string{"os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"}
)

// forms has every kind that can be created, shown, listed and deleted.
var forms = map[sites.Kind]form{
	sites.Server:            {path: "servers", detail: "servers/detail", one: "server", many: "servers", change: "PUT", all: allTenants, beside: hints},
	sites.ServerGroup:       {path: "os-server-groups", one: "server_group", many: "server_groups", all: allProjects, paging: byOffset},
	sites.Keypair:           {path: "os-keypairs", one: "keypair", many: "keypairs", inRow: true, id: "name"},
	sites.Flavor:            {path: "flavors", detail: "flavors/detail", one: "flavor", many: "flavors", change: "PUT", all: [2]string{"is_public", "None"}},
	sites.Image:             {path: "images", many: "images", change: "PATCH"},
	sites.Network:           {path: "networks", one: "network", many: "networks", change: "PUT"},
	sites.Subnet:            {path: "subnets", one: "subnet", many: "subnets", change: "PUT"},
	sites.Port:              {path: "ports", one: "port", many: "ports", change: "PUT"},
	sites.Router:            {path: "routers", one: "router", many: "routers", change: "PUT"},
	sites.FloatingIP:        {path: "floatingips", one: "floatingip", many: "floatingips", change: "PUT"},
	sites.SecurityGroup:     {path: "security-groups", one: "security_group", many: "security_groups", change: "PUT"},
	sites.SecurityGroupRule: {path: "security-group-rules", one: "security_group_rule", many: "security_group_rules"},
	sites.Volume:            {path: "volumes", detail: "volumes/detail", one: "volume", many: "volumes", change: "PUT", all: allTenants, beside: hints},
	sites.Snapshot:          {path: "snapshots", detail: "snapshots/detail", one: "snapshot", many: "snapshots", change: "PUT", all: allTenants},
	sites.Backup:            {path: "backups", detail: "backups/detail", one: "backup", many: "backups", change: "PUT", all: allTenants},
	sites.VolumeType:        {path: "types", one: "volume_type", many: "volume_types", change: "PUT", all: [2]string{"is_public", "None"}},
	sites.Project:           {path: "projects", one: "project", many: "projects", change: "PATCH", paging: allInOne},
	sites.User:              {path: "users", one: "user", many: "users", change: "PATCH", paging: allInOne},
}

// formOf returns the form of a kind, or BadRequest for what a site does not hold by itself.
func (a *Adaptor) formOf(op string, kind sites.Kind) (form, error) {
	f, ok := forms[kind]
	if !ok {
		return f, &fault.Error{Op: op, Site: string(a.site), Kind: fault.BadRequest, Msg: fmt.Sprintf("a site holds no %s by itself", kind)}
	}
	return f, nil
}

// idOf returns a resource's id, or "".
func (f form) idOf(b sites.Body) string {
	if f.id != "" {
		return str(b[f.id])
	}
	return str(b["id"])
}

// unwrap takes the outer key off an answer.
func (f form) unwrap(b sites.Body) (sites.Body, bool) {
	if f.one == "" {
		return b, b != nil
	}
	inner, ok := b[f.one].(map[string]any)
	return inner, ok
}

// wrap puts the outer key on a body and lifts what stands beside it.
func (f form) wrap(b sites.Body) sites.Body {
	if f.one == "" {
		return b
	}
	inner, outer := b, sites.Body{}
	for _, key := range f.beside {
		if value, ok := b[key]; ok {
			if len(outer) == 0 {
				inner = copyBody(b)
			}
			outer[key] = value
			delete(inner, key)
		}
	}
	outer[f.one] = inner
	return outer
}

// copyBody copies a body's first level: the caller's stays as it is.
func copyBody(b sites.Body) sites.Body {
	c := make(sites.Body, len(b)+2)
	for k, v := range b {
		c[k] = v
	}
	return c
}
