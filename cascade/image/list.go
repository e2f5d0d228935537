package image

import (
	"cmp"
	"context"
	"slices"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Query selects images for List, in Glance's words.
type Query struct {
	index.Query
	Visibility   string // "" lists what is the caller's own, public, or accepted
	MemberStatus string // of shared images; "" means accepted
	Owner        string
}

// List returns the images that the caller sees, as Glance lists them: community
// images and shares that were not accepted only when asked for.
func (s *Service) List(ctx context.Context, c sites.Caller, q Query) ([]*index.Resource, error) {
	inner := q.Match
	q.Kind, q.Project, q.Open = sites.Image, c.ProjectID, roleMember
	if c.Admin() {
		q.AllProjects, q.Shared = true, true
	}
	q.Match = func(r *index.Resource) bool {
		return listed(c, q, r) && (inner == nil || inner(r))
	}
	if slices.ContainsFunc(q.Sort, func(k index.Sort) bool { return inSpec[k.Field] != nil }) {
		return s.sorted(ctx, q.Query)
	}
	return s.core.Index.List(ctx, q.Query)
}

// Sort keys of Glance that are no columns of the index: List sorts by them itself.
const (
	BySize            index.Field = "size"
	ByDiskFormat      index.Field = "disk_format"
	ByContainerFormat index.Field = "container_format"
)

// inSpec compares two images by what only their specs say; an image without a size comes first.
var inSpec = map[index.Field]func(a, b *Spec) int{
	BySize:            func(a, b *Spec) int { return cmp.Compare(sizeOf(a), sizeOf(b)) },
	ByDiskFormat:      func(a, b *Spec) int { return cmp.Compare(a.DiskFormat, b.DiskFormat) },
	ByContainerFormat: func(a, b *Spec) int { return cmp.Compare(a.ContainerFormat, b.ContainerFormat) },
}

func sizeOf(s *Spec) int64 {
	if s.Size == nil {
		return -1
	}
	return *s.Size
}

// sorted is a list by keys of which the database does not know every one: it reads all that the caller sees, sorts it,
// and cuts the page out. Columns among the keys keep their place, and equal images come in the order of their ids.
func (s *Service) sorted(ctx context.Context, q index.Query) ([]*index.Resource, error) {
	keys, marker, limit := q.Sort, q.Marker, q.Limit
	q.Sort, q.Marker, q.Limit = []index.Sort{{Field: index.ByID}}, "", 0
	rows, err := s.core.Index.List(ctx, q)
	if err != nil {
		return nil, err
	}
	specs := make(map[ident.TopID]*Spec, len(rows))
	for _, r := range rows {
		specs[r.ID] = &Spec{}
		if err := r.Decode(specs[r.ID]); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(a, b *index.Resource) int {
		for _, k := range keys {
			n := 0
			if of := inSpec[k.Field]; of != nil {
				n = of(specs[a.ID], specs[b.ID])
			} else {
				n = byColumn(k.Field, a, b)
			}
			if k.Desc {
				n = -n
			}
			if n != 0 {
				return n
			}
		}
		return 0
	})
	if marker != "" {
		at := slices.IndexFunc(rows, func(r *index.Resource) bool { return r.ID == marker })
		if at < 0 {
			return nil, index.NotFound(sites.Image, string(marker))
		}
		rows = rows[at+1:]
	}
	if limit > 0 {
		rows = rows[:min(limit, len(rows))]
	}
	return rows, nil
}

// byColumn compares two rows as the database does by a column.
func byColumn(f index.Field, a, b *index.Resource) int {
	switch f {
	case index.ByName:
		return cmp.Compare(a.Name, b.Name)
	case index.ByStatus:
		return cmp.Compare(a.Status, b.Status)
	case index.ByCreated:
		return a.CreatedAt.Compare(b.CreatedAt)
	case index.ByUpdated:
		return a.UpdatedAt.Compare(b.UpdatedAt)
	default:
		return cmp.Compare(a.ID, b.ID)
	}
}

// listed follows Glance (glance/db/sqlalchemy/api.py, image_get_all): an administrator sees all; community images,
// also one's own, only when a visibility or an owner is asked for.
func listed(c sites.Caller, q Query, r *index.Resource) bool {
	if q.Visibility != "" && q.Visibility != "all" && r.Visibility != q.Visibility || q.Owner != "" && r.ProjectID != q.Owner {
		return false
	}
	if r.Visibility == Community && q.Visibility == "" && q.Owner == "" {
		return false
	}
	if c.Admin() || r.ProjectID == c.ProjectID || r.ProjectID == "" || r.Visibility == Public || r.Visibility == Community {
		return true
	}
	var spec Spec
	if r.Visibility != Shared || r.Decode(&spec) != nil {
		return false
	}
	want := q.MemberStatus
	if want == "" {
		want = "accepted"
	}
	status, member := spec.Members[c.ProjectID]
	return member && (status == want || want == "all")
}
