package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// clock is a time that tests step.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

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

// world is a store with an admin, and ann, a member of the project demo.
type world struct {
	*Store
	t          *testing.T
	clock      *clock
	demo, ann  string
	admin      string
	adminLogin Login
	annLogin   Login
}

func newWorld(t *testing.T, db *dbschema.DB) *world {
	t.Helper()
	w := &world{t: t, clock: newClock()}
	var err error
	if w.Store, err = New(Default(), Options{DB: db, Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing happens
		if err := w.Bootstrap(t.Context(), Bootstrap{AdminPassword: "s3cret"}); err != nil {
			t.Fatal(err)
		}
		if w.demo, w.ann, err = w.EnsureMember(t.Context(), "demo", "ann", "ann-pw", RoleMember); err != nil {
			t.Fatal(err)
		}
	}
	w.adminLogin = password("admin", "s3cret", "admin")
	w.annLogin = password("ann", "ann-pw", "demo")
	w.admin = w.login(w.adminLogin).Token.User.ID
	return w
}

func password(user, secret, project string) Login {
	l := Login{
		Password:   &PasswordProof{User: Named{Name: user, DomainName: "Default"}, Password: ident.Secret(secret)},
		RemoteAddr: "192.0.2.1",
	}
	if project != "" {
		l.Scope.Project = &Named{Name: project, DomainID: DefaultDomain}
	} else {
		l.Scope.Unscoped = true
	}
	return l
}

func (w *world) login(l Login) *Issued {
	w.t.Helper()
	got, err := w.Login(w.t.Context(), l)
	if err != nil {
		w.t.Fatalf("login: %v", err)
	}
	return got
}

func (w *world) valid(i *Issued) bool {
	w.t.Helper()
	_, err := w.Validate(w.t.Context(), i.Secret.Reveal())
	if err != nil && !fault.Is(err, fault.Unauthorized) {
		w.t.Fatalf("validate: %v", err)
	}
	return err == nil
}

func (w *world) role(name string) string {
	w.t.Helper()
	roles, err := w.Roles(w.t.Context(), RoleFilter{Name: name})
	if err != nil || len(roles) != 1 {
		w.t.Fatalf("role %s: %v %v", name, roles, err)
	}
	return roles[0].ID
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) { f(t, newWorld(t, db)) })
}

func want(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func TestPasswordLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		got := w.login(w.annLogin)
		tok := got.Token
		if tok.User.Name != "ann" || tok.Project.Name != "demo" || tok.Project.DomainName != "Default" {
			t.Errorf("token is of %+v in %+v", tok.User, tok.Project)
		}
		if roles := strings.Join(tok.RoleNames(), " "); roles != "member reader" {
			t.Errorf("roles %q, want those that member implies too", roles)
		}
		if n := len(got.Secret); n > 255 || strings.ContainsAny(got.Secret.Reveal(), " \r\n,;\"") {
			t.Errorf("token of %d bytes is not fit for a header", n)
		}
		if life := tok.ExpiresAt.Sub(tok.IssuedAt); life != 8*time.Hour {
			t.Errorf("token lives %v, want 8h", life)
		}
		shown, err := w.Validate(t.Context(), got.Secret.Reveal())
		if err != nil || shown.AuditIDs[0] != tok.AuditIDs[0] || !shown.ExpiresAt.Equal(tok.ExpiresAt) || !shown.IssuedAt.Equal(tok.IssuedAt) {
			t.Errorf("validated as %+v, %v; issued as %+v", shown, err, tok)
		}
		w.clock.step(8*time.Hour - time.Second)
		if !w.valid(got) {
			t.Error("token ended too early")
		}
		w.clock.step(time.Second)
		if w.valid(got) {
			t.Error("token outlives its expiry")
		}
	})
}

