package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// AlarmDuplicateHost is the code of the alarm that two agents run under one name.
const AlarmDuplicateHost = "duplicate-host"

// host is a host of the site, or another one that has subscribed, here or at a relay below.
type host struct {
	route   *session // how it is reached; nil while it is away
	boot    uint64   // of its last Subscribe; 0: it has not subscribed
	watched uint64   // from which revision on its set is known
	seen    uint64   // our revision when it went away

	concern uint64    // the last revision that changed its set
	applied uint64    // the last that it has applied
	since   time.Time // when the first that it has not applied came; zero: it has applied all

	rival time.Time // when another agent of its name was seen; zero: none
}

// enter begins a session.
func (s *Server) enter(x *session, m *api.FromAgent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.host != "" {
		if err := s.claim(x.host, x, m.GetSubscribe()); err != nil {
			return err
		}
	}
	s.sessions[x] = struct{}{}
	s.start(x)
	if x.host != "" {
		s.cfg.Source.Tell(&api.FromAgent{Host: x.host, Message: m.GetMessage()})
	}
	return nil
}

// claim makes a session the way to a host. Of two agents of one name, the one that was started later stays.
func (s *Server) claim(name string, x *session, sub *api.Subscribe) error {
	h := s.hosts[name]
	if h == nil {
		h = s.watch(name)
	}
	old := h.route
	if old != nil && sub.GetBoot() != h.boot {
		s.rival(name, h, fmt.Sprintf("agents with boot %d and %d", h.boot, sub.GetBoot()), old != x && sub.GetBoot() < h.boot)
	}
	if old != nil && sub.GetBoot() < h.boot {
		return s.refuse("duplicate", status.Errorf(codes.Aborted, "host %s has a stream of an agent that was started later", name))
	}
	if old != nil && old != x {
		s.supersede(name, old, sub.GetBoot())
	}
	h.route, h.boot = x, sub.GetBoot()
	return nil
}

// supersede ends a host's older stream.
func (s *Server) supersede(name string, old *session, boot uint64) {
	if old.relay == "" {
		old.end(status.Errorf(codes.Aborted, "host %s has subscribed anew", name))
		return
	}
	s.post(old, &api.ToAgent{Host: name, Message: &api.ToAgent_Superseded{Superseded: &api.Superseded{Boot: boot}}})
}

// rival raises the alarm for two agents of one name. A restart is no rival: its old stream only has not ended yet. One that was superseded and
// comes back is.
func (s *Server) rival(name string, h *host, text string, certain bool) {
	if !certain {
		return
	}
	if h.rival.IsZero() {
		s.alarm(name, AlarmDuplicateHost, text, false)
	}
	h.rival = s.cfg.Now()
}

func (s *Server) alarm(host, code, text string, over bool) {
	s.cfg.Source.Tell(&api.FromAgent{Host: host, Message: &api.FromAgent_Report{Report: &api.Report{
		Alarms: []*api.Alarm{{Code: code, Object: host, Text: text, Over: over}},
	}}})
}

// leave ends a session and, with it, the ways to hosts.
func (s *Server) leave(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.sessions[x]; !there {
		return
	}
	delete(s.sessions, x)
	for name, h := range s.hosts {
		if h.route == x {
			s.away(name, h)
		}
	}
}

// away notes that a host cannot be reached.
func (s *Server) away(name string, h *host) {
	h.route, h.seen = nil, s.revision
	s.cfg.Source.Tell(&api.FromAgent{Host: name, Message: &api.FromAgent_Left{Left: &api.Left{Boot: h.boot}}})
	for id, a := range s.asks {
		if a.host == name {
			s.answered(a, &api.Answer{Id: id, Error: "host " + name + " has gone away"})
		}
	}
}

