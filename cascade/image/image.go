// Package image knows what images are: metadata, hashes and residency live at
// Top, bytes at sites (cascade/README.md: Image bytes). An upload streams through Top to the
// image's home site; another site gets the bytes, streamed from one that has
// them and checked against their hash, when something there first needs them.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// Statuses of Glance (glance/domain/__init__.py) that Top uses.
const (
	Queued      = "queued"
	Saving      = "saving"
	Active      = "active"
	Deactivated = "deactivated"
	Killed      = "killed"
)

// Visibilities of Glance.
const (
	Public    = "public"
	Private   = "private"
	Shared    = "shared"
	Community = "community"
)

// Spec is what the tenant asked of an image, and what is known of its bytes.
type Spec struct {
	DiskFormat      string            `json:"disk_format,omitempty"`
	ContainerFormat string            `json:"container_format,omitempty"`
	MinDisk         int64             `json:"min_disk"`
	MinRAM          int64             `json:"min_ram"`
	Protected       bool              `json:"protected"`
	Hidden          bool              `json:"os_hidden"`
	Tags            []string          `json:"tags,omitempty"`
	Properties      map[string]string `json:"properties,omitempty"` // custom ones
	Members         map[string]string `json:"members,omitempty"`    // project id to pending, accepted or rejected
	MemberTimes     map[string]Times  `json:"member_times,omitempty"`

	Home        ident.SiteID `json:"home,omitempty"` // where the bytes came first
	Size        *int64       `json:"size,omitempty"` // bytes
	VirtualSize *int64       `json:"virtual_size,omitempty"`
	Checksum    string       `json:"checksum,omitempty"` // md5, hexadecimal
	HashAlgo    string       `json:"os_hash_algo,omitempty"`
	HashValue   string       `json:"os_hash_value,omitempty"`
	// Dropped names custom properties that the owner removed, so that copies lose them too.
	Dropped []string `json:"dropped,omitempty"`
	// Uploads counts the uploads that began, so that the end of one is never taken for that of a later one.
	Uploads int64 `json:"uploads,omitempty"`
	// Adopted says that the image is a site's own, taken over because everybody there may use it.
	Adopted bool `json:"adopted,omitempty"`
}

