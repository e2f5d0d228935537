package compute

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// ListQuery selects servers. Zero members select all; a regular expression is in Go's syntax.
type ListQuery struct {
	AllProjects   bool
	Project       string // with AllProjects: one other project
	User          string
	IDs           []string
	Statuses      []string
	TaskStates    []string
	VMStates      []string
	Name          *regexp.Regexp
	Description   *regexp.Regexp
	Hostname      *regexp.Regexp
	Flavor        string
	Image         string
	Zone          string
	KeyName       string
	Host          string // a site's name
	Reservation   string
	ConfigDrive   *bool
	Locked        *bool
	IP, IP6       *regexp.Regexp
	TagsAll       []string
	TagsAny       []string
	NotTagsAll    []string
	NotTagsAny    []string
	ChangedSince  time.Time
	ChangedBefore time.Time
	Deleted       bool // deleted servers only
	Sort          []index.Sort
	Marker        string
	Limit         int
}

// Servers lists servers, in one query of the index.
func (s *Service) Servers(ctx context.Context, caller sites.Caller, q ListQuery) ([]*Server, error) {
	iq, err := s.indexQuery(ctx, caller, q)
	if err != nil {
		return nil, err
	}
	if q.IP != nil || q.IP6 != nil {
		if iq.In[index.ByID], err = s.withAddress(ctx, iq, q); err != nil {
			return nil, err
		}
	}
	rows, err := s.core.Index.List(ctx, iq)
	if err != nil {
		return nil, err
	}
	out := make([]*Server, len(rows))
	for i, r := range rows {
		if out[i], err = decodeServer(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Service) indexQuery(ctx context.Context, caller sites.Caller, q ListQuery) (index.Query, error) {
	iq := index.Query{
		Kind: sites.Server, Project: caller.ProjectID, Pin: caller.Pin, Sort: q.Sort, Limit: q.Limit, In: map[index.Field][]string{},
		ChangedSince: q.ChangedSince, Deleted: q.Deleted || !q.ChangedSince.IsZero() || !q.ChangedBefore.IsZero(),
	}
	if q.AllProjects {
		if iq.Project = q.Project; q.Project == "" {
			iq.AllProjects = true
		}
	}
	for field, values := range map[index.Field][]string{
		index.ByStatus: q.Statuses, index.ByTaskState: q.TaskStates, index.ByUser: one(q.User), index.ByID: q.IDs, index.ByZone: one(q.Zone),
		index.ByKeyName: one(q.KeyName), index.BySite: one(q.Host),
	} {
		if len(values) > 0 {
			iq.In[field] = values
		}
	}
	if q.Deleted {
		iq.In[index.ByState] = []string{string(index.Deleted)}
	}
	for field, ref := range map[index.Field]struct {
		id   string
		kind sites.Kind
	}{index.ByFlavor: {q.Flavor, sites.Flavor}, index.ByImage: {q.Image, sites.Image}} {
		if ref.id == "" {
			continue
		}
		iq.In[field] = []string{ref.id}
		free := caller
		free.Pin = ""
		if r, err := s.core.Index.Find(ctx, free, ref.kind, ref.id); err == nil {
			iq.In[field] = []string{string(r.ID)} // asked by the id at a site
		} else if !fault.Is(err, fault.NotFound) {
			return iq, err
		}
	}
	iq.Match = q.match()
	if q.Marker != "" {
		r, err := s.core.Index.Find(ctx, caller, sites.Server, q.Marker)
		switch {
		case err == nil:
			iq.Marker = r.ID
		case fault.Is(err, fault.NotFound) && iq.Deleted:
			iq.Marker = ident.TopID(q.Marker) // a deleted server of the page before
		case fault.Is(err, fault.NotFound):
			return iq, fault.New(fault.BadRequest, "cascade/compute.Servers", "marker [%s] not found", q.Marker)
		default:
			return iq, err
		}
	}
	return iq, nil
}

func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// match is the part of the query that the index cannot answer; nil when there is none.
func (q ListQuery) match() func(*index.Resource) bool {
	var tests []func(*Server) bool
	add := func(wanted bool, test func(*Server) bool) {
		if wanted {
			tests = append(tests, test)
		}
	}
	add(q.Name != nil, func(s *Server) bool { return q.Name.MatchString(s.Name) })
	add(q.Description != nil, func(s *Server) bool {
		return s.Spec.Description != nil && q.Description.MatchString(*s.Spec.Description)
	})
	add(q.Hostname != nil, func(s *Server) bool { return q.Hostname.MatchString(text(s.Observed[hostnameMember])) })
	add(len(q.VMStates) > 0, func(s *Server) bool { return slices.Contains(q.VMStates, VMState(s.Resource)) })
	add(q.Reservation != "", func(s *Server) bool { return s.Spec.Reservation == q.Reservation })
	add(q.ConfigDrive != nil, func(s *Server) bool { return s.Spec.ConfigDrive == *q.ConfigDrive })
	add(q.Locked != nil, func(s *Server) bool { return s.Spec.Locked == *q.Locked })
	add(!q.ChangedBefore.IsZero(), func(s *Server) bool { return !s.UpdatedAt.After(q.ChangedBefore) })
	add(len(q.TagsAll) > 0, func(s *Server) bool { return hasAll(s.Spec.Tags, q.TagsAll) })
	add(len(q.TagsAny) > 0, func(s *Server) bool { return hasAny(s.Spec.Tags, q.TagsAny) })
	add(len(q.NotTagsAll) > 0, func(s *Server) bool { return !hasAll(s.Spec.Tags, q.NotTagsAll) })
	add(len(q.NotTagsAny) > 0, func(s *Server) bool { return !hasAny(s.Spec.Tags, q.NotTagsAny) })
	if len(tests) == 0 {
		return nil
	}
	return func(r *index.Resource) bool {
		s, err := decodeServer(r)
		return err == nil && !slices.ContainsFunc(tests, func(t func(*Server) bool) bool { return !t(s) })
	}
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(t string) bool { return !slices.Contains(have, t) })
}

func hasAny(have, want []string) bool {
	return slices.ContainsFunc(want, func(t string) bool { return slices.Contains(have, t) })
}

// withAddress returns the ids of the servers that have a matching address.
func (s *Service) withAddress(ctx context.Context, iq index.Query, q ListQuery) ([]string, error) {
	iq.Limit, iq.Marker, iq.Sort = 0, "", nil
	rows, err := s.core.Index.List(ctx, iq)
	if err != nil {
		return nil, err
	}
	ids := make([]ident.TopID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	all, err := s.networks.Interfaces(ctx, ids...)
	out := []string{}
	for id, ports := range all {
		if slices.ContainsFunc(ports, func(p Interface) bool {
			return slices.ContainsFunc(p.Fixed, func(f FixedIP) bool {
				if strings.Contains(f.IP, ":") {
					return q.IP6 != nil && q.IP6.MatchString(f.IP)
				}
				return q.IP != nil && (q.IP.MatchString(f.IP) || f.Floating != "" && q.IP.MatchString(f.Floating))
			})
		}) {
			out = append(out, string(id))
		}
	}
	return out, err
}

// Addresses returns the ports of many servers at once.
func (s *Service) Addresses(ctx context.Context, servers ...ident.TopID) (map[ident.TopID][]Interface, error) {
	return s.networks.Interfaces(ctx, servers...)
}

// GroupNames returns the names of security groups.
func (s *Service) GroupNames(ctx context.Context, ids []ident.TopID) (map[ident.TopID]string, error) {
	return s.core.Index.Names(ctx, ids)
}

// Freshness is how long ago each site was last seen to answer, for the sites that a list shows.
func (s *Service) Freshness(ctx context.Context) (map[ident.SiteID]Age, error) {
	all, err := s.registry.Sites(ctx)
	if err != nil {
		return nil, err
	}
	now := s.core.Now()
	out := make(map[ident.SiteID]Age, len(all))
	for i := range all {
		h := all[i].Health
		seen := h.CheckedAt
		if h.State == registry.Down {
			seen = h.Since
		}
		if seen.IsZero() {
			seen = now
		}
		a := Age{Age: max(now.Sub(seen), 0)}
		a.Unknown = h.State == registry.Down && a.Age > unknownAfter
		out[all[i].Name] = a
	}
	return out, nil
}

// Age is how old Top's knowledge of a site is.
type Age struct {
	Age time.Duration
	// Unknown says that the site is down for so long that a status from there says nothing any more.
	Unknown bool
}

// unknownAfter is how long a site may be down until its servers' status reads UNKNOWN (where the microversion knows that, 2.69).
const unknownAfter = 5 * time.Minute
