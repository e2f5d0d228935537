package sitetest

import (
	"errors"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

var errEnough = errors.New("enough was listed")

// order asserts that what sites.ByID asks for comes in the order of the ids, also from a marker on: a comparison of a
// large site goes on where it stopped. Both accounts are asked; what others make and end meanwhile does not matter.
func (s *suite) order(t *testing.T) {
	t.Parallel()
	for _, kind := range []sites.Kind{
		sites.Server, sites.Volume, sites.Snapshot, sites.Image, sites.Network, sites.Subnet, sites.Port, sites.Router, sites.FloatingIP, sites.SecurityGroup,
	} {
		if s.target.Without[kind] != "" {
			continue
		}
		s.ordered(t, s.member, kind, false)
		if s.admin != nil {
			s.ordered(t, s.admin, kind, true)
		}
	}
}

func (s *suite) ordered(t *testing.T, a sites.Adaptor, kind sites.Kind, all bool) {
	t.Helper()
	walk := func(marker ident.BottomID) (ids []ident.BottomID) {
		params := sites.ByID(kind)
		if marker != "" {
			params.Set("marker", string(marker))
		}
		err := a.List(t.Context(), kind, sites.Query{Params: params, AllProjects: all, PageSize: 2}, func(o sites.Object) error {
			if n := len(ids); o.ID <= marker || n > 0 && o.ID <= ids[n-1] {
				t.Errorf("%s %s comes behind %v and the marker %q", kind, o.ID, ids, marker)
			}
			if ids = append(ids, o.ID); len(ids) < 7 {
				return nil
			}
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			t.Errorf("list %ss by id (all projects: %v, marker %q): %v", kind, all, marker, err)
		}
		return ids
	}
	if ids := walk(""); len(ids) > 1 {
		walk(ids[0])
	}
}
