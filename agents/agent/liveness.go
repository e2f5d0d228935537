package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/members"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// liveness takes part in the pool of the site's hosts: it announces what this host is by the desired state, and tells the program which others are
// dead. Without a pool no host is ever taken for dead.
type liveness struct {
	a       *Agent
	pool    *members.Pool
	keyFile string
	held    []ident.Secret // keys, the first encrypts

	// patience is how long an agent that has started waits for those whom it met before; then they are dead to it.
	patience time.Duration

	unsaved chan struct{} // holds one: whom this host has met has changed. Never closed

	mu   sync.Mutex // guards the fields below
	met  acquaintances
	down []state.Ref // told to the program
}

// missedAfter is patience for the largest of pools, all of whose members start at once.
const missedAfter = time.Minute

// gossipRetry is how long an agent whose place in the pool another one holds waits before it asks again.
const gossipRetry = 15 * time.Second

func newLiveness(a *Agent) (*liveness, error) {
	if a.cfg.Members == nil {
		return nil, nil //nolint:nilnil // no pool is no error
	}
	cfg := *a.cfg.Members
	l := &liveness{a: a, keyFile: a.cfg.MembersKeyFile, patience: missedAfter, unsaved: make(chan struct{}, 1)}
	var err error
	if l.held, err = readKeys(l.keyFile); err != nil {
		return nil, err
	}
	if cfg.Bound, err = bound(a.cfg.StateDir, a.core.now); err != nil {
		return nil, err
	}
	if l.met, err = readAcquaintances(a.cfg.StateDir); err != nil {
		a.log.Warn("hosts met before were forgotten", "host", a.cfg.Host, "err", err)
	}
	l.tell() // before the program is made for the first time
	cfg.Host, cfg.Keys, cfg.Log, cfg.Registerer, cfg.Changed = a.cfg.Host, l.held, a.log, a.registry, l.changed
	l.pool, err = members.New(cfg)
	return l, err
}

// bound is since when this machine has the host's id: it is written down at the first start.
func bound(dir string, now func() time.Time) (time.Time, error) {
	path := filepath.Join(dir, "bound")
	var at struct{ Since time.Time }
	raw, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(raw, &at) == nil && !at.Since.IsZero() {
		return at.Since, nil
	}
	at.Since = now().UTC().Truncate(time.Millisecond)
	if raw, err = json.Marshal(at); err != nil {
		return time.Time{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return time.Time{}, fmt.Errorf("state directory: %w", err)
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return time.Time{}, fmt.Errorf("state directory: %w", err)
	}
	return at.Since, os.Rename(path+".new", path)
}

// readKeys reads a file of keys, one a line.
func readKeys(path string) ([]ident.Secret, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	var out []ident.Secret
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, ident.Secret(line))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("gossip keys: %s has none: write base64 of 16, 24 or 32 random bytes into it", path)
	}
	return out, nil
}

// Run takes part until ctx ends. The others do not notice that an agent is started again; one that stays away is dead to them after some seconds. An
// agent whose host id another machine holds goes on without a pool, says so, and asks again.
func (l *liveness) Run(ctx context.Context) error {
	staying, stay := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { stay(members.ErrStay) })()
	defer stay(members.ErrStay)
	for {
		err := l.pool.Run(staying)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		l.a.core.alarm(true, alarmMembers, l.a.cfg.Host, "this host is not in the pool of its site: %v", err)
		poke(l.a.report)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gossipRetry):
		}
	}
}

// Watch has the pool use the keys that its file has, and announce what this host is now.
func (l *liveness) Watch(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	missed := time.NewTimer(l.patience)
	defer missed.Stop()
	for {
		l.announce()
		l.rekey()
		select {
		case <-ctx.Done():
			return nil
		case <-missed.C:
			l.miss()
		case <-l.unsaved:
			l.keep()
		case <-ticker.C:
		}
	}
}

func (l *liveness) announce() {
	var self *state.Host
	l.a.core.store.Read(func(v *state.View) { self = state.Find[*state.Host](v, l.a.cfg.Host) })
	if self == nil {
		return
	}
	err := l.pool.Update(func(m *members.Meta) { m.Gateway, m.Ends = self.Gateway, slices.Clone(self.TunnelEnds) })
	l.a.core.alarm(err != nil, alarmAnnounce, l.a.cfg.Host, "what this host is cannot be announced: %v", err)
}

// rekey makes the pool's keys those of the file: first the new ones, then the one that encrypts, then without the old ones.
func (l *liveness) rekey() {
	want, err := readKeys(l.keyFile)
	if err == nil && !slices.Equal(want, l.held) {
		err = l.turn(want)
	}
	l.a.core.alarm(err != nil, alarmKeys, l.a.cfg.Host, "%v", err)
}

func (l *liveness) turn(want []ident.Secret) error {
	for _, k := range want {
		if err := l.pool.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := l.pool.UseKey(want[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	var errs []error
	for _, k := range l.held {
		if !slices.Contains(want, k) {
			errs = append(errs, l.pool.RemoveKey(k))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	l.held = want
	return nil
}

// changed tells the program who is dead: whoever died or left, and a gateway that says that it is sick. A host that was never a member is not dead.
func (l *liveness) changed(v *members.View) {
	l.a.core.alarm(false, alarmMembers, l.a.cfg.Host, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	news, now := false, l.a.core.now()
	for m := range v.All() {
		if m.ID != v.Self() && m.Site == v.Self().Site {
			gone := m.State != members.Alive || m.Gateway && m.Health != members.Healthy
			news = l.met.see(m.Host, gone, now) || news
		}
	}
	if news {
		l.tell()
		poke(l.unsaved)
	}
}

// miss takes those for dead who were there when the agent last ran, and have not come since it started. Hosts that nobody speaks of any more are forgotten.
func (l *liveness) miss() {
	l.mu.Lock()
	defer l.mu.Unlock()
	present, now := map[string]bool{}, l.a.core.now()
	v := l.pool.View()
	for m := range v.All() {
		present[m.Host] = present[m.Host] || m.Site == v.Self().Site
	}
	l.a.core.store.Read(func(v *state.View) {
		for host, was := range l.met {
			switch {
			case present[host]:
			case was.Gone.IsZero():
				l.met.see(host, true, now)
			case now.Sub(was.Gone) > forgetAfter && state.Find[*state.Host](v, host) == nil:
				delete(l.met, host)
			}
		}
	})
	l.tell()
	poke(l.unsaved)
}

// tell makes the program's dead those that are gone. The lock is held, or nobody else is there yet.
func (l *liveness) tell() {
	var now, gone []state.Ref
	var set []state.Object
	for _, host := range slices.Sorted(maps.Keys(l.met)) {
		if d := (&state.Down{ID: host}); !l.met[host].Gone.IsZero() {
			if now = append(now, d.Ref()); !slices.Contains(l.down, d.Ref()) {
				set = append(set, d)
			}
		}
	}
	for _, r := range l.down {
		if !slices.Contains(now, r) {
			gone = append(gone, r)
		}
	}
	l.down = now
	if len(set)+len(gone) > 0 {
		l.a.local(set, gone)
	}
}

// keep writes down whom this host has met.
func (l *liveness) keep() {
	l.mu.Lock()
	met := maps.Clone(l.met)
	l.mu.Unlock()
	err := met.write(l.a.cfg.StateDir)
	l.a.core.alarm(err != nil, alarmMet, l.a.cfg.Host, "whom this host has met cannot be written down: %v", err)
}
