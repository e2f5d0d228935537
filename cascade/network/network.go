// Package network knows what networks, subnets, ports, routers, floating IPs
// and security groups are: it validates each verb as Neutron would, gives
// addresses and MACs, records the result with its quota and references, and
// says how each kind becomes one at a site.
//
// It promises that a network answers before it is anywhere (cascade/README.md: Late placement), that
// an address which it gave is given once over all sites, and that what is in
// use cannot be deleted, whatever runs at the same time.
package network

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/crosssite/ipam"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Placer chooses sites and knows zones.
type Placer interface {
	Choose(ctx context.Context, w placement.Want) (placement.Decision, error)
	Zones(ctx context.Context, caller sites.Caller, service sites.Service) ([]placement.Zone, error)
}

// Config is what a Service is made of.
type Config struct {
	Core   *cascade.Core
	Placer Placer
	IPAM   *ipam.Store
	// Slice is the number of addresses of each subnet that a site keeps for itself; 0 means ipam.DefaultSlice.
	Slice int
}

// Service is the network vertical.
type Service struct {
	core   *cascade.Core
	placer Placer
	ipam   *ipam.Store
	slice  int
}

// The consumers' views that Service serves.
var (
	_ compute.Ports    = (*Service)(nil)
	_ compute.Networks = (*Service)(nil)
)

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Slice == 0 {
		cfg.Slice = ipam.DefaultSlice
	}
	return &Service{core: cfg.Core, placer: cfg.Placer, ipam: cfg.IPAM, slice: cfg.Slice}
}

// Register adds the makers of the service's kinds to its Core.
func (s *Service) Register() {
	s.core.Register(sites.Network, networkMaker{s})
	s.core.Register(sites.Subnet, subnetMaker{s})
	s.core.Register(sites.Port, portMaker{s})
	s.core.Register(sites.Router, routerMaker{s})
	s.core.Register(sites.FloatingIP, floatingMaker{s})
	s.core.Register(sites.SecurityGroup, groupMaker{s})
	s.core.Register(sites.SecurityGroupRule, ruleMaker{})
}

// Fields are the members of a request, in the wire's names, each of a type
// that its attribute allows: the caller has validated the form, not the meaning.
// The members "name" and "description" go to the row's columns, those under
// "extra" are unknown ones that go to the site as they are.
type Fields = map[string]any

// Change is an update of one resource.
type Change struct {
	ID     string // as the tenant gave it
	Fields Fields
	// Revision, when not nil, must be the row's revision number (If-Match); another one is *RevisionError.
	Revision *int64
}

// RevisionError says that a row is not in the revision that the request was made for. Its status is 412.
type RevisionError struct{ Wanted, Current int64 }

// Error returns Neutron's sentence.
func (e *RevisionError) Error() string {
	return fmt.Sprintf("Constrained to %d, but current revision is %d", e.Wanted, e.Current)
}

// Unwrap gives the error a kind for those who know no 412.
func (e *RevisionError) Unwrap() error {
	return &fault.Error{Op: "cascade/network", Kind: fault.Conflict, Msg: e.Error()}
}

// NeutronType names the exception.
func (*RevisionError) NeutronType() string { return "RevisionNumberConstraintFailed" }

// Core is the engine that the service records with, for reads.
func (s *Service) Core() *cascade.Core { return s.core }

// Find returns a row that the caller may see; the fault names the kind as Neutron does.
func (s *Service) Find(ctx context.Context, caller sites.Caller, kind sites.Kind, id string) (*index.Resource, error) {
	r, err := s.core.Index.Find(ctx, caller, kind, id)
	return seen(r, kind, id, err)
}

// seen hides what Top itself knows by its id only: see SubnetSpec.Unseen.
func seen(r *index.Resource, kind sites.Kind, id string, err error) (*index.Resource, error) {
	if err == nil && kind == sites.Subnet && !Listed(r) {
		r, err = nil, fault.New(fault.NotFound, "cascade/network", "subnet %s", id)
	}
	return r, notFound(kind, id, err)
}

