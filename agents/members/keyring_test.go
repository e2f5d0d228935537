package members

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// TestKeyIsReplaced: one step after the other at one member after the other, with time between, and nobody notices.
func TestKeyIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		var w watch
		all := f.fleet(t, 1, 5, func(c *Config) {
			if c.Host == member(3).Host {
				c.Changed = w.changed
			}
		})
		await(t, 10*time.Second, "all see all", allSee(all, upTo(1, 5)...))
		old := all[0].Keys()
		for _, do := range []func(*Pool) error{
			func(p *Pool) error { return p.AddKey(key(2)) },
			func(p *Pool) error { return p.UseKey(key(2)) },
			func(p *Pool) error { return p.RemoveKey(key(1)) },
		} {
			for _, r := range all {
				if err := do(r.Pool); err != nil {
					t.Fatal(err)
				}
				step(30 * time.Second)
			}
		}
		if now := all[0].Keys(); len(now) != 1 || len(old) != 1 || now[0] == old[0] {
			t.Errorf("keys were %q and are %q", old, now)
		}
		for i := 1; i <= 5; i++ {
			if got := w.saw(member(i)); got != "alive" {
				t.Errorf("while the key was replaced, %s was %s", member(i), got)
			}
		}
		late := f.start(t, 6, nil) // with the old key
		step(5 * time.Minute)
		if !sees(all[0], upTo(1, 5)...) {
			t.Error("a key that was removed opens the pool")
		}
		if err := late.AddKey(key(2)); err != nil {
			t.Fatal(err)
		}
		if err := late.UseKey(key(2)); err != nil {
			t.Fatal(err)
		}
		all = append(all, late)
		await(t, time.Minute, "with the new key it is in", allSee(all, upTo(1, 6)...))
		endAll(t, all)
	})
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	p, err := New(settings(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		err  error
		want fault.Kind
	}{
		{"add, not base64", p.AddKey("%"), fault.BadRequest},
		{"add, too short", p.AddKey("QUJD"), fault.BadRequest},
		{"use, not base64", p.UseKey("%"), fault.BadRequest},
		{"use, not there", p.UseKey(key(2)), fault.NotFound},
		{"remove, not base64", p.RemoveKey("%"), fault.BadRequest},
		{"remove, in use", p.RemoveKey(key(1)), fault.Conflict},
	} {
		if !fault.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, tt.err, tt.want)
		}
	}
	if err := p.RemoveKey(key(3)); err != nil {
		t.Errorf("remove, not there: %v", err)
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	secret := ident.Secret(strings.Repeat("hunter2", 4) + "!")
	c := settings(1)
	c.Keys = []ident.Secret{secret}
	_, err := New(c)
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, c), "hunter2") {
		t.Errorf("a key that is wrong: %v", err)
	}
}

// TestRemoveKeyMovesNoOther: a packet that is being decrypted meanwhile reads the ring's array. Run with -race.
func TestRemoveKeyMovesNoOther(t *testing.T) {
	t.Parallel()
	raw := func(b byte) []byte { return slices.Repeat([]byte{b}, 32) }
	for gone := byte(2); gone <= 4; gone++ {
		ring, err := memberlist.NewKeyring([][]byte{raw(1), raw(2), raw(3), raw(4)}, raw(1))
		if err != nil {
			t.Fatal(err)
		}
		held := ring.GetKeys() // as by who decrypts
		if err := removeKey(ring, raw(gone)); err != nil {
			t.Fatal(err)
		}
		for i, k := range held {
			if k[0] != byte(i+1) {
				t.Errorf("without %d, who was reading found key %d at %d", gone, k[0], i)
			}
		}
		var left []byte
		for _, k := range ring.GetKeys() {
			left = append(left, k[0])
		}
		if want := slices.DeleteFunc([]byte{1, 2, 3, 4}, func(b byte) bool { return b == gone }); !slices.Equal(left, want) {
			t.Errorf("without %d, the ring has %d", gone, left)
		}
	}
}
