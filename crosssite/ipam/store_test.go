package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func store(t testing.TB, db *dbschema.DB) *Store {
	t.Helper()
	s, err := New(Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t testing.TB, db *dbschema.DB, s *Store, cidr string, slice int) Subnet {
	t.Helper()
	p := netip.MustParsePrefix(cidr)
	n := Subnet{ID: ident.NewTopID(), Network: ident.NewTopID(), CIDR: p, Pools: Pools(p, p.Masked().Addr().Next()), Slice: slice}
	if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.AddSubnet(tx, n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func anyOf(t testing.TB, db *dbschema.DB, s *Store, n Subnet, owner ident.TopID) (netip.Addr, error) {
	t.Helper()
	var a netip.Addr
	err := db.Write(t.Context(), func(tx dbschema.Tx) error {
		var err error
		a, err = s.Any(tx, n.ID, owner)
		return err
	})
	return a, err
}

// Many clients at once never get the same address, and together get all of them.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := store(t, db)
		n := add(t, db, s, "10.1.0.0/25", DefaultSlice) // 126 hosts, one gateway, six kept
		const clients, each = 8, 17
		var mu sync.Mutex // guards the fields below
		seen := map[netip.Addr]int{}
		exhausted := 0
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for i := range each {
					a, err := anyOf(t, db, s, n, ident.TopID(fmt.Sprintf("port-%d-%d", c, i)))
					mu.Lock()
					switch {
					case errors.Is(err, ErrExhausted):
						exhausted++
					case err != nil:
						t.Errorf("allocate: %v", err)
					default:
						seen[a]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) != 119 || exhausted != clients*each-119 {
			t.Errorf("%d addresses given, %d refused; want 119 and %d", len(seen), exhausted, clients*each-119)
		}
		for a, times := range seen {
			if times != 1 || !n.CIDR.Contains(a) {
				t.Errorf("%s was given %d times", a, times)
			}
		}
	})
}

func TestTakeConcurrently(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := store(t, db)
		n := add(t, db, s, "10.1.0.0/24", 0)
		want := netip.MustParseAddr("10.1.0.77")
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				errs[i] = db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Take(tx, n.ID, want, ident.NewTopID()) })
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrTaken) {
				t.Errorf("Take: %v, want ErrTaken", err)
			}
		}
		if won != 1 {
			t.Errorf("%d clients got %s", won, want)
		}
	})
}

func TestSlices(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := store(t, db)
		n := add(t, db, s, "10.1.0.0/24", 6)
		slice := func(site ident.SiteID) string {
			got, err := s.Slice(t.Context(), n.ID, site, 6)
			if err != nil {
				t.Fatal(err)
			}
			return encodeRanges(got)
		}
		if got := slice("east"); got != "10.1.0.249-10.1.0.254" {
			t.Errorf("slice of the first site: %s", got)
		}
		if got := slice("west"); got != "10.1.0.243-10.1.0.248" {
			t.Errorf("slice of the second site: %s", got)
		}
		if got := slice("east"); got != "10.1.0.249-10.1.0.254" {
			t.Errorf("slice of the first site, asked again: %s", got)
		}
		more, err := s.Enlarge(t.Context(), n.ID, "east", 2)
		if got := encodeRanges(more); err != nil || got != "10.1.0.241-10.1.0.242,10.1.0.249-10.1.0.254" {
			t.Errorf("enlarged slice: %s, %v", got, err)
		}
		err = db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Take(tx, n.ID, netip.MustParseAddr("10.1.0.250"), "p") })
		if !errors.Is(err, ErrReserved) {
			t.Errorf("an address of a slice: %v, want ErrReserved", err)
		}
		usage, err := s.UsageOf(t.Context(), n.ID)
		if u := usage[n.ID]; err != nil || u.Total.Int64() != 253 || u.Used.Int64() != 14 {
			t.Errorf("usage %v, %v; want 14 of 253", u, err)
		}
	})
}

// A small subnet keeps at least half of its addresses for its tenant.
func TestSliceOfSmallSubnet(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	s := store(t, db)
	n := add(t, db, s, "10.1.0.0/29", 6)
	got, err := s.Slice(t.Context(), n.ID, "east", 6)
	if err != nil || encodeRanges(got) != "10.1.0.5-10.1.0.6" {
		t.Errorf("slice %s, %v; want two of five", encodeRanges(got), err)
	}
}

