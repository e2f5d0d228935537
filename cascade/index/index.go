// Package index holds Top's own record of every resource: each list and show
// is answered from it and never from a site (cascade/README.md: Index). It keeps what the
// tenant asked for, what the site was last seen to hold, and the state of the
// verbs between the two.
package index

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// State is where a resource is in its life at Top, whatever its wire status says.
type State string

// The states.
const (
	// Creating: accepted, a job is to make it true at a site.
	Creating State = "creating"
	// Live: it exists for its tenant. A network that is not placed yet is live without a site.
	Live State = "live"
	// Failed: the create ended in an error that Fault tells; it can only be deleted.
	Failed State = "failed"
	// Deleting: the delete was accepted. It is hidden where the kind's API hides it at once; its address and
	// quota stay taken until the site confirms.
	Deleting State = "deleting"
	// Deleted: gone everywhere. The row stays for changes-since, and for the sweep of what a site makes late.
	Deleted State = "deleted"
)

// ForAll is the visibility of what a project owns and all may see and use: a shared network with its subnets (SetForAll).
const ForAll = "all"

// forAll is the role and the target of the reference that lists find such rows by.
const forAll = "for_all"

// Fault is why a resource or its last verb failed, as the tenant may read it.
type Fault struct {
	Code      int          `json:"code"` // an HTTP status that fits
	Message   string       `json:"message"`
	Site      ident.SiteID `json:"site,omitempty"`
	RequestID string       `json:"request_id,omitempty"` // of the bottom
	At        time.Time    `json:"at"`
}

// Resource is one row of the index. Rows are values: changing one changes
// nothing until a Store method takes it.
type Resource struct {
	ID            ident.TopID
	Kind          sites.Kind
	ProjectID     string // "" for what belongs to no project
	UserID        string
	Site          ident.SiteID // "" while unplaced, and for what lives at several sites
	Name          string
	Description   string
	State         State
	Status        string // as the kind's API spells it
	TaskState     string // servers; "" elsewhere
	Fault         *Fault
	ParentID      ident.TopID // network of a subnet or port, group of a rule, volume of a snapshot
	Zone          string      // exactly as the tenant gave it
	FlavorID      ident.TopID
	ImageID       ident.TopID
	KeyName       string
	DeviceID      ident.TopID // server or router that a port belongs to; server that a volume is attached to
	Visibility    string      // images; ForAll
	Spec          json.RawMessage
	Observed      sites.Body // nil when never observed; references are Top ids
	ObservedAdmin sites.Body
	ObservedAt    time.Time // zero when never
	VerbNo        int64     // number of the last accepted verb
	VerbAckedNo   int64     // number of the last verb that the site acknowledged (or refused)
	VerbAckedAt   time.Time
	MissingSince  time.Time
	Generation    int64
	Applied       int64
	Version       int64
	CreatedAt     time.Time
	UpdatedAt     time.Time
	LaunchedAt    time.Time
	DeletedAt     time.Time
}

// Outstanding reports whether a verb was accepted that the site has not acknowledged yet.
func (r *Resource) Outstanding() bool { return r.VerbNo > r.VerbAckedNo }

// Decode reads the desired state into spec, a pointer to the kind's own type.
func (r *Resource) Decode(spec any) error {
	if err := json.Unmarshal(r.Spec, spec); err != nil {
		return fmt.Errorf("decode spec of %s %s: %w", r.Kind, r.ID, err)
	}
	return nil
}

// Encode writes spec, the kind's own type, as the desired state.
func (r *Resource) Encode(spec any) error {
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec of %s %s: %w", r.Kind, r.ID, err)
	}
	r.Spec = b
	return nil
}

// New returns a row with a fresh id for a resource that the caller's project will own.
func New(kind sites.Kind, caller sites.Caller, name string) *Resource {
	return &Resource{ID: ident.NewTopID(), Kind: kind, ProjectID: caller.ProjectID, UserID: caller.UserID, Name: name, State: Creating}
}

// NotFound is the fault for an id of the kind that the caller may not see or that is not there.
func NotFound(kind sites.Kind, id string) error {
	return fault.New(fault.NotFound, "cascade/index.Find", "%s %s could not be found.", title(kind), id)
}

