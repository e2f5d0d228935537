// Package sites says what a bottom cloud is: the kinds of resource it holds,
// the calls that an adaptor to it answers, and what a probe learns about it.
// Everything above talks to a site through Adaptor and nothing else.
package sites

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Kind names a sort of resource, in OpenStack's own singular word.
type Kind string

// The kinds that Top holds and that an adaptor can create, show, list and delete.
const (
	Server            Kind = "server"
	ServerGroup       Kind = "server_group"
	Keypair           Kind = "keypair"
	Flavor            Kind = "flavor"
	Image             Kind = "image"
	Network           Kind = "network"
	Subnet            Kind = "subnet"
	Port              Kind = "port"
	Router            Kind = "router"
	FloatingIP        Kind = "floatingip"
	SecurityGroup     Kind = "security_group"
	SecurityGroupRule Kind = "security_group_rule"
	Volume            Kind = "volume"
	Snapshot          Kind = "snapshot" // of a volume
	Backup            Kind = "backup"   // of a volume
	VolumeType        Kind = "volume_type"
	// RouterInterface is a binding kind only: a router's leg in a subnet, made at the site through a pre-made marked port.
	RouterInterface Kind = "router_interface"
	// Project and User are binding kinds only: what Top made at a site under the tenancy "project".
	Project Kind = "project"
	User    Kind = "user"
)

// Service names an OpenStack service by its official type (service-types-authority).
type Service string

// The services that a site may offer.
const (
	Identity     Service = "identity"
	Compute      Service = "compute"
	ImageService Service = "image"
	NetworkSvc   Service = "network"
	BlockStorage Service = "block-storage"
	Placement    Service = "placement"
)

// Service returns the service that holds resources of the kind.
func (k Kind) Service() Service {
	switch k {
	case Server, ServerGroup, Keypair, Flavor:
		return Compute
	case Image:
		return ImageService
	case Volume, Snapshot, Backup, VolumeType:
		return BlockStorage
	case Project, User:
		return Identity
	default:
		return NetworkSvc
	}
}

// Body is one JSON object as a service sends or takes it, without the outer
// singular key ("server", "port"). Numbers are json.Number, so that nothing is
// rounded; members that Headwater does not know are kept.
type Body = map[string]any

// Object is a resource as a site showed it.
type Object struct {
	ID   ident.BottomID
	Body Body
	// Began is when the request that brought it was sent, by our clock: what
	// happened at the site after Began may not show in Body.
	Began time.Time
}

// Text returns the string member named key of the body, or "".
func (o Object) Text(key string) string {
	s, _ := o.Body[key].(string)
	return s
}

// CreateOptions accompany a Create.
type CreateOptions struct {
	// Marker is the Top id that the new resource is marked with, in the way that its kind allows (Marking).
	// It is required for every kind that Marking names.
	Marker ident.TopID
}

// Query selects what List returns.
type Query struct {
	// Params go into the request's query string as they are (filters in the service's own words).
	Params url.Values
	// AllProjects asks for the resources of every project; the account must be an administrator there.
	AllProjects bool
	// PageSize is the number of rows asked for at a time, in [1, 1000]; 0 means 500.
	PageSize int
}

// Request is one call in the service's own dialect, for the verbs that Create,
// Show, List, Update and Delete do not cover.
type Request struct {
	Service Service
	Method  string
	// Path is below the service's project endpoint, without a leading slash or
	// version: "servers/ID/action", "ports", "volumes/ID/action".
	Path  string
	Query url.Values
	// Body is encoded as JSON; nil sends none. An io.Reader is sent as it is, with Header's Content-Type.
	Body   any
	Header http.Header
	// Idempotent says that carrying the call out twice is the same as once; a
	// lost reply is then fault.Unavailable and not fault.Ambiguous. GET, HEAD, PUT and DELETE are so by themselves.
	Idempotent bool
	// Microversion overrides the one that the adaptor chose for the service ("2.79"); "" keeps it.
	Microversion string
}

