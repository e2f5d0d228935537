package compute

import (
	"encoding/json"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ServerSpec is the desired state of a server beyond the columns of its row.
type ServerSpec struct {
	Size                           // of the flavor, as it was when the server got it
	FlavorName   string            `json:"flavor_name"`
	FlavorSpecs  map[string]string `json:"flavor_specs,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	Tags         []string          `json:"tags,omitempty"`
	Description  *string           `json:"description"` // nil is null on the wire
	Groups       []ident.TopID     `json:"groups,omitempty"`
	Ports        []PortUse         `json:"ports,omitempty"`
	Volumes      []VolumeUse       `json:"volumes,omitempty"`
	Blocks       []Block           `json:"blocks,omitempty"` // as sent down at creation
	BottomZone   string            `json:"bottom_zone,omitempty"`
	UserData     string            `json:"user_data,omitempty"` // base64
	ConfigDrive  bool              `json:"config_drive,omitempty"`
	DiskConfig   string            `json:"disk_config"` // AUTO or MANUAL
	Hostname     string            `json:"hostname,omitempty"`
	TrustedCerts []string          `json:"trusted_certs,omitempty"`
	ServerGroup  ident.TopID       `json:"server_group,omitempty"`
	Keypair      ident.TopID       `json:"keypair,omitempty"`
	Hints        sites.Body        `json:"hints,omitempty"` // but the group
	AccessIPv4   string            `json:"access_ipv4,omitempty"`
	AccessIPv6   string            `json:"access_ipv6,omitempty"`
	Reservation  string            `json:"reservation"`
	LaunchIndex  int               `json:"launch_index"`
	Locked       bool              `json:"locked,omitempty"`
	LockedReason *string           `json:"locked_reason,omitempty"`
	LockedBy     string            `json:"locked_by,omitempty"` // owner or admin
	OldFlavor    *OldFlavor        `json:"old_flavor,omitempty"`
	Leaving      string            `json:"leaving,omitempty"`   // status that an accepted verb is to end; the site's own shows it for a while yet
	Detaching    []ident.TopID     `json:"detaching,omitempty"` // volumes that an accepted verb takes away
	NoNetwork    bool              `json:"no_network,omitempty"`
	Waiting      []Waiting         `json:"waiting,omitempty"` // accepted verbs that wait for what they need
	Refused      *index.Fault      `json:"refused,omitempty"` // why the last of them came to nothing; the next verb clears it
	Saving       []Saving          `json:"saving,omitempty"`  // images that the site was told to make
	// Secret members are wiped once the site has them.
	AdminPass   string `json:"admin_pass,omitempty"`
	Personality []File `json:"personality,omitempty"`
	// Extra are the members that Headwater does not know; the site decides on them.
	Extra map[string]json.RawMessage `json:"extra,omitempty"`
}

// Size is what a flavor gives a server. Placement reads the first three.
type Size struct {
	VCPUs     int64 `json:"vcpus"`
	RAM       int64 `json:"ram"`  // MiB
	Disk      int64 `json:"disk"` // GiB
	Ephemeral int64 `json:"ephemeral"`
	Swap      int64 `json:"swap"` // MiB
}

// OldFlavor is what a resized server goes back to on revert.
type OldFlavor struct {
	ID    ident.TopID       `json:"id"`
	Size  Size              `json:"size"`
	Name  string            `json:"name"`
	Specs map[string]string `json:"specs,omitempty"`
}

// PortUse is a port of a server.
type PortUse struct {
	ID  ident.TopID `json:"id"`
	Own bool        `json:"own,omitempty"` // made by Top for the server, and goes with it
	Tag string      `json:"tag,omitempty"`
	// Pending is when an attach began whose end is not known; zero for a port that the server has.
	Pending time.Time `json:"pending,omitzero"`
}

// VolumeUse is a volume of a server.
type VolumeUse struct {
	ID     ident.TopID `json:"id"`
	Device string      `json:"device,omitempty"`
	Tag    string      `json:"tag,omitempty"`
	Delete bool        `json:"delete,omitempty"` // with the server
	Boot   bool        `json:"boot,omitempty"`
}

// Block is one block device as it is sent to the site, volumes and images by their Top ids.
type Block struct {
	Source      string      `json:"source"`      // image, volume, blank
	Destination string      `json:"destination"` // local, volume
	ID          ident.TopID `json:"id,omitempty"`
	BootIndex   *int        `json:"boot_index,omitempty"`
	SizeGiB     int64       `json:"size,omitempty"`
	Delete      bool        `json:"delete,omitempty"`
	Device      string      `json:"device,omitempty"`
	Format      string      `json:"format,omitempty"`
	DeviceType  string      `json:"device_type,omitempty"`
	Bus         string      `json:"bus,omitempty"`
	Tag         string      `json:"tag,omitempty"`
}

// File is a file to inject (microversions up to 2.56).
type File struct {
	Path     string `json:"path"`
	Contents string `json:"contents"` // base64
}

// Server is a server row with its desired state decoded.
type Server struct {
	*index.Resource
	Spec ServerSpec
}

func decodeServer(r *index.Resource) (*Server, error) {
	s := &Server{Resource: r}
	return s, r.Decode(&s.Spec)
}

// encode writes the spec into the row; the row is saved by the caller.
func (s *Server) encode() error { return s.Encode(&s.Spec) }
