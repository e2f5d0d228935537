// Package admintest is a Top with the operator API alone, in the test's own
// process, for tests of the API and of its clients: a Keystone of two users and
// sites that exist only in memory.
package admintest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/admin"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// Password is everybody's password, at Top and at the sites.
const Password = "secret"

// Top is the running server. Its users are admin (role admin), demo (member)
// and viewer (reader); its sites are any Keystone URL of host *.test, where
// admin is an administrator and demo a member.
type Top struct {
	URL   string // of the server: http://127.0.0.1:PORT
	Sites *registry.Registry
	Audit *audit.Store

	mu      sync.Mutex // guards the fields below
	held    map[sites.Kind]int
	dead    bool
	noAdmin bool
	refuse  bool
}

// New starts a Top that ends with the test.
func New(t testing.TB) *Top {
	t.Helper()
	db := dbtest.SQLite(t)
	keys, _, err := registry.OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	top := &Top{Audit: audit.NewStore(db, time.Now)}
	top.Sites, err = registry.New(t.Context(), registry.Config{DB: db, Keys: keys, Remover: remover{top},
		Adaptor: func(name ident.SiteID, cred sites.Credential) (sites.Adaptor, error) {
			return &account{top: top, name: name, cred: cred}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	h := admin.New(admin.Config{Sites: top.Sites, Jobs: jobs.NewStore(db), Audit: top.Audit, Explain: explain, Caller: who, Version: "test"})
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		faultjson.Write(c.Response(), faultjson.Asked{Service: faultjson.Operator}, err)
	}
	h.Routes(e.Group("/v1"))
	h.Docs(e.Group("/docs"))
	e.POST("/identity/v3/auth/tokens", login)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	top.URL = server.URL
	if err := db.Write(t.Context(), func(tx dbschema.Tx) error {
		_, err := jobs.Insert(t.Context(), tx, Job{TopID: "7"}, jobs.Options{ResourceID: "7"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return top
}

// Job is the args of the one job that a fresh Top has.
type Job struct {
	TopID string `json:"top_id"`
}

// Kind returns "admintest.job".
func (Job) Kind() string { return "admintest.job" }

// Hold makes every site hold these resources.
func (t *Top) Hold(held map[sites.Kind]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = held
}

// SetDead makes the sites refuse connections, or answer again.
func (t *Top) SetDead(dead bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = dead
}

// Refuse lets every purge that begins from now on fail at once.
func (t *Top) Refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refuse = true
}

// TakeAdmin takes the administrator's rights from the sites' accounts.
func (t *Top) TakeAdmin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noAdmin = true
}

// roles of Top's users.
func roles(user string) []string {
	switch user {
	case "admin", "demo", "viewer":
		return map[string][]string{"admin": {"admin"}, "demo": {"member"}, "viewer": {"reader"}}[user]
	}
	return nil
}

// login is Top's Keystone: the token is "token-" and the user's name. It also
// knows the application credential "appcred", which is admin's.
func login(c echo.Context) error {
	var req struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string } `json:"user"`
				} `json:"password"`
				AppCred struct{ ID, Secret string } `json:"application_credential"`
			} `json:"identity"`
		} `json:"auth"`
	}
	if err := json.NewDecoder(c.Request().Body).Decode(&req); err != nil {
		return fault.Wrap(fault.BadRequest, "admintest.login", err)
	}
	user, password := req.Auth.Identity.Password.User.Name, req.Auth.Identity.Password.User.Password
	if req.Auth.Identity.AppCred.ID == "appcred" {
		user, password = "admin", req.Auth.Identity.AppCred.Secret
	}
	if roles(user) == nil || password != Password {
		return fault.New(fault.Unauthorized, "admintest.login", "The request you have made requires authentication.")
	}
	c.Response().Header().Set("X-Subject-Token", "token-"+user)
	return c.JSON(http.StatusCreated, map[string]any{"token": map[string]any{"catalog": []any{}, "user": map[string]any{"name": user}}})
}

func who(c echo.Context) (sites.Caller, error) {
	user := strings.TrimPrefix(c.Request().Header.Get("X-Auth-Token"), "token-")
	if roles(user) == nil {
		return sites.Caller{}, fault.New(fault.Unauthorized, "admintest.who", "The request you have made requires authentication.")
	}
	return sites.Caller{UserName: user, ProjectID: "p-" + user, Roles: roles(user)}, nil
}

func explain(_ context.Context, who sites.Caller, body map[string]any) (placement.Explanation, error) {
	if body["server"] == nil {
		return placement.Explanation{}, fault.New(fault.BadRequest, "admintest.explain", "server is missing")
	}
	return placement.Explanation{Verdicts: []placement.Verdict{}, Refused: &placement.Refusal{Kind: "unavailable", Message: "No site for " + who.ProjectID + "."}}, nil
}

