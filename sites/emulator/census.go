package emulator

import (
	"maps"
	"slices"
	"strings"
)

// Server is one server as tests look at it.
type Server struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Project  string            `json:"project_id"`
	Status   string            `json:"status"`
	Task     string            `json:"task_state,omitempty"`
	Host     string            `json:"host,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Ports    []string          `json:"ports,omitempty"`
	Volumes  []string          `json:"volumes,omitempty"`
}

// Servers returns every server that is not deleted, oldest first.
func (c *Cloud) Servers() []Server {
	var out []Server
	c.read(func() {
		for _, s := range c.compute.servers.all {
			v := Server{ID: s.ID, Name: s.name, Project: s.Project, Status: s.status(), Task: s.task, Zone: s.shownZone(), Tags: slices.Clone(s.tags), Metadata: maps.Clone(s.meta)}
			if s.host != nil {
				v.Host = s.host.name
			}
			for _, p := range c.network.byDevice[s.ID] {
				v.Ports = append(v.Ports, p.ID)
			}
			for _, a := range s.attached {
				v.Volumes = append(v.Volumes, a.volume.ID)
			}
			out = append(out, v)
		}
	})
	return out
}

// Resource is one thing that exists at the cloud.
type Resource struct {
	Kind    string `json:"kind"` // server, image, network, subnet, port, router, security_group, floatingip, volume, snapshot, backup, keypair, server_group, flavor, project, user
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Project string `json:"project_id,omitempty"` // of a keypair: the user's id
	// Markers are the texts of the form hw:ID or hw-ID that the resource carries: tags, values of metadata and image
	// properties, description, name.
	Markers []string `json:"markers,omitempty"`
	// Auto is true for what the cloud made by itself: seeded things, default groups, DHCP, gateway and floating ports,
	// ports that Nova made for a server.
	Auto bool `json:"auto,omitempty"`
}

// Everything returns all that exists, kind by kind, oldest first: what a test
// compares before and after to see that nothing was left behind or made twice.
func (c *Cloud) Everything() []Resource {
	var out []Resource
	c.read(func() {
		out = append(out, c.computeResources()...)
		out = append(out, c.networkResources()...)
		for _, i := range c.image.images.all {
			texts := append(slices.Collect(maps.Values(i.props)), i.tags...)
			out = append(out, Resource{Kind: "image", ID: i.ID, Name: i.name, Project: i.Project, Markers: markers(append(texts, i.name)...), Auto: i.props["image_type"] == "snapshot" && strings.HasSuffix(i.name, "-shelved")})
		}
		out = append(out, c.volumeResources()...)
		for _, p := range c.identity.projects.all {
			out = append(out, Resource{Kind: "project", ID: p.ID, Name: p.name, Markers: markers(append(p.tags, p.name, p.description)...), Auto: slices.Contains([]string{"admin", "demo", "service"}, p.name)})
		}
		for _, u := range c.identity.users.all {
			out = append(out, Resource{Kind: "user", ID: u.ID, Name: u.name, Markers: markers(u.name), Auto: u.name == "admin" || u.name == "demo"})
		}
	})
	return out
}

// markers picks the texts that mark a resource as made for somebody, each once, in order.
func markers(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if strings.HasPrefix(t, "hw:") || strings.HasPrefix(t, "hw-") {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *Cloud) computeResources() []Resource {
	var out []Resource
	for _, s := range c.compute.servers.all {
		texts := append(slices.Collect(maps.Values(s.meta)), s.tags...)
		out = append(out, Resource{Kind: "server", ID: s.ID, Name: s.name, Project: s.Project, Markers: markers(texts...)})
	}
	for _, f := range c.compute.flavors.all {
		out = append(out, Resource{Kind: "flavor", ID: f.ID, Name: f.name, Markers: markers(f.name, f.ID), Auto: strings.HasPrefix(f.name, "m1.")})
	}
	for _, user := range slices.Sorted(maps.Keys(c.compute.keys)) {
		for _, name := range slices.Sorted(maps.Keys(c.compute.keys[user])) {
			out = append(out, Resource{Kind: "keypair", ID: name, Name: name, Project: user, Markers: markers(name)})
		}
	}
	for _, g := range c.compute.groups.all {
		out = append(out, Resource{Kind: "server_group", ID: g.ID, Name: g.name, Project: g.Project, Markers: markers(g.name)})
	}
	return out
}

func netRows[T netResource](kind string, list []T, auto func(T) bool) []Resource {
	var out []Resource
	for _, r := range list {
		m := r.meta()
		out = append(out, Resource{Kind: kind, ID: r.base().ID, Name: m.name, Project: r.base().Project, Markers: markers(append(slices.Clone(m.tags), m.description, m.name)...), Auto: auto(r)})
	}
	return out
}

func (c *Cloud) networkResources() []Resource {
	n := &c.network
	out := netRows("network", n.networks.all, func(x *network) bool { return x.name == "public" && x.external })
	out = append(out, netRows("subnet", n.subnets.all, func(x *subnet) bool { return x.name == "public-v4" && x.network.external })...)
	out = append(out, netRows("port", n.ports.all, func(p *port) bool {
		s, found := c.compute.servers.get(p.deviceID)
		return strings.HasPrefix(p.owner, "network:") || found && !slices.Contains(s.given, p.ID)
	})...)
	out = append(out, netRows("router", n.routers.all, func(*router) bool { return false })...)
	out = append(out, netRows("security_group", n.groups.all, func(g *secGroup) bool { return g.name == "default" })...)
	return append(out, netRows("floatingip", n.fips.all, func(*floatingIP) bool { return false })...)
}

func (c *Cloud) volumeResources() []Resource {
	var out []Resource
	for _, v := range c.volume.volumes.all {
		out = append(out, Resource{Kind: "volume", ID: v.ID, Name: v.name, Project: v.Project, Markers: markers(append(slices.Collect(maps.Values(v.meta)), v.name)...)})
	}
	for _, s := range c.volume.snapshots.all {
		out = append(out, Resource{Kind: "snapshot", ID: s.ID, Name: s.name, Project: s.Project, Markers: markers(append(slices.Collect(maps.Values(s.meta)), s.name)...)})
	}
	for _, b := range c.volume.backups.all {
		out = append(out, Resource{Kind: "backup", ID: b.ID, Name: b.name, Project: b.Project, Markers: markers(append(slices.Collect(maps.Values(b.meta)), b.name)...)})
	}
	return out
}

// Census counts what tenants have: by project id, then by kind. What the cloud
// made by itself is not counted, nor are projects, users and flavors; keypairs
// are counted under the id of their user.
func (c *Cloud) Census() map[string]map[string]int {
	out := map[string]map[string]int{}
	for _, r := range c.Everything() {
		if r.Auto || r.Project == "" {
			continue
		}
		if out[r.Project] == nil {
			out[r.Project] = map[string]int{}
		}
		out[r.Project][r.Kind]++
	}
	return out
}

// ProjectID returns the id of a project by name; "" when there is none.
func (c *Cloud) ProjectID(name string) string {
	id := ""
	c.read(func() {
		if p := c.projectNamed(name); p != nil {
			id = p.ID
		}
	})
	return id
}
