package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// cloud is a bottom with accounts and nothing else.
type cloud struct {
	mu        sync.Mutex // guards the fields below
	passwords map[string]string
	projects  map[string]string // name -> id
	ensured   int               // how often a project was really made
	caps      sites.Capabilities
	down      bool
	noAdmin   bool
	logins    int
	crash     bool // EnsureProject makes the project, then its answer is lost
	quotas    map[string]map[sites.Service]map[string]int64
}

func newCloud() *cloud {
	return &cloud{
		passwords: map[string]string{"admin": "secret", "demo": "secret"},
		projects:  map[string]string{"admin": "p-admin", "demo": "p-demo"},
		quotas:    map[string]map[sites.Service]map[string]int64{},
		caps: sites.Capabilities{
			Services: map[sites.Service]sites.ServiceInfo{
				sites.Identity: {URL: "http://keystone.east:5000/v3"}, sites.Compute: {URL: "http://nova.east"},
				sites.ImageService: {URL: "http://glance.east"}, sites.NetworkSvc: {URL: "http://neutron.east"},
				sites.BlockStorage: {URL: "http://cinder.east"},
			},
			Zones: map[sites.Service][]string{sites.Compute: {"az1", "az2"}, sites.BlockStorage: {"az1", "ssd"}, sites.NetworkSvc: {"nova"}},
		},
	}
}

// account is an adaptor to a cloud as one user.
type account struct {
	sites.Adaptor // nil: nothing else is called
	cloud         *cloud
	site          ident.SiteID
	cred          sites.Credential
}

func (c *cloud) factory(site ident.SiteID, cred sites.Credential) (sites.Adaptor, error) {
	return &account{cloud: c, site: site, cred: cred}, nil
}

func (a *account) user() string {
	if a.cred.UserID != "" {
		return a.cred.UserID
	}
	return a.cred.Username
}

func (a *account) login() error {
	a.cloud.logins++
	if a.cloud.down {
		return &fault.Error{Op: "fake", Site: string(a.site), Kind: fault.Unavailable, Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	}
	if want, ok := a.cloud.passwords[a.user()]; !ok || want != a.cred.Password.Reveal() {
		return &fault.Error{Op: "fake", Site: string(a.site), Kind: fault.Unauthorized, Msg: "The request you have made requires authentication."}
	}
	return nil
}

func (a *account) Site() ident.SiteID { return a.site }

func (a *account) Account(context.Context) (sites.Account, error) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if err := a.login(); err != nil {
		return sites.Account{}, err
	}
	id, name := a.cred.ProjectID, a.cred.ProjectName
	if id == "" {
		id = a.cloud.projects[name]
	}
	return sites.Account{UserID: a.user(), UserName: a.user(), ProjectID: id, ProjectName: name}, nil
}

func (a *account) Probe(context.Context) (sites.Capabilities, error) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if err := a.login(); err != nil {
		return sites.Capabilities{}, err
	}
	caps := a.cloud.caps
	caps.Admin = a.user() == "admin" && !a.cloud.noAdmin
	if !caps.Admin {
		caps.AdminReason = "listing projects was refused (403)"
	}
	return caps, nil
}

func (a *account) EnsureProject(_ context.Context, name, _ string, password ident.Secret) (string, string, error) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if err := a.login(); err != nil {
		return "", "", err
	}
	if a.cloud.projects[name] == "" {
		a.cloud.projects[name] = "id-" + name
		a.cloud.ensured++
	}
	a.cloud.passwords["user-"+name] = password.Reveal()
	if a.cloud.crash {
		return "", "", &fault.Error{Kind: fault.Ambiguous, Err: errors.New("connection lost")}
	}
	return "id-" + name, "user-" + name, nil
}

func (a *account) DeleteProject(_ context.Context, projectID, userID string) error {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if err := a.login(); err != nil {
		return err
	}
	delete(a.cloud.passwords, userID)
	for name, id := range a.cloud.projects {
		if id == projectID {
			delete(a.cloud.projects, name)
		}
	}
	return nil
}

func (a *account) SetQuota(_ context.Context, projectID string, limits map[sites.Service]map[string]int64) error {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	a.cloud.quotas[projectID] = limits
	return nil
}

// holdings is a Remover over a plain map.
type holdings struct {
	mu     sync.Mutex // guards the fields below
	held   map[sites.Kind]int
	forgot int
	purges int
}

func (h *holdings) Holdings(dbschema.Tx, ident.SiteID) (map[sites.Kind]int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held, nil
}

func (h *holdings) Forget(context.Context, dbschema.Tx, ident.SiteID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgot++
	return nil
}

func (h *holdings) Purge(context.Context, dbschema.Tx, ident.SiteID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.purges++
	return nil
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// rig is a registry over one cloud.
type rig struct {
	*Registry
	cloud *cloud
	held  *holdings
	clock *clock
	db    *dbschema.DB
	keys  *Keyring
}

func newRig(t *testing.T, db *dbschema.DB) *rig {
	t.Helper()
	keys, _, err := OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{cloud: newCloud(), held: &holdings{}, clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, db: db, keys: keys}
	g.Registry = g.replica(t)
	return g
}

// replica returns another registry over the same database, as another process would have.
func (g *rig) replica(t *testing.T) *Registry {
	t.Helper()
	r, err := New(t.Context(), Config{DB: g.db, Keys: g.keys, Adaptor: g.cloud.factory, Remover: g.held, Now: g.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func credential(user string) sites.Credential {
	return sites.Credential{AuthURL: "http://keystone.east:5000/v3", Region: "east", Username: user, Password: "secret",
		UserDomainID: "default", ProjectName: user, ProjectDomainID: "default"}
}

func (g *rig) add(t *testing.T, name ident.SiteID, user string, tenancy sites.Tenancy) {
	t.Helper()
	if _, err := g.Add(t.Context(), Spec{Name: name, Credential: credential(user), Tenancy: tenancy}, false); err != nil {
		t.Fatal(err)
	}
}