var titles = map[sites.Kind]string{
	sites.Server: "Instance", sites.ServerGroup: "Instance group", sites.Keypair: "Keypair", sites.Flavor: "Flavor",
	sites.Image: "Image", sites.Network: "Network", sites.Subnet: "Subnet", sites.Port: "Port", sites.Router: "Router",
	sites.FloatingIP: "Floating IP", sites.SecurityGroup: "Security group", sites.SecurityGroupRule: "Security group rule",
	sites.Volume: "Volume", sites.Snapshot: "Snapshot", sites.Backup: "Backup", sites.VolumeType: "Volume type",
}

func title(kind sites.Kind) string {
	if t, ok := titles[kind]; ok {
		return t
	}
	return string(kind)
}

// Stamp is the time as it is stored: UTC, whole microseconds.
func Stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func stampPtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = Stamp(t)
	return &t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func fromRow(row *dbschema.Resource) (*Resource, error) {
	r := &Resource{
		ID: ident.TopID(row.ID), Kind: sites.Kind(row.Kind), ProjectID: row.ProjectID, UserID: row.UserID,
		Site: ident.SiteID(row.Site), Name: row.Name, Description: row.Description, State: State(row.State),
		Status: row.Status, TaskState: row.TaskState, ParentID: ident.TopID(row.ParentID), Zone: row.Zone,
		FlavorID: ident.TopID(row.FlavorID), ImageID: ident.TopID(row.ImageID), KeyName: row.KeyName,
		DeviceID: ident.TopID(row.DeviceID), Visibility: row.Visibility, Spec: json.RawMessage(row.Spec),
		ObservedAt: timeOf(row.ObservedAt), VerbNo: row.VerbNo, VerbAckedNo: row.VerbAckedNo, VerbAckedAt: timeOf(row.VerbAckedAt),
		MissingSince: timeOf(row.MissingSince), Generation: row.Generation, Applied: row.Applied, Version: row.Version,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), LaunchedAt: timeOf(row.LaunchedAt), DeletedAt: timeOf(row.DeletedAt),
	}
	for _, part := range []struct {
		text string
		into any
	}{{row.Fault, &r.Fault}, {row.Observed, &r.Observed}, {row.ObservedAdmin, &r.ObservedAdmin}} {
		if err := decodeText(part.text, part.into); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", row.Kind, row.ID, err)
		}
	}
	return r, nil
}

// storable reports whether PostgreSQL keeps a text: UTF-8 without a NUL. What is not can equal nothing that is stored.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

func (r *Resource) row() (*dbschema.Resource, error) {
	for what, text := range map[string]string{"name": r.Name, "description": r.Description, "availability zone": r.Zone, "key name": r.KeyName} {
		if !storable(text) {
			return nil, fault.New(fault.BadRequest, "cascade/index.Save", "The %s has characters that no text may have, such as NUL.", what)
		}
	}
	row := &dbschema.Resource{
		ID: string(r.ID), Kind: string(r.Kind), ProjectID: r.ProjectID, UserID: r.UserID, Site: string(r.Site), Name: r.Name,
		Description: r.Description, State: string(r.State), Status: r.Status, TaskState: r.TaskState, ParentID: string(r.ParentID),
		Zone: r.Zone, FlavorID: string(r.FlavorID), ImageID: string(r.ImageID), KeyName: r.KeyName, DeviceID: string(r.DeviceID),
		Visibility: r.Visibility, Spec: string(r.Spec), ObservedAt: stampPtr(r.ObservedAt), VerbNo: r.VerbNo, VerbAckedNo: r.VerbAckedNo,
		VerbAckedAt: stampPtr(r.VerbAckedAt), MissingSince: stampPtr(r.MissingSince), Generation: r.Generation, Applied: r.Applied,
		Version: r.Version, CreatedAt: Stamp(r.CreatedAt), UpdatedAt: Stamp(r.UpdatedAt), LaunchedAt: stampPtr(r.LaunchedAt), DeletedAt: stampPtr(r.DeletedAt),
	}
	if row.Spec == "" {
		row.Spec = "{}"
	}
	var err error
	if r.Fault != nil {
		if row.Fault, err = encodeText(r.Fault); err != nil {
			return nil, err
		}
	}
	if r.Observed != nil {
		if row.Observed, err = encodeText(r.Observed); err != nil {
			return nil, err
		}
	}
	if r.ObservedAdmin != nil {
		row.ObservedAdmin, err = encodeText(r.ObservedAdmin)
	}
	return row, err
}
