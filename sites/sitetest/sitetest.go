// Package sitetest is the conformance suite of sites.Adaptor: what passes it
// can stand under the cascade. It needs one ordinary account of a working site
// and, for the administrators' part, one administrator; it leaves nothing
// behind and asserts that.
package sitetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Target is what the suite runs against. The site must hold at least one
// public flavor with a disk of 1 GiB or more and one external network.
type Target struct {
	// Member returns an adaptor of an ordinary account, with room in its quota for 3 servers, 4 volumes and 6 networks.
	Member func(t *testing.T) sites.Adaptor
	// Admin returns an administrator's adaptor; nil leaves his part out.
	Admin func(t *testing.T) sites.Adaptor
	// Login returns an adaptor of a user of a project that the administrator has just made; needed with Admin.
	Login func(t *testing.T, projectID, userID string, password ident.Secret) sites.Adaptor
	// Without names kinds that the site cannot hold, with the reason.
	Without map[sites.Kind]string
	// Wait bounds each transition, 2 minutes by default; Poll is how often it is looked at, 250 ms by default.
	Wait, Poll time.Duration
}

// Run runs the whole suite as subtests of t.
func Run(t *testing.T, target Target) {
	if target.Wait == 0 {
		target.Wait = 2 * time.Minute
	}
	if target.Poll == 0 {
		target.Poll = 250 * time.Millisecond
	}
	s := &suite{target: target, member: target.Member(t), prefix: "hwtest-" + ident.NewHexID()[:8]}
	if target.Admin != nil {
		s.admin = target.Admin(t)
	}
	var err error
	if s.caps, err = s.member.Probe(t.Context()); err != nil {
		t.Fatalf("probe as a member: %v", err)
	}
	t.Run("parts", func(t *testing.T) {
		t.Run("probe", s.probe)
		t.Run("account", s.account)
		for _, r := range recipes {
			t.Run("kind/"+string(r.kind), func(t *testing.T) { s.life(t, r) })
		}
		t.Run("paging", s.paging)
		t.Run("order", s.order)
		t.Run("refusals", s.refusals)
		t.Run("image bytes", s.imageBytes)
		t.Run("server", s.server)
		t.Run("joints", s.joints)
		t.Run("changes", s.changes)
		t.Run("projects", s.projects)
		t.Run("flavors", s.flavors)
	})
	t.Run("nothing is left", s.nothingLeft)
}

// suite is one run.
type suite struct {
	target Target
	member sites.Adaptor
	admin  sites.Adaptor
	caps   sites.Capabilities
	prefix string

	mu      sync.Mutex // guards the field below
	markers map[ident.TopID]sites.Kind
}

// marker returns a fresh marker and remembers it for nothingLeft.
func (s *suite) marker(kind sites.Kind) ident.TopID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.markers == nil {
		s.markers = map[ident.TopID]sites.Kind{}
	}
	id := ident.NewTopID()
	s.markers[id] = kind
	return id
}

// without skips a test of a kind that the site cannot hold.
func (s *suite) without(t *testing.T, kinds ...sites.Kind) {
	t.Helper()
	for _, kind := range kinds {
		if reason, ok := s.target.Without[kind]; ok {
			t.Skipf("no %s at this site: %s", kind, reason)
		}
	}
}

// create makes a marked resource as the member and removes it when the test ends.
func (s *suite) create(t *testing.T, kind sites.Kind, body sites.Body) (sites.Object, ident.TopID) {
	t.Helper()
	marker := s.marker(kind)
	made, err := s.member.Create(t.Context(), kind, body, sites.CreateOptions{Marker: marker})
	if err != nil {
		t.Fatalf("create %s: %v", kind, err)
	}
	if made.ID == "" || made.Began.IsZero() {
		t.Errorf("created %s has id %q and began %v, want both", kind, made.ID, made.Began)
	}
	t.Cleanup(func() { s.remove(t, kind, made.ID) })
	return made, marker
}