// Outside returns the sites' external networks that are not shared too. A tenant sees such a network and not its subnets,
// as in Neutron: a subnet is seen by its own project, or with a shared network.
func (s *Service) Outside(ctx context.Context) (map[ident.TopID]bool, error) {
	rows, err := s.core.Index.List(ctx, index.Query{
		Kind: sites.Network, AllProjects: true, Shared: true, In: map[index.Field][]string{index.ByProject: {""}}, Bare: true,
	})
	if err != nil {
		return nil, err
	}
	out := map[ident.TopID]bool{}
	for _, r := range rows {
		spec, err := SpecOf[NetworkSpec](r)
		if err != nil {
			return nil, err
		}
		if spec.External && !spec.Shared {
			out[r.ID] = true
		}
	}
	return out, nil
}

// Listed reports whether lists show a subnet.
func Listed(r *index.Resource) bool {
	spec, err := SpecOf[SubnetSpec](r)
	return err != nil || !spec.Unseen
}

// siteSubnet finds a subnet that a floating IP or a gateway names, which may be one that Top knows by its id only.
func (s *Service) siteSubnet(ctx context.Context, caller sites.Caller, id ident.TopID) (*index.Resource, error) {
	r, err := s.core.Index.Find(ctx, caller, sites.Subnet, string(id))
	return r, notFound(sites.Subnet, string(id), err)
}

// find is Find inside a transaction.
func find(tx *cascade.Tx, kind sites.Kind, id string) (*index.Resource, error) {
	r, err := tx.Find(kind, id)
	return seen(r, kind, id, err)
}

// own is find for what the caller is about to change: what belongs to no project is the administrators'.
func own(tx *cascade.Tx, kind sites.Kind, id string) (*index.Resource, error) {
	r, err := find(tx, kind, id)
	if err != nil {
		return nil, err
	}
	switch {
	case r.ProjectID == "":
		return nil, typed(fault.Forbidden, "PolicyNotAuthorized", "%s %s belongs to the sites and is changed there.", title(kind), r.ID)
	case r.ProjectID != tx.Caller.ProjectID && !tx.Caller.Admin(): // another's, which it sees because it is shared
		return nil, typed(fault.Forbidden, "PolicyNotAuthorized", "%s %s belongs to another project.", title(kind), r.ID)
	}
	return r, nil
}

// changing is own with the precondition of a Change.
func changing(tx *cascade.Tx, kind sites.Kind, c Change) (*index.Resource, error) {
	r, err := own(tx, kind, c.ID)
	if err != nil {
		return nil, err
	}
	if c.Revision != nil && *c.Revision != r.Version {
		return nil, &RevisionError{Wanted: *c.Revision, Current: r.Version}
	}
	return r, nil
}

// newRow returns a row of the caller's, or of the project that an administrator named.
func newRow(kind sites.Kind, caller sites.Caller, f Fields) *index.Resource {
	r := index.New(kind, caller, "")
	r.State = index.Live
	if p, _ := f["tenant_id"].(string); p != "" {
		r.ProjectID = p
	}
	columns(r, f)
	return r
}

// columns takes the members that are columns of the row.
func columns(r *index.Resource, f Fields) {
	if name, ok := f["name"].(string); ok {
		r.Name = name
	}
	if text, ok := f["description"]; ok {
		r.Description, _ = text.(string)
	}
}

// place gives a row that was just inserted the site of its network, and has it made there; it returns the row as it is then. A
// network that is placed has all that is connected to it placed, so that looking at the network alone is enough, and
// costs the same on a network of ten thousand ports.
func place(tx *cascade.Tx, r, network *index.Resource) (*index.Resource, error) {
	if network.Site == "" || network.Site == r.Site {
		return r, nil
	}
	if err := tx.Place(network.Site, r.ID); err != nil {
		return nil, err
	}
	return tx.Load(r.ID)
}

// arrive has a row made at the site that it was just given.
func arrive(tx *cascade.Tx, r *index.Resource) error {
	_, err := tx.Make(r)
	return err
}