// Every login that fails is answered alike, so that nobody learns who exists.
func TestLoginRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if _, err := w.CreateProject(t.Context(), Project{Name: "other", Enabled: true}); err != nil {
			t.Fatal(err)
		}
		byID := password("", "ann-pw", "demo")
		byID.Password.User = Named{ID: "nobody"}
		messages := map[string]bool{}
		for name, l := range map[string]Login{
			"wrong password":   password("ann", "x", "demo"),
			"empty password":   password("ann", "", "demo"),
			"unknown user":     password("bob", "ann-pw", "demo"),
			"unknown id":       byID,
			"unknown project":  password("ann", "ann-pw", "nowhere"),
			"no role there":    password("ann", "ann-pw", "other"),
			"unknown token":    {Token: "hwt_nonsense"},
			"long token":       {Token: ident.Secret(strings.Repeat("x", 4096))},
			"unknown app cred": {Credential: &CredentialProof{ID: "nope", Secret: "x"}},
			"NUL in a name":    password("an\x00n", "ann-pw", "demo"),
			"NUL in a scope":   password("ann", "ann-pw", "de\x00mo"),
			"NUL in an id":     {Credential: &CredentialProof{ID: "\x00", Secret: "x"}},
			"long password":    password("ann", strings.Repeat("x", 5000), "demo"),
		} {
			_, err := w.Login(t.Context(), l)
			want(t, name, err, fault.Unauthorized)
			messages[fault.Message(err)] = true
		}
		if len(messages) != 1 {
			t.Errorf("refusals differ: %v", messages)
		}
		_, err := w.Login(t.Context(), Login{})
		want(t, "no method", err, fault.BadRequest)
	})
}

func TestScopes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		unscoped := w.login(password("ann", "ann-pw", ""))
		if unscoped.Token.Project != nil || len(unscoped.Token.Roles) != 0 {
			t.Errorf("unscoped token has %+v", unscoped.Token)
		}
		w.clock.step(time.Hour)
		scoped := w.login(Login{Token: unscoped.Secret, Scope: Scope{Project: &Named{ID: w.demo}}})
		if scoped.Token.ProjectID() != w.demo {
			t.Errorf("rescoped to %q, want %q", scoped.Token.ProjectID(), w.demo)
		}
		if !scoped.Token.ExpiresAt.Equal(unscoped.Token.ExpiresAt) {
			t.Error("rescoping made a token live longer than the first")
		}
		if len(scoped.Token.AuditIDs) != 2 || scoped.Token.AuditIDs[1] != unscoped.Token.AuditIDs[0] {
			t.Errorf("chain %v does not lead to %v", scoped.Token.AuditIDs, unscoped.Token.AuditIDs)
		}
		again := w.login(Login{Token: scoped.Secret, Scope: Scope{Project: &Named{ID: w.demo}}})
		if again.Token.AuditIDs[1] != unscoped.Token.AuditIDs[0] {
			t.Error("the chain's head was lost on the second rescope")
		}
		domain := w.adminLogin
		domain.Scope = Scope{Domain: &Named{Name: "Default"}}
		if got := w.login(domain).Token; got.Domain == nil || got.Domain.ID != DefaultDomain || len(got.Roles) != 3 {
			t.Errorf("domain scope: %+v", got)
		}
		byDefault := w.annLogin
		byDefault.Scope = Scope{}
		if got := w.login(byDefault).Token.ProjectID(); got != w.demo {
			t.Errorf("default project: %q, want %q", got, w.demo)
		}
	})
}

