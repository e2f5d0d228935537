package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Named finds a user or a project: by ID, or by Name within the domain that DomainID or DomainName names.
type Named struct {
	ID, Name, DomainID, DomainName string
}

// storable reports whether the texts can be in the database at all: PostgreSQL refuses even to look for others.
func (n Named) storable() bool {
	return storable(n.ID) && storable(n.Name) && storable(n.DomainID) && storable(n.DomainName)
}

// Scope says what a token shall be good for. At most one of Project and Domain
// is set; with neither, the user's default project serves unless Unscoped is set.
type Scope struct {
	Project  *Named
	Domain   *Named // by ID or Name
	Unscoped bool
}

// Login is one attempt to get a token. Exactly one of Password, Token and Credential is set.
type Login struct {
	Password   *PasswordProof
	Token      ident.Secret
	Credential *CredentialProof
	Scope      Scope
	RemoteAddr string // without port; failed logins are counted by it
}

// PasswordProof is a user and the password.
type PasswordProof struct {
	User     Named
	Password ident.Secret
}

// CredentialProof is an application credential, by ID or by Name and User, and its secret.
type CredentialProof struct {
	ID, Name string
	User     Named
	Secret   ident.Secret
}

// The names of the ways to log in, as tokens list them.
const (
	MethodPassword   = "password"
	MethodToken      = "token"
	MethodCredential = "application_credential"
)

// The outcomes of a login, as the metric has them.
const (
	loginDone      = "done"
	loginRefused   = "refused"
	loginThrottled = "throttled"
	loginFailed    = "failed" // by our own defect or a database that does not answer
)

func outcomeOf(err error) string {
	var e *fault.Error
	switch kind := fault.KindOf(err); {
	case err == nil:
		return loginDone
	case kind == fault.Unauthorized && errors.As(err, &e) && e.RetryAfter > 0:
		return loginThrottled
	case kind == fault.Unauthorized, kind == fault.Forbidden, kind == fault.BadRequest:
		return loginRefused
	}
	return loginFailed
}

// method returns how the login proves itself, or "".
func (l Login) method() string {
	switch {
	case l.Token != "":
		return MethodToken
	case l.Credential != nil:
		return MethodCredential
	case l.Password != nil:
		return MethodPassword
	}
	return ""
}

// Login checks the proof and returns a fresh token. Every proof that does not
// hold, and every scope that the user has no role in, is fault.Unauthorized.
func (s *Store) Login(ctx context.Context, l Login) (*Issued, error) {
	issued, err := s.login(ctx, l)
	if method := l.method(); method != "" {
		s.logins.WithLabelValues(method, outcomeOf(err)).Inc()
	}
	return issued, err
}

func (s *Store) login(ctx context.Context, l Login) (*Issued, error) {
	expires := s.now().Add(s.cfg.TokenLife)
	switch l.method() {
	case MethodToken:
		return s.rescope(ctx, l)
	case MethodCredential:
		return s.loginCredential(ctx, l, expires)
	case MethodPassword:
		user, err := s.checkPassword(ctx, *l.Password, l.RemoteAddr)
		if err != nil {
			return nil, err
		}
		return s.enter(ctx, user.ID, l.Scope, proof{
			methods: []string{MethodPassword}, expires: expires,
			holds: func(tx dbschema.Tx) (bool, error) { return samePassword(tx, user) },
		})
	default:
		return nil, badRequest("auth.identity.methods names no method that is offered: password, token, application_credential.")
	}
}

// checkPassword returns the enabled user whose password it is.
func (s *Store) checkPassword(ctx context.Context, p PasswordProof, address string) (dbschema.IdentityUser, error) {
	var none dbschema.IdentityUser
	who := login{throttleName(p.User), address}
	if err := s.throttle.allow(who); err != nil {
		return none, err
	}
	if len(p.Password) > maxPassword {
		return none, unauthorized()
	}
	row, err := s.findUser(ctx, p.User)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return none, err
	}
	ok, err := s.hasher.verify(ctx, row.PasswordHash, p.Password.Reveal(), func() error { return s.throttle.allow(who) })
	if err != nil {
		return none, err
	}
	if !ok {
		s.throttle.failed(who)
		return none, unauthorized()
	}
	s.throttle.succeeded(who)
	if _, err := s.enabledUser(ctx, row.ID); err != nil {
		return none, hide(err)
	}
	return row, nil
}

