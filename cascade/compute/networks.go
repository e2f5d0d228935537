package compute

import (
	"context"
	"regexp"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// wantedNetwork is one entry of "networks" with its row found: a network or a port.
type wantedNetwork struct {
	NetworkRequest
	network *index.Resource
	port    *index.Resource
}

func (w wantedNetwork) row() *index.Resource {
	if w.port != nil {
		return w.port
	}
	return w.network
}

var uuid = regexp.MustCompile(`^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$`)

func (s *Service) planNetworks(ctx context.Context, p *plan) error {
	switch p.req.NetworkMode {
	case "none":
		return nil
	case "list":
		return s.planListed(ctx, p)
	}
	usable, err := s.networks.Usable(ctx, p.caller)
	if err != nil {
		return err
	}
	switch {
	case len(usable) > 1:
		return fault.New(fault.Conflict, "cascade/compute.CreateServers", "Multiple possible networks found, use a Network ID to be more specific.")
	case len(usable) == 1:
		p.networks = []wantedNetwork{{network: usable[0]}}
	case p.req.NetworkMode == "auto":
		return badRequest("Unable to automatically allocate a network for project %s", p.caller.ProjectID)
	}
	return nil
}

func (s *Service) planListed(ctx context.Context, p *plan) error {
	for _, n := range p.req.Networks {
		w := wantedNetwork{NetworkRequest: n}
		var err error
		if n.Port != "" {
			w.port, err = s.planPort(ctx, p, n)
		} else {
			w.network, err = s.planNetwork(ctx, p, n)
		}
		if err != nil {
			return err
		}
		p.networks = append(p.networks, w)
	}
	return nil
}

func (s *Service) planNetwork(ctx context.Context, p *plan, n NetworkRequest) (*index.Resource, error) {
	if !uuid.MatchString(n.Network) {
		return nil, badRequest("Bad networks format: network uuid is not in proper format (%s)", n.Network)
	}
	if n.FixedIP != "" && p.req.Max > 1 {
		return nil, badRequest("Invalid fixed IP Address in conjunction with the count of servers: %s.", n.FixedIP)
	}
	r, err := s.core.Index.Find(ctx, p.caller, sites.Network, n.Network)
	if fault.Is(err, fault.NotFound) {
		return nil, badRequest("Network %s could not be found.", n.Network)
	}
	if err != nil {
		return nil, err
	}
	return r, foreign(p, r)
}

// foreign refuses what only an administrator's role lets the caller see: at a site a server is made by an ordinary
// member of its own project, who does not see it, and it would end in ERROR. A shared network is shared with that member there.
func foreign(p *plan, r *index.Resource) error {
	if r == nil || r.ProjectID == "" || r.ProjectID == p.caller.ProjectID || r.Visibility == index.ForAll {
		return nil
	}
	return fault.New(fault.Conflict, "cascade/compute.CreateServers",
		"The %s %s belongs to another project: at a site a server is made by a member of its own project, who cannot use it.", r.Kind, r.ID)
}

func (s *Service) planPort(ctx context.Context, p *plan, n NetworkRequest) (*index.Resource, error) {
	if p.req.Max > 1 {
		return nil, badRequest("Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.")
	}
	r, err := s.core.Index.Find(ctx, p.caller, sites.Port, n.Port)
	if fault.Is(err, fault.NotFound) {
		return nil, badRequest("Port id %s could not be found.", n.Port)
	}
	if err != nil {
		return nil, err
	}
	if r.DeviceID != "" {
		return nil, portInUse(r.ID)
	}
	return r, foreign(p, r)
}

func portInUse(id ident.TopID) error {
	return fault.New(fault.Conflict, "cascade/compute.CreateServers", "Port %s is still in use.", id)
}

// givePorts places the server's networks at its site, and records or binds its ports.
func (s *Service) givePorts(tx *cascade.Tx, p *plan, one *Server) error {
	var place []ident.TopID
	for _, n := range p.networks {
		if r := n.row(); r.ProjectID != "" {
			place = append(place, r.ID)
		}
	}
	if err := s.placer.PlaceComponent(tx, one.Site, place...); err != nil {
		return err
	}
	for _, n := range p.networks {
		port, own := n.port, false
		var err error
		if port != nil {
			if port, err = tx.Load(port.ID); err == nil {
				err = s.ports.Bind(tx, port, one.ID, p.req.Zone)
			}
		} else {
			own = true
			port, err = s.ports.Allocate(tx, PortRequest{
				Server: one.ID, Network: n.network, FixedIP: n.FixedIP, Groups: one.Spec.Groups, Zone: p.req.Zone, Site: one.Site, Project: one.ProjectID,
			})
		}
		if err != nil {
			return err
		}
		one.Spec.Ports = append(one.Spec.Ports, PortUse{ID: port.ID, Own: own, Tag: n.Tag})
	}
	return nil
}

// groupsFor finds the security groups that a request names, the project's default when it names none.
func (s *Service) groupsFor(tx *cascade.Tx, p *plan) ([]ident.TopID, error) {
	if len(p.networks) == 0 {
		return nil, nil
	}
	names := p.req.Groups
	if len(names) == 0 {
		names = []string{"default"}
	}
	var out []ident.TopID
	for _, name := range names {
		g, err := s.findGroup(tx, name)
		if fault.Is(err, fault.NotFound) {
			return nil, badRequest("Security group %s not found for project %s.", name, p.caller.ProjectID)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, g.ID)
	}
	return out, nil
}

// findGroup finds a security group of the caller's project by id or name; two of one name are fault.Conflict.
func (s *Service) findGroup(tx *cascade.Tx, name string) (*index.Resource, error) {
	if name == "default" {
		return s.networks.DefaultGroup(tx, tx.Caller.ProjectID)
	}
	g, err := tx.Find(sites.SecurityGroup, name)
	if !fault.Is(err, fault.NotFound) {
		return g, err
	}
	found, err := s.core.Index.ListIn(tx.Tx, index.Query{
		Kind: sites.SecurityGroup, Project: tx.Caller.ProjectID, In: map[index.Field][]string{index.ByName: {name}}, Limit: 2,
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, index.NotFound(sites.SecurityGroup, name)
	case len(found) > 1:
		return nil, fault.New(fault.Conflict, "cascade/compute.findGroup", "Multiple security_group matches found for name '%s', use an ID to be more specific.", name)
	}
	return found[0], nil
}

// SecurityGroups lists the security groups of the caller's project, for Nova's old proxy of them.
func (s *Service) SecurityGroups(ctx context.Context, caller sites.Caller) ([]*index.Resource, error) {
	return s.core.Index.List(ctx, index.Query{Kind: sites.SecurityGroup, Project: caller.ProjectID, Pin: caller.Pin, Sort: []index.Sort{{Field: index.ByName}}})
}