func TestRevocation(t *testing.T) {
	pw := ident.Secret("fresh")
	off, on := false, true
	for name, act := range map[string]func(w *world, i *Issued) error{
		"token revoked": func(w *world, i *Issued) error { return w.Revoke(w.t.Context(), i.Secret.Reveal()) },
		"password set": func(w *world, i *Issued) error {
			_, err := w.UpdateUser(w.t.Context(), w.ann, UserChange{Password: &pw})
			return err
		},
		"password changed": func(w *world, i *Issued) error {
			return w.ChangePassword(w.t.Context(), w.ann, "ann-pw", "fresh", "")
		},
		"user disabled and enabled": func(w *world, i *Issued) error {
			if _, err := w.UpdateUser(w.t.Context(), w.ann, UserChange{Changed: Changed{Enabled: &off}}); err != nil {
				return err
			}
			_, err := w.UpdateUser(w.t.Context(), w.ann, UserChange{Changed: Changed{Enabled: &on}})
			return err
		},
		"project disabled and enabled": func(w *world, i *Issued) error {
			if _, err := w.UpdateProject(w.t.Context(), w.demo, Changed{Enabled: &off}, nil); err != nil {
				return err
			}
			_, err := w.UpdateProject(w.t.Context(), w.demo, Changed{Enabled: &on}, nil)
			return err
		},
		"last role removed": func(w *world, i *Issued) error {
			return w.Unassign(w.t.Context(), Assignment{RoleID: w.role(RoleMember), UserID: w.ann, ProjectID: w.demo})
		},
		"user deleted":    func(w *world, i *Issued) error { return w.DeleteUser(w.t.Context(), w.ann) },
		"project deleted": func(w *world, i *Issued) error { return w.DeleteProject(w.t.Context(), w.demo) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				i := w.login(w.annLogin)
				if !w.valid(i) {
					t.Fatal("a fresh token is not valid")
				}
				if err := act(w, i); err != nil {
					t.Fatal(err)
				}
				if w.valid(i) {
					t.Error("the token is still valid in the process that ended it")
				}
				if other := w.login(w.adminLogin); !w.valid(other) {
					t.Error("somebody else's token ended too")
				}
			})
		})
	}
}

// A change made in one process is seen by another within CacheFor.
func TestReplicas(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other, err := New(Default(), Options{DB: w.db, Now: w.clock.now})
		if err != nil {
			t.Fatal(err)
		}
		i := w.login(w.annLogin)
		if _, err := other.Validate(t.Context(), i.Secret.Reveal()); err != nil {
			t.Fatal(err)
		}
		if err := w.Revoke(t.Context(), i.Secret.Reveal()); err != nil {
			t.Fatal(err)
		}
		w.clock.step(CacheFor)
		_, err = other.Validate(t.Context(), i.Secret.Reveal())
		want(t, "after CacheFor", err, fault.Unauthorized)
	})
}

