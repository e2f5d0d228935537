// Package compute knows what servers, flavors, keypairs and server groups are:
// it validates each verb as Nova would, records it with its quota and
// references, and says how each kind becomes one at a site. It promises that
// what it accepted ends done or in an error that the resource shows, and that
// every id in its answers is Top's.
package compute

import (
	"context"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Placer chooses sites and knows zones.
type Placer interface {
	Choose(ctx context.Context, w placement.Want) (placement.Decision, error)
	PlaceComponent(tx *cascade.Tx, site ident.SiteID, ids ...ident.TopID) error
	Zones(ctx context.Context, caller sites.Caller, service sites.Service) ([]placement.Zone, error)
}

// Explainer decides without recording anything.
type Explainer interface {
	Explain(ctx context.Context, w placement.Want) (placement.Decision, error)
}

// Registry gives the sites as they are now.
type Registry interface {
	Sites(ctx context.Context) ([]registry.Site, error)
}

// PortRequest is what a server asks of a network.
type PortRequest struct {
	Server  ident.TopID // the port's device
	Network *index.Resource
	FixedIP string        // "" for any address
	Groups  []ident.TopID // security groups
	Zone    string        // of the server, for the port's device_owner
	Site    ident.SiteID  // where the server goes
	Project string        // of the server
}

// Ports makes, binds and frees the ports of servers, within the server's transaction.
type Ports interface {
	// Allocate records a port with an address and MAC in the network, bound to the server, in state Creating.
	Allocate(tx *cascade.Tx, want PortRequest) (*index.Resource, error)
	// Bind gives a tenant's own port to a server; fault.Conflict when another device has it.
	Bind(tx *cascade.Tx, port *index.Resource, server ident.TopID, zone string) error
	// Unbind takes a port from its server: one that Top made for the server is deleted, the tenant's own stays.
	Unbind(tx *cascade.Tx, port *index.Resource, own bool) error
}

// Networks knows what a server's networks look like to its owner.
type Networks interface {
	// DefaultGroup returns the project's security group "default", recording it on first use.
	DefaultGroup(tx *cascade.Tx, project string) (*index.Resource, error)
	// Usable returns the networks that a server of the project may use without naming them.
	Usable(ctx context.Context, caller sites.Caller) ([]*index.Resource, error)
	// Interfaces returns the ports of servers, in the order of their creation.
	Interfaces(ctx context.Context, servers ...ident.TopID) (map[ident.TopID][]Interface, error)
	// Regroup replaces the security groups of a port.
	Regroup(tx *cascade.Tx, port *index.Resource, groups []ident.TopID) error
}

// Interface is one port of a server.
type Interface struct {
	Port        ident.TopID
	Network     ident.TopID
	NetworkName string
	MAC         string
	Status      string // ACTIVE, DOWN, BUILD
	Fixed       []FixedIP
	Groups      []ident.TopID
}

// FixedIP is an address of a port, and the floating address that leads to it.
type FixedIP struct {
	Subnet   ident.TopID
	IP       string
	Floating string // "" when none
}

// VolumeRequest is a volume that a server is to boot from or to have.
type VolumeRequest struct {
	Server   ident.TopID
	Site     ident.SiteID
	Zone     string      // of the server, as the tenant gave it
	Image    ident.TopID // source; at most one of Image and Snapshot
	Snapshot ident.TopID
	SizeGiB  int64 // 0 with a snapshot: its size
	Type     string
}

// Volumes makes volumes for servers and records who has which.
type Volumes interface {
	// Create records a volume for a server, in state Creating, with its quota.
	Create(tx *cascade.Tx, want VolumeRequest) (*index.Resource, error)
	// HoldSnapshots takes the quota of a snapshot of each volume, and returns what it took.
	HoldSnapshots(tx *cascade.Tx, project string, volumes []ident.TopID) (map[string]int64, error)
	// AdoptSnapshot records, idempotently, a snapshot that the site made by itself, under the id that the site gave it.
	AdoptSnapshot(tx *cascade.Tx, site ident.SiteID, found FoundSnapshot) error
}

// FoundSnapshot is a volume snapshot that a site made by itself.
type FoundSnapshot struct {
	Volume ident.TopID
	Object sites.Object // as the site shows it
}

// SnapshotRequest is an image that a site is making of a server.
type SnapshotRequest struct {
	Bottom ident.BottomID // the image's id at the site, which becomes its Top id
	Site   ident.SiteID
	Name   string
	Server *index.Resource
	// Metadata are the image's properties, as the tenant gave them.
	Metadata map[string]string
	// Mapping are the properties that name the volume snapshots which it boots from; nil for an image with bytes.
	Mapping map[string]string
}

// Images finds images and records those that sites make of servers.
type Images interface {
	// Find returns an image that the caller may use: its project's, public, community or shared with it.
	Find(ctx context.Context, caller sites.Caller, id string) (*index.Resource, error)
	// Snapshot records, idempotently, the image with the id that the site gave it.
	Snapshot(tx *cascade.Tx, made SnapshotRequest) (*index.Resource, error)
}

// Config is what a Service is made of.
type Config struct {
	Core     *cascade.Core
	Placer   Placer
	Registry Registry
	Ports    Ports
	Networks Networks
	Volumes  Volumes // nil: servers cannot bring new volumes
	Images   Images  // nil: servers cannot be saved as images
}

// Service is the compute vertical.
type Service struct {
	core     *cascade.Core
	placer   Placer
	registry Registry
	ports    Ports
	networks Networks
	volumes  Volumes
	images   Images
}

// New returns a Service.
func New(cfg Config) *Service {
	return &Service{
		core: cfg.Core, placer: cfg.Placer, registry: cfg.Registry, ports: cfg.Ports, networks: cfg.Networks,
		volumes: cfg.Volumes, images: cfg.Images,
	}
}

// Register adds the makers of the service's kinds to its Core.
func (s *Service) Register() {
	s.core.Register(sites.Server, serverMaker{s})
	s.core.Register(sites.Flavor, flavorMaker{s})
	s.core.Register(sites.Keypair, keypairMaker{s})
	s.core.Register(sites.ServerGroup, groupMaker{s})
}
