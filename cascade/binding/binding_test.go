package binding

import (
	"errors"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const lease = time.Minute

func claim(t *testing.T, s *Store, top ident.TopID) (*Claim, *Binding, error) {
	t.Helper()
	return s.Claim(t.Context(), top, "east", sites.Server, "p", lease)
}

// A pair is one worker's for the length of its lease; who lost it can neither mark, bind nor extend, and what it had attempted stays known to the next.
func TestClaims(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB, ...dbtest.Option) *dbschema.DB{dbschema.SQLite: dbtest.SQLite, dbschema.Postgres: dbtest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &dbtest.Clock{} // one each: they run side by side
			testClaims(t, open(t, clock.Option), clock)
		})
	}
}

func testClaims(t *testing.T, db *dbschema.DB, clock *dbtest.Clock) {
	t.Helper()
	s, top := NewStore(db, time.Now), ident.NewTopID()
	first, known, err := claim(t, s, top)
	if err != nil || known != nil || !first.AttemptedAt.IsZero() {
		t.Fatalf("Claim = %+v, %+v, %v", first, known, err)
	}
	if _, _, err := claim(t, s, top); !errors.Is(err, ErrHeld) {
		t.Errorf("a second claim = %v, want ErrHeld", err)
	}
	if err := first.Attempt(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Step(2 * lease)
	second, _, err := claim(t, s, top)
	if err != nil || second.AttemptedAt.IsZero() {
		t.Fatalf("after the lease: %+v, %v; want the mark of the attempt", second, err)
	}
	if since, err := second.Since(t.Context()); err != nil || since < 2*lease {
		t.Errorf("Since = %v, %v", since, err)
	}
	for name, err := range map[string]error{
		"Attempt": first.Attempt(t.Context()), "Extend": first.Extend(t.Context(), lease), "Release": first.Release(t.Context(), true),
		"Bind": first.Bind(t.Context(), "late", 1, false, nil),
	} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s of a lost claim = %v, want ErrLost", name, err)
		}
	}
	if err := second.Bind(t.Context(), "bottom", 3, false, nil); err != nil {
		t.Fatal(err)
	}
	none, known, err := claim(t, s, top)
	if err != nil || none != nil || known.BottomID != "bottom" || known.Generation != 3 || !known.AttemptedAt.IsZero() || !known.ClaimUntil.IsZero() {
		t.Errorf("a claim of what is bound = %+v, %+v, %v", none, known, err)
	}
}

// Only a definite end clears the mark of an attempt.
func TestRelease(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := NewStore(db, time.Now)
		for _, definite := range []bool{false, true} {
			top := ident.NewTopID()
			c, _, err := claim(t, s, top)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.Attempt(t.Context()), c.Release(t.Context(), definite)); err != nil {
				t.Fatal(err)
			}
			again, _, err := claim(t, s, top)
			if err != nil || again.AttemptedAt.IsZero() != definite {
				t.Errorf("after a release, definite %t: %+v, %v", definite, again, err)
			}
		}
	})
}

// One process has an SQLite file: when it was killed, its claims are nobody's. They held up the next for their whole lease, 95 s by default.
func TestClaimsOfTheDead(t *testing.T) {
	t.Parallel()
	cfg := dbtest.SQLiteConfig(t)
	top := ident.NewTopID()
	for range 3 {
		db, err := dbschema.Open(t.Context(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := NewStore(db, time.Now)
		if _, _, err := claim(t, s, top); err != nil {
			t.Errorf("Claim = %v", err)
		}
		if _, _, err := claim(t, s, top); !errors.Is(err, ErrHeld) {
			t.Errorf("a second claim of the living = %v, want ErrHeld", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