// A token's roles follow the assignments: one given later counts, one of several taken away does not.
func TestRolesFollow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		i := w.login(w.annLogin)
		a := Assignment{RoleID: w.role(RoleAdmin), UserID: w.ann, ProjectID: w.demo}
		roles := func() string {
			tok, err := w.Validate(t.Context(), i.Secret.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(tok.RoleNames(), " ")
		}
		for range 2 {
			if err := w.Assign(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		if got := roles(); got != "admin member reader" {
			t.Errorf("after giving admin: %q", got)
		}
		if err := w.Unassign(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := roles(); got != "member reader" {
			t.Errorf("after taking admin: %q", got)
		}
		want(t, "taking it twice", w.Unassign(t.Context(), a), fault.NotFound)
		want(t, "unknown role", w.Assign(t.Context(), Assignment{RoleID: "x", UserID: w.ann, ProjectID: w.demo}), fault.NotFound)
	})
}

func TestGroups(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		g, err := w.CreateGroup(ctx, Group{Name: "ops"})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.CreateProject(ctx, Project{Name: "p2", Enabled: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Assign(ctx, Assignment{RoleID: w.role(RoleReader), GroupID: g.ID, ProjectID: p.ID}); err != nil {
			t.Fatal(err)
		}
		l := password("ann", "ann-pw", "p2")
		_, err = w.Login(ctx, l)
		want(t, "before joining", err, fault.Unauthorized)
		if err := w.AddMember(ctx, g.ID, w.ann); err != nil {
			t.Fatal(err)
		}
		i := w.login(l)
		if roles := i.Token.RoleNames(); len(roles) != 1 || roles[0] != RoleReader {
			t.Errorf("roles by group: %v", roles)
		}
		list, err := w.Projects(ctx, ProjectFilter{UserID: w.ann})
		if err != nil || len(list) != 2 {
			t.Errorf("ann's projects: %v %v, want demo and p2", list, err)
		}
		effective, err := w.EffectiveAssignments(ctx, Assignment{UserID: w.ann})
		if err != nil || len(effective) != 3 { // member, reader in demo; reader in p2
			t.Errorf("effective: %v %v", effective, err)
		}
		if err := w.RemoveMember(ctx, g.ID, w.ann); err != nil {
			t.Fatal(err)
		}
		if w.valid(i) {
			t.Error("leaving the group leaves its token valid")
		}
	})
}

func TestApplicationCredentials(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		ann := w.login(w.annLogin).Token
		made, secret, err := w.CreateCredential(ctx, ann, NewCredential{Credential: Credential{Name: "ci"}, RoleNames: []string{RoleReader}})
		if err != nil {
			t.Fatal(err)
		}
		byID := Login{Credential: &CredentialProof{ID: made.ID, Secret: secret}}
		byName := Login{Credential: &CredentialProof{Name: "ci", User: Named{ID: w.ann}, Secret: secret}}
		i := w.login(byID)
		if roles := i.Token.RoleNames(); len(roles) != 1 || roles[0] != RoleReader || i.Token.ProjectID() != w.demo {
			t.Errorf("credential's token: %v in %q", roles, i.Token.ProjectID())
		}
		w.login(byName)
		_, err = w.Login(ctx, Login{Token: i.Secret, Scope: Scope{Project: &Named{ID: w.demo}}})
		want(t, "rescope", err, fault.Forbidden)
		_, _, err = w.CreateCredential(ctx, i.Token, NewCredential{Credential: Credential{Name: "more"}})
		want(t, "restricted makes another", err, fault.Forbidden)
		_, _, err = w.CreateCredential(ctx, ann, NewCredential{Credential: Credential{Name: "x"}, RoleNames: []string{RoleAdmin}})
		want(t, "a role that ann has not", err, fault.BadRequest)
		_, _, err = w.CreateCredential(ctx, ann, NewCredential{Credential: Credential{Name: "ci"}})
		want(t, "same name", err, fault.Conflict)
		_, err = w.Credential(ctx, w.admin, made.ID)
		want(t, "somebody else's", err, fault.NotFound)

		soon := w.clock.now().Add(time.Minute)
		own, _, err := w.CreateCredential(ctx, ann, NewCredential{Credential: Credential{Name: "own", ExpiresAt: &soon}, Secret: "my own"})
		if err != nil {
			t.Fatal(err)
		}
		j := w.login(Login{Credential: &CredentialProof{ID: own.ID, Secret: "my own"}})
		if !j.Token.ExpiresAt.Equal(soon) {
			t.Errorf("token ends %v, want with its credential %v", j.Token.ExpiresAt, soon)
		}
		w.clock.step(2 * time.Minute)
		_, err = w.Login(ctx, Login{Credential: &CredentialProof{ID: own.ID, Secret: "my own"}})
		want(t, "expired credential", err, fault.Unauthorized)

		if err := w.DeleteCredential(ctx, w.ann, made.ID); err != nil {
			t.Fatal(err)
		}
		if w.valid(i) {
			t.Error("deleting the credential leaves its token valid")
		}
		_, err = w.Login(ctx, byID)
		want(t, "deleted credential", err, fault.Unauthorized)
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		i := w.login(w.annLogin)
		w.clock.step(9 * time.Hour)
		if _, err := w.Inspect(t.Context(), i.Secret.Reveal(), true); err != nil {
			t.Errorf("allow_expired within the window: %v", err)
		}
		_, err := w.Inspect(t.Context(), i.Secret.Reveal(), false)
		want(t, "expired", err, fault.NotFound)
		if n, err := w.Sweep(t.Context()); n != 0 || err != nil {
			t.Errorf("swept %d, %v within the window", n, err)
		}
		w.clock.step(w.cfg.ExpiredWindow)
		if n, err := w.Sweep(t.Context()); n < 2 || err != nil {
			t.Errorf("swept %d, %v after the window, want all", n, err)
		}
	})
}

