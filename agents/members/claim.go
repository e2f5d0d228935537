package members

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// claim is what a machine's right to a host id rests on.
type claim struct {
	joined bool
	bound  time.Time
	at     netip.AddrPort
}

// holds reports whether c goes before other: who was accepted by the pool goes before who was not, then the older binding, then the lower address.
//
// Both machines decide by themselves, each with what the other one announced at some time. It can only have become stronger since, for who is
// accepted stays so; so that never both give way.
func (c claim) holds(other claim) bool {
	switch {
	case c.joined != other.joined:
		return c.joined
	case !c.bound.Equal(other.bound):
		return c.bound.Before(other.bound)
	}
	return cmp.Or(c.at.Addr().Compare(other.at.Addr()), cmp.Compare(c.at.Port(), other.at.Port())) <= 0
}

// claimOf is a node's claim. What cannot be read says nothing of the time of binding, and counts for the newest.
func claimOf(n *memberlist.Node) claim {
	a, err := decodeMeta(n.Meta)
	if err != nil {
		a.Bound = time.UnixMilli(maxMillis)
	}
	return claim{a.Joined, a.Bound, address(n)}
}

// own is this member's claim.
func (p *Pool) own() claim {
	p.mu.Lock()
	defer p.mu.Unlock()
	return claim{p.says.Joined, time.UnixMilli(int64(millis(p.says.Bound))), p.cfg.advertise()}
}

// dispute settles this member's host id with another machine that claims it: nil where it is ours.
func (s *session) dispute(other claim) error {
	if s.pool.own().holds(other) {
		return nil
	}
	err := fault.New(fault.Conflict, "agents/members.Run", "the host id %s belongs to the machine at %s since %s: give this one, at %s, an id of its own",
		s.pool.id, other.at, other.bound.UTC().Format(time.RFC3339), s.pool.cfg.advertise())
	select {
	case s.lost <- err:
	default:
	}
	return err
}

type conflictKey struct {
	id     ID
	claims netip.AddrPort
}

// conflict is one that is remembered.
type conflict struct {
	Conflict
	last time.Time
}

// conflictOver is when a conflict that nobody has heard of any more is over: several of the longest syncs.
const conflictOver = 5 * time.Minute

func compareConflicts(a, b Conflict) int {
	return cmp.Or(a.ID.Compare(b.ID), a.Claims.Addr().Compare(b.Claims.Addr()), cmp.Compare(a.Claims.Port(), b.Claims.Port()))
}

// NotifyMerge looks through what a member knows before any of it is taken: who comes anew finds here that its host id is taken, and stays out.
func (s *session) NotifyMerge(peers []*memberlist.Node) error {
	for _, n := range peers {
		there := n.State == memberlist.StateAlive || n.State == memberlist.StateSuspect
		if there && n.Name == s.pool.id.String() && address(n) != s.pool.cfg.advertise() {
			if err := s.dispute(claimOf(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// NotifyConflict takes a claim to a host id that another machine holds. The holder stays a member here.
func (s *session) NotifyConflict(existing, other *memberlist.Node) {
	id, ok := parseID(existing.Name)
	if !ok || s.over.Load() {
		return
	}
	p := s.pool
	p.metrics.conflicts.Inc()
	key := conflictKey{id, address(other)}
	p.mu.Lock()
	c, known := p.conflicts[key]
	if known {
		c.last = time.Now()
	}
	p.mu.Unlock()
	if !known {
		p.log.Warn("host id claimed twice", "host", id.String(), "holds", address(existing).String(), "claims", key.claims.String())
		found := &conflict{Conflict{ID: id, Holds: address(existing), Claims: key.claims, Since: p.now()}, time.Now()}
		p.change(func() { p.conflicts[key] = found })
	}
	if id == p.id {
		_ = s.dispute(claimOf(other)) // Run returns it
	}
}
