package agent

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/members"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A gateway that dies is dead to the program of another host within seconds, also while nobody else is there to tell; and alive again when it is back.
func TestDeadGateway(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("# of the site\n"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	ours, theirs := alone(), alone()
	cfg := quick(ours, theirs)
	h.cfg.Members, h.cfg.MembersKeyFile = &cfg, keys
	h.start()

	gateway := quick(theirs, ours)
	gateway.Host, gateway.Keys, gateway.Meta.Gateway = "gw", []ident.Secret{ident.Secret(key)}, true
	stop := play(t, gateway)
	h.await("the gateway is known", func() (bool, string) {
		_, ok := h.liveness.pool.View().Member(members.ID{Site: "east", Host: "gw"})
		return ok, "it is not"
	})
	if h.down("gw") {
		t.Error("a gateway that lives is taken for dead")
	}
	stop(members.ErrStay) // it says nothing, as one that lost its power
	h.await("the gateway is dead", func() (bool, string) { return h.down("gw"), "not so" })
	stop = play(t, gateway)
	h.await("the gateway lives", func() (bool, string) { return !h.down("gw"), "not so" })
	stop(nil)
	h.await("the gateway has left", func() (bool, string) { return h.down("gw"), "not so" })
}

// Who died before an agent started is dead to it: it has written down whom it knew. An agent that was restarted took a dead gateway for one that lives,
// and nothing told it otherwise.
func TestDeadOverRestarts(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	ours, theirs := alone(), alone()
	cfg := quick(ours, theirs)
	h.cfg.Members, h.cfg.MembersKeyFile = &cfg, keys
	h.start()
	gateway := quick(theirs, ours)
	gateway.Host, gateway.Keys, gateway.Meta.Gateway = "gw", []ident.Secret{ident.Secret(key)}, true
	kept := func(gone bool) {
		t.Helper()
		h.await("it is written down", func() (bool, string) {
			met, err := readAcquaintances(h.cfg.StateDir)
			gw, ok := met["gw"]
			return err == nil && ok && gw.Gone.IsZero() != gone, fmt.Sprint(met, err)
		})
	}
	again := func() {
		t.Helper()
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		h.start()
	}

	stop := play(t, gateway)
	kept(false)
	stop(members.ErrStay)
	kept(true)
	again()
	h.await("the gateway is dead to a new agent", func() (bool, string) { return h.down("gw"), "not so" })
	stop = play(t, gateway)
	h.await("the gateway lives", func() (bool, string) { return !h.down("gw"), "not so" })
	kept(false)

	// Both go at once, and one comes back.
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	stop(members.ErrStay)
	h.prepare = func(a *Agent) { a.liveness.patience = time.Second }
	h.start()
	h.await("the gateway is missed", func() (bool, string) { return h.down("gw"), "not so" })

	// A file that is damaged is as good as none.
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(acquaintancesFile(h.cfg.StateDir), []byte("null"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	stop = play(t, gateway)
	kept(false)
	stop(members.ErrStay)
	h.await("the gateway is dead", func() (bool, string) { return h.down("gw"), "not so" })
}

func (h *host) down(id string) (down bool) {
	h.State().Read(func(v *state.View) { down = state.Find[*state.Down](v, id) != nil })
	return down
}

// quick is a pool with times for a test.
func quick(bind, seed netip.AddrPort) members.Config {
	cfg := members.Default(members.Site)
	cfg.Site, cfg.Bind, cfg.Seeds = "east", bind, []string{seed.String()}
	cfg.Probe, cfg.ProbeTimeout, cfg.Gossip, cfg.Rejoin = 200*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond, time.Second
	return cfg
}

// play is another host's pool, until stop.
func play(t *testing.T, cfg members.Config) (stop func(cause error)) {
	t.Helper()
	pool, err := members.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var g errgroup.Group
	g.Go(func() error { return pool.Run(ctx) })
	return func(cause error) {
		cancel(cause)
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// alone is an address of this machine's own 127.0.0.0/8 that no other test has.
func alone() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(64 + rand.IntN(60)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))}), members.SitePort) //nolint:gosec // no secret
}

// A host id is bound once, and stays so over restarts.
func TestBound(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, err := bound(dir, func() time.Time { return now })
	if err != nil || !first.Equal(now) {
		t.Fatalf("%v, %v, want %v", first, err, now)
	}
	again, err := bound(dir, func() time.Time { return now.Add(time.Hour) })
	if err != nil || !again.Equal(now) {
		t.Errorf("after a restart %v, %v, want %v", again, err, now)
	}
}