func TestNamesAndDeletes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		_, err := w.CreateUser(ctx, User{Name: "ann"}, "")
		want(t, "same user", err, fault.Conflict)
		_, err = w.CreateUser(ctx, User{Name: "x", DomainID: "nope"}, "")
		want(t, "unknown domain", err, fault.NotFound)
		_, err = w.CreateProject(ctx, Project{Name: "demo"})
		want(t, "same project", err, fault.Conflict)
		for _, bad := range []string{"", "  ", strings.Repeat("x", 256), "a\x00b", "a\nb", "\xff"} {
			_, err = w.CreateUser(ctx, User{Name: bad}, "")
			want(t, fmt.Sprintf("user %q", bad), err, fault.BadRequest)
		}
		want(t, "role admin", w.DeleteRole(ctx, w.role(RoleAdmin)), fault.Forbidden)
		d, err := w.CreateDomain(ctx, Domain{Name: "d2", Enabled: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.CreateUser(ctx, User{Name: "ann", DomainID: d.ID, Enabled: true}, "pw"); err != nil {
			t.Errorf("same name in another domain: %v", err)
		}
		want(t, "enabled domain", w.DeleteDomain(ctx, d.ID), fault.Forbidden)
		off := false
		if _, err := w.UpdateDomain(ctx, d.ID, Changed{Enabled: &off}); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteDomain(ctx, d.ID); err != nil {
			t.Error(err)
		}
		_, err = w.Domain(ctx, d.ID)
		want(t, "deleted domain", err, fault.NotFound)
		want(t, "unknown user", w.DeleteUser(ctx, "nope"), fault.NotFound)
	})
}

func TestProjectGoneRefuses(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	s, err := New(Default(), Options{DB: db, ProjectGone: func(context.Context, dbschema.Tx, string) error {
		return fault.New(fault.Conflict, "test", "the project still has 2 servers")
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context(), Bootstrap{}); err != nil {
		t.Fatal(err)
	}
	p, err := s.CreateProject(t.Context(), Project{Name: "p", Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "delete", s.DeleteProject(t.Context(), p.ID), fault.Conflict)
	if _, err := s.Project(t.Context(), p.ID); err != nil {
		t.Errorf("the refused project is gone: %v", err)
	}
}

// A Top that started with its user admin in place wrote a generated password beside the database once more, when the
// operator had taken the first away: one that opens nothing.
func TestBootstrapGeneratesOnce(t *testing.T) {
	t.Parallel()
	s, err := New(Default(), Options{DB: dbtest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	b := Bootstrap{Generate: func() (ident.Secret, error) { asked++; return "g3nerated", nil }}
	for range 2 {
		if err := s.Bootstrap(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.findUser(t.Context(), Named{Name: "admin", DomainID: DefaultDomain}); err != nil || asked != 1 {
		t.Errorf("the user admin: %v; a password was generated %d times, want 1", err, asked)
	}
	refused := Bootstrap{Generate: func() (ident.Secret, error) { return "", errors.New("the disk is full") }}
	if s, err = New(Default(), Options{DB: dbtest.SQLite(t)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context(), refused); err == nil {
		t.Error("a password that cannot be kept is used")
	}
}

// Nothing that opens a door lies in the database.
func TestNoSecretStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dbtest.SQLite(t))
	i := w.login(w.annLogin)
	_, secret, err := w.CreateCredential(t.Context(), i.Token, NewCredential{Credential: Credential{Name: "ci"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range dbschema.Models() {
		var rows []map[string]any
		if err := w.db.Read(t.Context()).Model(m).Find(&rows).Error; err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{i.Secret.Reveal(), secret.Reveal(), "ann-pw", "s3cret"} {
			if strings.Contains(fmt.Sprint(rows), s) {
				t.Errorf("%T holds a secret", m)
			}
		}
	}
}