func TestMACs(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := store(t, db)
		seen := map[MAC]bool{}
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			clear(seen)
			for i := range 300 {
				m, err := s.AnyMAC(tx, "n", ident.TopID(fmt.Sprint(i)))
				if err != nil {
					return err
				}
				if seen[m] || m[0] != 0xfa || m[1] != 0x16 || m[2] != 0x3e {
					t.Errorf("MAC %s: repeated or outside the base", m)
				}
				seen[m] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for m := range seen {
			err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.TakeMAC(tx, "n", m, "x") })
			if !errors.Is(err, ErrTaken) {
				t.Errorf("TakeMAC on the same network: %v, want ErrTaken", err)
			}
			if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.TakeMAC(tx, "other", m, "x") }); err != nil {
				t.Errorf("TakeMAC on another network: %v", err)
			}
			break
		}
	})
}

func TestBaseMAC(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"01:00:5e:00:00:00", "fa:16"} {
		if _, err := New(Config{BaseMAC: bad}); err == nil {
			t.Errorf("base MAC %s was accepted", bad)
		}
	}
}

// The store behaves like a set: whatever is done in whatever order, an address
// is given exactly when nobody has it, and what was released can be had again.
func TestModel(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		s := store(t, db)
		rapid.Check(t, func(rt *rapid.T) { model(t, rt, db, s) })
	})
}

func model(t *testing.T, rt *rapid.T, db *dbschema.DB, s *Store) {
	n := add(t, db, s, "10.2.0.0/28", 0) // hosts .1 to .14, gateway .1
	pools := n.Pools
	held := map[netip.Addr]ident.TopID{}
	next := 0
	owner := func() ident.TopID { next++; return n.ID + ident.TopID(fmt.Sprint("-", next)) }
	inPool := func(a netip.Addr) bool {
		return slices.ContainsFunc(pools, func(r Range) bool { return r.Contains(a) })
	}
	lowest := func() (netip.Addr, bool) {
		for a := n.CIDR.Addr(); n.CIDR.Contains(a); a = a.Next() {
			if inPool(a) && held[a] == "" {
				return a, true
			}
		}
		return netip.Addr{}, false
	}
	address := rapid.Custom(func(rt *rapid.T) netip.Addr {
		return back(netip.MustParseAddr("10.2.0.14"), uint64(rapid.IntRange(0, 13).Draw(rt, "offset")))
	})
	rt.Repeat(map[string]func(*rapid.T){
		"any": func(rt *rapid.T) {
			id := owner()
			got, err := anyOf(t, db, s, n, id)
			want, ok := lowest()
			if ok != (err == nil) || ok && got != want {
				rt.Fatalf("Any = %s, %v; want %s, %v", got, err, want, ok)
			}
			if ok {
				held[got] = id
			}
		},
		"take": func(rt *rapid.T) {
			a, id := address.Draw(rt, "address"), owner()
			err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Take(tx, n.ID, a, id) })
			if (held[a] == "") != (err == nil) {
				rt.Fatalf("Take(%s) = %v, held by %q", a, err, held[a])
			}
			if err == nil {
				held[a] = id
			}
		},
		"release": func(rt *rapid.T) {
			a := address.Draw(rt, "address")
			if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.Release(tx, held[a]) }); err != nil {
				rt.Fatal(err)
			}
			delete(held, a)
		},
		"pools": func(rt *rapid.T) {
			a, b := address.Draw(rt, "first"), address.Draw(rt, "last")
			if b.Less(a) {
				a, b = b, a
			}
			pools = Without([]Range{{a, b}}, netip.MustParseAddr("10.2.0.1"))
			if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return s.SetPools(tx, n.ID, pools) }); err != nil {
				rt.Fatal(err)
			}
		},
	})
}

// The cost of the next address does not grow with the number of those given, nor with gaps.
func BenchmarkAny(b *testing.B) {
	for _, given := range []int{0, 65000} {
		b.Run(fmt.Sprintf("given=%d", given), func(b *testing.B) {
			db := dbtest.SQLite(b)
			s := store(b, db)
			n := add(b, db, s, "10.0.0.0/15", DefaultSlice)
			fill(b, db, s, n, given)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if _, err := anyOf(b, db, s, n, ident.TopID(fmt.Sprint("bench-", i))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill gives addresses and takes every thousandth back.
func fill(b *testing.B, db *dbschema.DB, s *Store, n Subnet, given int) {
	b.Helper()
	err := db.Write(b.Context(), func(tx dbschema.Tx) error {
		for i := range given {
			if _, err := s.Any(tx, n.ID, ident.TopID(fmt.Sprint("fill-", i))); err != nil {
				return err
			}
		}
		for i := 0; i < given; i += 1000 {
			if err := s.Release(tx, ident.TopID(fmt.Sprint("fill-", i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