// remove deletes a resource and waits for its end. What is busy is tried again.
func (s *suite) remove(t *testing.T, kind sites.Kind, id ident.BottomID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), s.target.Wait)
	defer cancel()
	err := s.poll(ctx, func() (bool, error) {
		err := s.member.Delete(ctx, kind, id)
		switch fault.KindOf(err) {
		case fault.NotFound:
			return true, nil
		case fault.Conflict, fault.BadRequest, fault.Unavailable: // in transition; Cinder says 400 to that
			return false, nil
		}
		return false, err
	})
	if err != nil {
		t.Errorf("remove %s %s: %v", kind, id, err)
	}
}

// poll looks until done says so, an error comes or ctx ends.
func (s *suite) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(s.target.Poll)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", context.Cause(ctx))
		}
	}
}

// until shows a resource until its status is the wanted one.
func (s *suite) until(t *testing.T, kind sites.Kind, id ident.BottomID, status string) sites.Object {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), s.target.Wait)
	defer cancel()
	var seen sites.Object
	err := s.poll(ctx, func() (bool, error) {
		now, err := s.member.Show(ctx, kind, id)
		if err != nil {
			return false, err
		}
		seen = now
		got := seen.Text("status")
		if got != status && (got == "ERROR" || got == "error") {
			return false, errors.New("it went to " + got)
		}
		return got == status && seen.Body["OS-EXT-STS:task_state"] == nil, nil
	})
	if err != nil {
		t.Fatalf("%s %s to become %s, last seen %s (task %v): %v", kind, id, status, seen.Text("status"), seen.Body["OS-EXT-STS:task_state"], err)
	}
	return seen
}

// list returns everything that a listing tells.
func list(t *testing.T, a sites.Adaptor, kind sites.Kind, q sites.Query) []sites.Object {
	t.Helper()
	var all []sites.Object
	if err := a.List(t.Context(), kind, q, func(o sites.Object) error {
		all = append(all, o)
		return nil
	}); err != nil {
		t.Fatalf("list %s: %v", kind, err)
	}
	return all
}

// with reports whether an id is among objects, and how often.
func with(objects []sites.Object, id ident.BottomID) int {
	n := 0
	for _, o := range objects {
		if o.ID == id {
			n++
		}
	}
	return n
}

// want fails the test unless err is of the kind and says something to the tenant.
func want(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("%s: %v, want %s", what, err, kind)
		return
	}
	if e.Site == "" || e.Msg == "" {
		t.Errorf("%s: site %q, message %q; want both", what, e.Site, e.Msg)
	}
}

// nothingLeft lists every kind and looks for the run's markers and names.
func (s *suite) nothingLeft(t *testing.T) {
	for kind := range kindsMade(s.markers) {
		for _, o := range list(t, s.member, kind, sites.Query{}) {
			id, marked := sites.MarkerOf(o.Body)
			if _, ours := s.markers[id]; marked && ours && o.Text("status") != "deleted" {
				t.Errorf("%s %s is left behind with marker %s", kind, o.ID, id)
			}
		}
	}
	if s.admin == nil {
		return
	}
	for _, kind := range []sites.Kind{sites.Project, sites.User, sites.Flavor} {
		q := sites.Query{Params: url.Values{}, AllProjects: kind == sites.Flavor}
		for _, o := range list(t, s.admin, kind, q) {
			if len(o.Text("name")) >= len(s.prefix) && o.Text("name")[:len(s.prefix)] == s.prefix {
				t.Errorf("%s %s (%s) is left behind", kind, o.ID, o.Text("name"))
			}
		}
	}
}

func kindsMade(markers map[ident.TopID]sites.Kind) map[sites.Kind]bool {
	kinds := map[sites.Kind]bool{}
	for _, kind := range markers {
		kinds[kind] = true
	}
	return kinds
}