// remover says what Hold said.
type remover struct{ top *Top }

func (r remover) Holdings(dbschema.Tx, ident.SiteID) (map[sites.Kind]int, error) {
	r.top.mu.Lock()
	defer r.top.mu.Unlock()
	return r.top.held, nil
}

func (remover) Forget(context.Context, dbschema.Tx, ident.SiteID) error { return nil }

// Purge inserts the job of a purge, which nobody works.
func (r remover) Purge(ctx context.Context, tx dbschema.Tx, site ident.SiteID) error {
	r.top.mu.Lock()
	refuse := r.top.refuse
	r.top.mu.Unlock()
	o := jobs.Options{ResourceID: cascade.PurgeResource(site)}
	if refuse { // a job whose dependency was cancelled is failed from the start, with that as its reason
		id, err := jobs.Insert(ctx, tx, Job{}, jobs.Options{})
		if err == nil {
			err = jobs.CancelJob(tx, id)
		}
		if err != nil {
			return err
		}
		o.After = []jobs.ID{id}
	}
	_, err := jobs.Insert(ctx, tx, purge{site}, o)
	return err
}

type purge struct {
	Site ident.SiteID `json:"site"`
}

// Kind returns that of the real one.
func (purge) Kind() string { return cascade.PurgeKind }

// account is a session at a site that exists in memory.
type account struct {
	sites.Adaptor // nil: nothing else is called
	top           *Top
	name          ident.SiteID
	cred          sites.Credential
}

func (a *account) user() string {
	if a.cred.AppCredID != "" {
		return "admin"
	}
	return a.cred.Username
}

func (a *account) login() error {
	a.top.mu.Lock()
	defer a.top.mu.Unlock()
	if a.top.dead || !strings.Contains(a.cred.AuthURL, ".test") {
		return &fault.Error{Op: "admintest", Site: string(a.name), Kind: fault.Unavailable, Err: syscall.ECONNREFUSED}
	}
	if roles(a.user()) == nil || a.cred.Password.Reveal()+a.cred.AppCredSecret.Reveal() != Password {
		return &fault.Error{Op: "admintest", Site: string(a.name), Kind: fault.Unauthorized, Msg: "The request you have made requires authentication."}
	}
	return nil
}

// Site returns the site's name.
func (a *account) Site() ident.SiteID { return a.name }

// Account returns the user, in a project of the same name.
func (a *account) Account(context.Context) (sites.Account, error) {
	return sites.Account{UserID: "u-" + a.user(), UserName: a.user(), ProjectID: "p-" + a.user(), ProjectName: a.user(), Roles: roles(a.user())}, a.login()
}

// Probe returns a plain site with two zones, half full.
func (a *account) Probe(context.Context) (sites.Capabilities, error) {
	if err := a.login(); err != nil {
		return sites.Capabilities{}, err
	}
	a.top.mu.Lock()
	defer a.top.mu.Unlock()
	caps := sites.Capabilities{
		ProbedAt: time.Now().UTC().Truncate(time.Microsecond),
		Services: map[sites.Service]sites.ServiceInfo{
			sites.Identity: {URL: a.cred.AuthURL}, sites.Compute: {Version: "v2.1", MinMicroversion: "2.1", MaxMicroversion: "2.93"},
			sites.ImageService: {}, sites.NetworkSvc: {}, sites.BlockStorage: {},
		},
		Zones:            map[sites.Service][]string{sites.Compute: {"az1", "az2"}, sites.BlockStorage: {"nova"}},
		ExternalNetworks: []sites.ExternalNetwork{{ID: "n1", Name: "public"}},
		Admin:            a.user() == "admin" && !a.top.noAdmin, AdminReason: "listing projects was refused (403)",
		Capacity: sites.Capacity{Known: true, Hosts: 2, VCPUs: 64, VCPUsUsed: 32, RAM: 65536, RAMUsed: 1024},
	}
	if caps.Admin {
		caps.AdminReason = ""
	}
	return caps, nil
}

// EnsureProject returns ids made of the name.
func (a *account) EnsureProject(_ context.Context, name, _ string, _ ident.Secret) (string, string, error) {
	return "p-" + name, "u-" + name, a.login()
}

// DeleteProject does nothing.
func (a *account) DeleteProject(context.Context, string, string) error { return a.login() }

// SetQuota does nothing.
func (a *account) SetQuota(context.Context, string, map[sites.Service]map[string]int64) error {
	return a.login()
}

var _ sites.ProjectMaker = (*account)(nil)