func throttleName(n Named) string {
	if n.ID != "" {
		return "id\x00" + n.ID
	}
	return "name\x00" + n.DomainID + "\x00" + n.DomainName + "\x00" + n.Name
}

// hide turns what would tell who or what exists into the one answer that tells nothing.
func hide(err error) error {
	if k := fault.KindOf(err); k == fault.NotFound || k == fault.Forbidden {
		return unauthorized()
	}
	return err
}

// enter issues a token for a user whose proof held.
func (s *Store) enter(ctx context.Context, userID string, scope Scope, p proof) (*Issued, error) {
	projectID, domainID, err := s.resolve(ctx, scope)
	if err != nil {
		return nil, hide(err)
	}
	if projectID == "" && domainID == "" && !scope.Unscoped {
		if sub := s.defaultScope(ctx, userID); sub != nil {
			return s.issue(ctx, sub, p)
		}
	}
	sub, err := s.subject(ctx, userID, projectID, domainID, "")
	if err != nil {
		return nil, hide(err)
	}
	return s.issue(ctx, sub, p)
}

// defaultScope returns the user in the default project, or nil when there is none that serves:
// the token is then unscoped, as Keystone has it.
func (s *Store) defaultScope(ctx context.Context, userID string) *subject {
	user, err := s.User(ctx, userID)
	if err != nil || user.DefaultProjectID == "" {
		return nil
	}
	sub, err := s.subject(ctx, userID, user.DefaultProjectID, "", "")
	if err != nil {
		return nil
	}
	return sub
}

// resolve returns the ids that the scope means.
func (s *Store) resolve(ctx context.Context, scope Scope) (projectID, domainID string, err error) {
	switch {
	case scope.Project != nil:
		p, err := s.findProject(ctx, *scope.Project)
		return p.ID, "", err
	case scope.Domain != nil:
		d, err := s.findDomain(ctx, scope.Domain.ID, scope.Domain.Name)
		return "", d.ID, err
	}
	return "", "", nil
}

// rescope makes a token of another scope from a valid one. It lives no longer
// than that one does; the chain id ties the two in audit records.
func (s *Store) rescope(ctx context.Context, l Login) (*Issued, error) {
	old, err := s.Validate(ctx, l.Token.Reveal())
	if err != nil {
		return nil, err
	}
	if old.Credential != nil {
		return nil, forbidden("A token that came from an application credential cannot be used to get another.")
	}
	methods := slices.Clone(old.Methods)
	if !slices.Contains(methods, MethodToken) {
		methods = append(methods, MethodToken)
	}
	return s.enter(ctx, old.User.ID, l.Scope, proof{
		methods: methods, chain: old.AuditIDs[len(old.AuditIDs)-1], expires: old.ExpiresAt,
		holds: func(tx dbschema.Tx) (bool, error) { return tokenExists(tx, hexKey(keyOf(l.Token.Reveal()))) },
	})
}

// loginCredential logs in by application credential, whose project is the only scope.
func (s *Store) loginCredential(ctx context.Context, l Login, expires time.Time) (*Issued, error) {
	p := *l.Credential
	if l.Scope.Project != nil || l.Scope.Domain != nil {
		return nil, badRequest("An application credential has its own scope: auth.scope cannot be given.")
	}
	who := login{"credential\x00" + p.ID + "\x00" + p.Name + "\x00" + throttleName(p.User), l.RemoteAddr}
	if err := s.throttle.allow(who); err != nil {
		return nil, err
	}
	if len(p.Secret) > maxPassword {
		return nil, unauthorized()
	}
	c, err := s.findCredential(ctx, p)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	ok, err := s.hasher.verify(ctx, c.secretHash, p.Secret.Reveal(), func() error { return s.throttle.allow(who) })
	if err != nil {
		return nil, err
	}
	if !ok {
		s.throttle.failed(who)
		return nil, unauthorized()
	}
	s.throttle.succeeded(who)
	sub, err := s.subject(ctx, c.UserID, c.ProjectID, "", c.ID)
	if err != nil {
		return nil, hide(err)
	}
	return s.issue(ctx, sub, proof{
		methods: []string{MethodCredential}, expires: expires,
		holds: func(tx dbschema.Tx) (bool, error) { return credentialExists(tx, c.ID) },
	})
}
