package openstack

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"server": {"id": "7"}}`)
}

// A hundred calls that find the token revoked log in once.
func TestStormOf401LogsInOnce(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	a := f.adaptor(t)
	if _, err := a.Show(t.Context(), sites.Server, "7"); err != nil {
		t.Fatal(err)
	}
	f.revoke()
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := a.Show(t.Context(), sites.Server, "7"); err != nil {
				failed.Add(1)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.loginCount(); n != 2 || failed.Load() != 0 {
		t.Errorf("%d logins and %d failures, want 2 and 0", n, failed.Load())
	}
}

func TestTokenIsReplacedBeforeItEnds(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	f.life = 10 * time.Minute
	var ahead atomic.Int64
	a := f.adaptor(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{0, 1}, {7 * time.Minute, 1}, {9 * time.Minute, 2}} {
		ahead.Store(int64(step.at))
		if _, err := a.Show(t.Context(), sites.Server, "7"); err != nil {
			t.Fatal(err)
		}
		if n := f.loginCount(); n != step.want {
			t.Errorf("after %v: %d logins, want %d", step.at, n, step.want)
		}
	}
}

// A wrong password must not be tried so often that Keystone locks the account.
func TestRefusedLoginIsHeld(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	f.password = "other"
	var ahead atomic.Int64
	a := f.adaptor(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	for range 20 {
		if _, err := a.Show(t.Context(), sites.Server, "7"); !fault.Is(err, fault.Unauthorized) {
			t.Fatalf("got %v, want Unauthorized", err)
		}
	}
	if n := f.loginCount(); n != 1 {
		t.Errorf("%d logins with a wrong password, want 1", n)
	}
	ahead.Store(int64(refusalHold + time.Second))
	f.mu.Lock()
	f.password = "secret"
	f.mu.Unlock()
	if _, err := a.Show(t.Context(), sites.Server, "7"); err != nil {
		t.Errorf("after the password was put right: %v", err)
	}
}

// The caller that happens to do the login may go away: the others must not fail with it.
func TestLoginOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	gate := make(chan struct{})
	f.slowLogin = gate
	a := f.adaptor(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = a.Account(ctx) })
	for f.loginCount() == 0 { // the first caller's login is under way
		if t.Context().Err() != nil {
			t.Fatal("no login came")
		}
	}
	var err error
	wg.Go(func() { _, err = a.Account(t.Context()) })
	cancel()
	close(gate)
	wg.Wait()
	if err != nil {
		t.Errorf("the second caller: %v", err)
	}
}

func TestStreamIsNotSentTwice(t *testing.T) {
	t.Parallel()
	var bodies atomic.Int64
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			bodies.Add(1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprint(w, `{"id": "7", "status": "queued"}`)
	})
	a := f.adaptor(t)
	if _, err := a.Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.revoke() // the look before the upload notices
	if err := a.Upload(t.Context(), "7", endless{n: 10}.reader(), 10); err != nil {
		t.Fatal(err)
	}
	if bodies.Load() != 1 || f.loginCount() != 2 {
		t.Errorf("%d uploads and %d logins, want 1 and 2", bodies.Load(), f.loginCount())
	}
}
