// Package binding remembers which bottom resource at which site stands for
// which top resource, and makes sure that at most one worker at a time, over
// all replicas, creates the bottom of a pair.
//
// A create goes through a Claim: taken with a lease, marked as attempted before
// the site is called, and committed with the bottom's id only while the claim's
// token is still the row's. A row that is attempted and has no bottom id says
// that a bottom may exist unknown to us: it is looked for by its marker before
// another attempt (cascade/README.md: Markers).
package binding

import (
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// State is what is known of the bottom.
type State string

// The states.
const (
	Claimed  State = "claimed"  // somebody is, or was, about to make it
	Bound    State = "bound"    // it is there, or was when last seen
	Removing State = "removing" // its end was asked for
)

// Binding is one row.
type Binding struct {
	TopID       ident.TopID
	Site        ident.SiteID
	Kind        sites.Kind
	ProjectID   string
	BottomID    ident.BottomID // "" until known
	State       State
	ClaimUntil  time.Time // zero when nobody holds it
	AttemptedAt time.Time // zero unless a create was sent whose answer is not known
	Generation  int64     // of the spec that the bottom has
	Adopted     bool      // was at the site before us; never deleted by us
	Detail      string    // JSON of the kind's own notes, or ""
	// BoundAt is when the row last changed: a list that began before says nothing of its bottom.
	BoundAt time.Time
	// AbsentAt is when the last list began that did not show the bottom, MissingSince when a look by its id first did
	// not find it. Both are zero for what was seen since.
	AbsentAt, MissingSince time.Time
}

// Known reports whether the bottom's id is known.
func (b *Binding) Known() bool { return b != nil && b.BottomID != "" }

// ErrHeld says that another worker holds the claim: come back later.
var ErrHeld = fault.New(fault.Unavailable, "cascade/binding.Claim", "Another worker is at it.")

// ErrLost says that the claim's lease ran out and another worker took it.
var ErrLost = fault.New(fault.Conflict, "cascade/binding.Bind", "The claim was lost to another worker.")

func fromRow(row *dbschema.Binding) *Binding {
	b := &Binding{
		TopID: ident.TopID(row.TopID), Site: ident.SiteID(row.Site), Kind: sites.Kind(row.Kind), ProjectID: row.ProjectID,
		BottomID: ident.BottomID(row.BottomID), State: State(row.State), Generation: row.Generation, Adopted: row.Adopted, Detail: row.Detail,
		BoundAt: row.UpdatedAt.UTC(),
	}
	if row.ClaimUntil != nil {
		b.ClaimUntil = row.ClaimUntil.UTC()
	}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{row.AttemptedAt, &b.AttemptedAt}, {row.AbsentAt, &b.AbsentAt}, {row.MissingSince, &b.MissingSince}} {
		if t.from != nil {
			*t.to = t.from.UTC()
		}
	}
	return b
}