// said takes a message of a client.
func (s *Server) said(x *session, m *api.FromAgent) error {
	name := x.host
	if x.relay != "" {
		if name = m.GetHost(); name == "" {
			return nil // a relay's own reports and what it has applied are of no use yet
		}
	} else if m.GetHost() != "" || m.GetSubscribe() != nil || m.GetLeft() != nil {
		return s.refuse("protocol", status.Error(codes.PermissionDenied, "a host speaks for itself, and subscribes once"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[name]
	if sub := m.GetSubscribe(); sub != nil {
		if s.claim(name, x, sub) != nil { // the agent that was started later is reached another way
			s.supersede(name, x, s.hosts[name].boot-1)
			return nil
		}
	} else if h == nil || h.route != x {
		return nil // what a host said before it went another way
	}
	switch {
	case m.GetLeft() != nil:
		s.away(name, h)
		return nil
	case m.GetApplied() != nil:
		s.hasApplied(h, m.GetApplied())
	case m.GetAnswer() != nil:
		if a := s.asks[m.GetAnswer().GetId()]; a != nil && a.host == name {
			s.answered(a, m.GetAnswer())
			return nil
		}
	}
	s.cfg.Source.Tell(&api.FromAgent{Host: name, Message: m.GetMessage()})
	return nil
}

// hasApplied notes what a host has carried out.
func (s *Server) hasApplied(h *host, a *api.Applied) {
	if a.GetIncarnation() != s.incarnation || a.GetRevision() <= h.applied {
		return
	}
	h.applied = a.GetRevision()
	if h.applied >= h.concern {
		if !h.since.IsZero() {
			s.metrics.lag.Observe(s.cfg.Now().Sub(h.since).Seconds())
		}
		h.since = time.Time{}
	}
	s.notify()
}

// behind are the hosts that have not applied a revision that concerns them.
func (s *Server) behind(revision uint64) []string {
	var out []string
	for name, h := range s.hosts {
		if h.boot != 0 && h.applied < min(revision, h.concern) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// AppliedOn waits until every host whose set a revision or one before it has changed, and that has subscribed here or below since the server began,
// has applied it. When ctx ends first, the error names hosts that have not.
func (s *Server) AppliedOn(ctx context.Context, revision uint64) error {
	for {
		s.mu.Lock()
		var late []string
		have := s.revision
		if late = s.behind(revision); len(late) == 0 && have >= revision {
			s.mu.Unlock()
			return nil
		}
		moved := s.moved
		s.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			n := len(late)
			return fmt.Errorf("revision %d is not applied on %d hosts (%s): %w", revision, n, strings.Join(late[:min(n, 5)], ", "), ctx.Err())
		}
	}
}

// Lag is for how long the host that is furthest behind has not applied what concerns it, of those that can be reached; and how many are behind.
func (s *Server) Lag() (time.Duration, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	n := 0
	for _, h := range s.hosts {
		if h.route != nil && !h.since.IsZero() {
			longest = max(longest, s.cfg.Now().Sub(h.since))
			n++
		}
	}
	return longest, n
}

// keepHouse does what time asks for, until ctx ends.
func (s *Server) keepHouse(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.tidy(s.cfg.Now())
		}
	}
}

// tidy tells resting streams where we are, and forgets hosts that cannot go on from where they were.
func (s *Server) tidy(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		behind := s.revision - x.revision
		if !x.ahead && (behind >= idleRevisions || behind > 0 && now.Sub(x.told) >= idleTime || now.Sub(x.digested) >= digestEvery) {
			x.due = true
			x.poke()
		}
	}
	for name, h := range s.hosts {
		if !h.rival.IsZero() && now.Sub(h.rival) >= duplicateQuiet {
			h.rival = time.Time{}
			s.alarm(name, AlarmDuplicateHost, "", true)
		}
		if h.route == nil && s.objects[state.Ref{Kind: state.KindHost, ID: name}] == nil && h.seen < s.ring.base {
			s.graph.Unwatch(name)
			delete(s.hosts, name)
		}
	}
}