// Reply is the answer to a Request that the site accepted (2xx).
type Reply struct {
	Status int
	Header http.Header
	Body   Body // nil when the answer had no JSON object
	Began  time.Time
}

// Account is as whom an adaptor acts at its site, as the site itself says.
type Account struct {
	UserID      string
	UserName    string
	ProjectID   string
	ProjectName string
	DomainID    string // of the project
	Roles       []string
	ExpiresAt   time.Time // of the token in use
}

// Adaptor speaks to one site as one account (one user in one project). It is
// safe for concurrent use.
//
// Every method returns a *fault.Error with Site and, where the site sent one,
// RequestID set. Its kinds mean: NotFound, Conflict, BadRequest, Forbidden,
// OverQuota, TooLarge, NotImplemented as the site said; Unauthorized when the
// site refuses the account's credential; Unavailable when the call was
// certainly not carried out or is safe to repeat (refused connection, 429,
// 503, time-out of an idempotent call); Ambiguous when a call that must not be
// repeated blindly has no definite answer (lost connection, time-out, 500,
// 502, 504). Deadlines come from ctx; an adaptor adds its own limit per call.
type Adaptor interface {
	// Site returns the name of the site.
	Site() ident.SiteID
	// Account returns as whom the adaptor acts, from the token in use.
	Account(ctx context.Context) (Account, error)
	// Probe reads what the site offers and what the account may do.
	Probe(ctx context.Context) (Capabilities, error)

	// Create makes one resource from body and marks it. The answer may lack
	// members that the site fills in later.
	Create(ctx context.Context, kind Kind, body Body, opts CreateOptions) (Object, error)
	// Show reads one resource.
	Show(ctx context.Context, kind Kind, id ident.BottomID) (Object, error)
	// List calls each for every selected resource, page by page, until each
	// returns an error, which it then returns as it is.
	List(ctx context.Context, kind Kind, q Query, each func(Object) error) error
	// Update changes the members that body names.
	Update(ctx context.Context, kind Kind, id ident.BottomID, body Body) (Object, error)
	// Delete asks for the end of a resource; NotFound means that it is gone already.
	Delete(ctx context.Context, kind Kind, id ident.BottomID) error
	// FindMarked returns the account's resources of the kind that carry the
	// marker, each checked again in the returned rows. More than one is possible after a lost reply.
	FindMarked(ctx context.Context, kind Kind, marker ident.TopID) ([]Object, error)

	// Do makes one call in the service's own dialect.
	Do(ctx context.Context, r Request) (Reply, error)
	// Upload sends the bytes of an image that is queued at the site. Size is -1 when unknown.
	Upload(ctx context.Context, image ident.BottomID, data io.Reader, size int64) error
	// Download returns the bytes of an image from offset on and their number, -1 when unknown. The caller closes.
	Download(ctx context.Context, image ident.BottomID, offset int64) (io.ReadCloser, int64, error)
}

// ProjectMaker is what an administrator's adaptor can do besides: give a Top
// project its own project and ordinary member at the site (tenancy "project").
type ProjectMaker interface {
	// EnsureProject makes, or finds, the project named name and in it an ordinary member named name with the
	// given password and the site's member role, and returns their ids. It may be repeated: a user that is
	// there gets the password.
	EnsureProject(ctx context.Context, name, description string, password ident.Secret) (projectID, userID string, err error)
	// DeleteProject removes the user and the project; NotFound counts as done.
	DeleteProject(ctx context.Context, projectID, userID string) error
	// SetQuota writes native limits of a project: by service, the service's own names. -1 is unlimited.
	SetQuota(ctx context.Context, projectID string, limits map[Service]map[string]int64) error
}

// MarkerText is how a Top id is spelled in a marker: "hw:" and the id.
func MarkerText(id ident.TopID) string { return "hw:" + string(id) }

// MarkedName is how a Top id is spelled where a name is the marker (keypair, server group, backup): "hw-" and the id.
func MarkedName(id ident.TopID) string { return "hw-" + string(id) }