// Times are when something was made and last changed.
type Times struct {
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Registry gives the sites as they are now.
type Registry interface {
	Sites(ctx context.Context) ([]registry.Site, error)
	Site(ctx context.Context, name ident.SiteID) (registry.Site, error)
	Projects(ctx context.Context, site ident.SiteID) ([]registry.ProjectAccount, error)
}

// Placer chooses a home site.
type Placer interface {
	Choose(ctx context.Context, w placement.Want) (placement.Decision, error)
}

// Service is the image vertical.
type Service struct {
	core     *cascade.Core
	placer   Placer
	registry Registry
	copies   limiter
}

// limiter bounds how many copies between sites run at once, so that boots of
// many images do not take all of the memory and bandwidth of one Top.
type limiter chan struct{}

// copiesAtOnce is that bound.
const copiesAtOnce = 8

// New returns a Service.
func New(core *cascade.Core, p Placer, r Registry) *Service {
	return &Service{core: core, placer: p, registry: r, copies: make(limiter, copiesAtOnce)}
}

// Register adds the maker of images to the Core.
func (s *Service) Register() { s.core.Register(sites.Image, maker{s}) }

// Create records an image, queued: its bytes come with Upload. The id may be the
// creator's own; one that any image has or had is fault.Conflict.
func (s *Service) Create(ctx context.Context, c sites.Caller, id ident.TopID, name, visibility string, spec Spec) (*index.Resource, error) {
	if visibility == "" {
		visibility = Shared // Glance's default since Ocata
	}
	if err := mayPublish(c, visibility); err != nil {
		return nil, err
	}
	r := index.New(sites.Image, c, name)
	if id != "" {
		r.ID = id
	}
	r.State, r.Status, r.Visibility = index.Live, Queued, visibility
	if err := r.Encode(spec); err != nil {
		return nil, err
	}
	err := s.core.Commit(ctx, c, "image.create", func(tx *cascade.Tx) error {
		if _, err := tx.Load(r.ID); err == nil {
			return fault.New(fault.Conflict, "cascade/image.Create", "Image ID %s already exists!", r.ID)
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
		return tx.Insert(r)
	})
	return r, err
}

func mayPublish(c sites.Caller, visibility string) error {
	if visibility == Public && !c.Admin() {
		return fault.New(fault.Forbidden, "cascade/image", "You are not authorized to complete publicize_image action.")
	}
	return nil
}

// Find returns an image that the caller may see: its own, a public or community one, or one that was shared with its project.
func (s *Service) Find(ctx context.Context, c sites.Caller, id string) (*index.Resource, error) {
	asAdmin := c
	asAdmin.Roles = []string{"admin"} // visibility of images is not by project alone: decided below
	r, err := s.core.Index.Find(ctx, asAdmin, sites.Image, id)
	if err != nil {
		return nil, err
	}
	if !Visible(c, r) {
		return nil, index.NotFound(sites.Image, id)
	}
	return r, nil
}

// Visible reports whether the caller may see the image by its id.
func Visible(c sites.Caller, r *index.Resource) bool {
	if c.Admin() || r.ProjectID == "" || r.ProjectID == c.ProjectID || r.Visibility == Public || r.Visibility == Community {
		return true
	}
	var spec Spec
	if r.Visibility != Shared || r.Decode(&spec) != nil {
		return false
	}
	_, member := spec.Members[c.ProjectID]
	return member
}

// own loads an image for change; who is not its owner may not change it, even when it may be seen.
func (s *Service) own(tx *cascade.Tx, id ident.TopID) (*index.Resource, Spec, error) {
	var spec Spec
	r, err := tx.Load(id)
	if err != nil {
		return nil, spec, err
	}
	if r.State != index.Live && r.State != index.Failed {
		return nil, spec, index.NotFound(sites.Image, string(id))
	}
	if !tx.Caller.Admin() && r.ProjectID != tx.Caller.ProjectID {
		return nil, spec, fault.New(fault.Forbidden, "cascade/image", "You are not permitted to modify this image.")
	}
	return r, spec, r.Decode(&spec)
}

// Update changes an image within its transaction: fn gets the row and its spec.
// Sites that have a copy get the changed properties by a job.
func (s *Service) Update(ctx context.Context, c sites.Caller, id ident.TopID, fn func(r *index.Resource, spec *Spec) error) (*index.Resource, error) {
	var out *index.Resource
	may, err := s.mayGive(ctx)
	if err != nil {
		return nil, err
	}
	given := false
	err = s.core.Commit(ctx, c, "image.update", func(tx *cascade.Tx) error {
		r, spec, err := s.own(tx, id)
		if err != nil {
			return err
		}
		if spec.Adopted {
			return fault.New(fault.Conflict, "cascade/image.Update", "Image %s belongs to site %s and is changed there.", id, spec.Home)
		}
		out = r
		was, had, owner := r.Visibility, spec.Properties, r.ProjectID
		spec.Properties = copied(had)
		if err := fn(r, &spec); err != nil {
			return err
		}
		if r.Visibility != was {
			if err := mayPublish(c, r.Visibility); err != nil {
				return err
			}
		}
		if given = r.ProjectID != owner; given {
			if err := s.give(tx, r, may); err != nil {
				return err
			}
		}
		spec.Dropped = dropped(spec, had)
		if err := r.Encode(spec); err != nil {
			return err
		}
		return tx.Changed(r)
	})
	if err == nil && given {
		s.given(ctx, out)
	}
	return out, err
}

// give hands an image, within its transaction, to a new owner: an administrator's deed. What lies at sites goes over to
// the new owner's projects there (maker.owned), which takes the rights of an administrator at each, unless all projects share one account.
func (s *Service) give(tx *cascade.Tx, r *index.Resource, may map[ident.SiteID]bool) error {
	const op = "cascade/image.Update"
	if !tx.Caller.Admin() {
		return fault.New(fault.Forbidden, op, "You are not permitted to change the owner of this image.")
	}
	bound, err := s.core.Bindings.OfTopIn(tx.Tx, r.ID)
	if err != nil {
		return err
	}
	for _, b := range bound {
		if !may[b.Site] {
			return fault.New(fault.Conflict, op, "Image %s is at site %s in its owner's project, and Top is no administrator there: it cannot be given to another.", r.ID, b.Site)
		}
		if err := s.core.Bindings.Give(tx.Tx, b, r.ProjectID); err != nil {
			return err
		}
	}
	return nil
}

// mayGive returns the sites at which images can go over to another project.
func (s *Service) mayGive(ctx context.Context) (map[ident.SiteID]bool, error) {
	list, err := s.registry.Sites(ctx)
	may := map[ident.SiteID]bool{}
	for i := range list {
		may[list[i].Name] = list[i].Tenancy == sites.TenancyShared || list[i].Capabilities != nil && list[i].Capabilities.Admin
	}
	return may, err
}

// given tells the sites at once; what does not answer now gets it from the job of the change.
func (s *Service) given(ctx context.Context, r *index.Resource) {
	warn := func(site ident.SiteID, err error) {
		if err != nil {
			s.core.Log().WarnContext(ctx, "image was not given to its new owner yet", "site", site, "top_id", r.ID, "err", err)
		}
	}
	bound, err := s.core.Bindings.OfTop(ctx, r.ID)
	warn("", err)
	for _, b := range bound {
		at, err := s.core.At(ctx, r, b.Site)
		if err == nil && b.Known() {
			_, err = maker{s}.owned(ctx, r, at, b.BottomID)
		}
		warn(b.Site, err)
	}
}

// dropped returns the properties that an image had once and has no longer.
func dropped(spec Spec, had map[string]string) []string {
	gone := map[string]bool{}
	for _, name := range spec.Dropped {
		gone[name] = true
	}
	for name := range had {
		gone[name] = true
	}
	maps.DeleteFunc(gone, func(name string, _ bool) bool { _, has := spec.Properties[name]; return has })
	return slices.Sorted(maps.Keys(gone))
}

// Delete ends an image at every site. One that a server boots from right now, or that is protected, stays.
func (s *Service) Delete(ctx context.Context, c sites.Caller, id ident.TopID) error {
	return s.core.Commit(ctx, c, "image.delete", func(tx *cascade.Tx) error {
		r, spec, err := s.own(tx, id)
		if err != nil {
			return err
		}
		if spec.Protected {
			return fault.New(fault.Forbidden, "cascade/image.Delete", "Image %s is protected and cannot be deleted.", id)
		}
		if spec.Adopted {
			return fault.New(fault.Conflict, "cascade/image.Delete", "Image %s belongs to site %s and is deleted there.", id, spec.Home)
		}
		users, err := s.core.Index.UsedByIn(tx.Tx, id, "image")
		if err != nil {
			return err
		}
		for _, u := range users {
			user, err := tx.Load(u.From)
			if err == nil && user.State == index.Creating {
				return fault.New(fault.Conflict, "cascade/image.Delete", "Image %s could not be deleted because it is in use: %s %s is being made of it.", id, user.Kind, user.ID)
			}
		}
		return tx.Delete(r)
	})
}

// SetActive deactivates or reactivates an image: a deactivated one gives no bytes and boots nothing, at Top at once and
// at the sites that have copies as soon as a job has told them. A site's own image is the site's to deactivate.
func (s *Service) SetActive(ctx context.Context, c sites.Caller, id ident.TopID, active bool) error {
	want := map[bool]string{true: Active, false: Deactivated}[active]
	return s.core.Commit(ctx, c, "image.set_status", func(tx *cascade.Tx) error {
		r, spec, err := s.own(tx, id)
		if err != nil {
			return err
		}
		if spec.Adopted {
			return fault.New(fault.Conflict, "cascade/image.SetActive", "Image %s belongs to site %s and is changed there.", id, spec.Home)
		}
		if r.Status != Active && r.Status != Deactivated {
			return fault.New(fault.Forbidden, "cascade/image.SetActive", "Not allowed to change the status of image %s: it is %s.", id, r.Status)
		}
		if r.Status == want {
			return nil
		}
		r.Status = want
		return tx.Changed(r)
	})
}

// Residency lists, for each image, the sites that have its bytes, by name.
func (s *Service) Residency(ctx context.Context, rows ...*index.Resource) (map[ident.TopID][]ident.SiteID, error) {
	ids := make([]ident.TopID, 0, len(rows))
	for _, r := range rows {
		if r.Status == Active || r.Status == Deactivated {
			ids = append(ids, r.ID)
		}
	}
	bound, err := s.core.Bindings.OfTops(ctx, ids...)
	out := map[ident.TopID][]ident.SiteID{}
	for id, list := range bound {
		for _, b := range list {
			if b.Known() && b.Generation > 0 {
				out[id] = append(out[id], b.Site)
			}
		}
	}
	return out, err
}

// AddMember shares an image with a project, which has yet to accept. Only its owner does that.
func (s *Service) AddMember(ctx context.Context, c sites.Caller, id ident.TopID, project string) (Times, error) {
	const op = "cascade/image.AddMember"
	return s.setMember(ctx, c, id, project, "pending", func(r *index.Resource, spec Spec) error {
		_, member := spec.Members[project]
		switch {
		case !c.Admin() && r.ProjectID != c.ProjectID:
			return fault.New(fault.Forbidden, op, "You are not authorized to complete add_member action.")
		case r.Visibility != Shared:
			return fault.New(fault.Forbidden, op, "Only shared images have members.")
		case member:
			return fault.New(fault.Conflict, op, "Member %s is duplicated for image %s", project, r.ID)
		case len(spec.Members) >= maxMembers:
			return fault.New(fault.TooLarge, op, "The limit has been exceeded on the number of allowed image members for this image. Attempted: %d, Maximum: %d.", len(spec.Members)+1, maxMembers)
		}
		return nil
	})
}

// roleMember is the role of the reference from a shared image to a project that it is shared with.
const roleMember = "member"

// maxMembers is Glance's image_member_quota.
const maxMembers = 128

// AnswerMember records what a project says to an image that was shared with it:
// pending, accepted or rejected. Only the member itself does that.
func (s *Service) AnswerMember(ctx context.Context, c sites.Caller, id ident.TopID, project, status string) (Times, error) {
	const op = "cascade/image.AnswerMember"
	if !slices.Contains([]string{"pending", "accepted", "rejected"}, status) {
		return Times{}, fault.New(fault.BadRequest, op, "Status must be \"pending\", \"accepted\" or \"rejected\".")
	}
	return s.setMember(ctx, c, id, project, status, func(r *index.Resource, spec Spec) error {
		_, member := spec.Members[project]
		switch {
		case !c.Admin() && project != c.ProjectID && r.ProjectID != c.ProjectID, !member:
			return fault.New(fault.NotFound, op, "%s not found in the member list of the image %s.", project, r.ID)
		case !c.Admin() && project != c.ProjectID:
			return fault.New(fault.Forbidden, op, "You are not permitted to modify 'status' on this image member.")
		}
		return nil
	})
}

func (s *Service) setMember(ctx context.Context, c sites.Caller, id ident.TopID, project, status string, may func(*index.Resource, Spec) error) (Times, error) {
	var at Times
	err := s.core.Commit(ctx, c, "image.member", func(tx *cascade.Tx) error {
		r, err := tx.Load(id)
		if err != nil {
			return err
		}
		if r.State != index.Live || !Visible(c, r) {
			return index.NotFound(sites.Image, string(r.ID))
		}
		var spec Spec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		if err := may(r, spec); err != nil {
			return err
		}
		now := s.core.Now()
		spec.Members = copied(spec.Members)
		spec.MemberTimes = maps.Clone(spec.MemberTimes)
		if spec.MemberTimes == nil {
			spec.MemberTimes = map[string]Times{}
		}
		at = spec.MemberTimes[project]
		if at.Created.IsZero() {
			at.Created = now
		}
		at.Updated = now
		spec.Members[project], spec.MemberTimes[project] = status, at
		if err := r.Encode(spec); err != nil {
			return err
		}
		if err := tx.Audit(string(r.ID), ""); err != nil {
			return err
		}
		if err := s.core.Index.AddRefs(tx.Tx, index.Ref{From: r.ID, To: ident.TopID(project), Role: roleMember}); err != nil {
			return err
		}
		return tx.Save(r) // the sites learn of a member when it first needs the image there (Grant)
	})
	return at, err
}

// RemoveMember takes a shared image from a project.
func (s *Service) RemoveMember(ctx context.Context, c sites.Caller, id ident.TopID, project string) error {
	return s.core.Commit(ctx, c, "image.member.delete", func(tx *cascade.Tx) error {
		r, spec, err := s.own(tx, id)
		if err != nil {
			return err
		}
		if _, ok := spec.Members[project]; !ok {
			return fault.New(fault.NotFound, "cascade/image.RemoveMember", "%s not found in the member list of the image %s.", project, id)
		}
		spec.Members, spec.MemberTimes = copied(spec.Members), maps.Clone(spec.MemberTimes)
		delete(spec.Members, project)
		delete(spec.MemberTimes, project)
		if err := s.core.Index.RemoveRefs(tx.Tx, index.Ref{From: r.ID, To: ident.TopID(project), Role: roleMember}); err != nil {
			return err
		}
		if err := r.Encode(spec); err != nil {
			return err
		}
		return tx.Changed(r)
	})
}

func copied(m map[string]string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	return out
}

func int64Of(body sites.Body, key string) *int64 {
	n, ok := body[key].(json.Number)
	if !ok {
		return nil
	}
	v, err := n.Int64()
	if err != nil {
		return nil
	}
	return &v
}

// errNoBytes is what needs the bytes of an image that has none anywhere reachable.
func errNoBytes(r *index.Resource) error {
	return fault.New(fault.Conflict, "cascade/image", "Image %s has no bytes yet: it is %s.", r.ID, r.Status)
}

func describe(r *index.Resource, site ident.SiteID) string {
	return fmt.Sprintf("image %s at site %s", r.ID, site)
}
