package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Token is what a token stands for.
type Token struct {
	User Ref
	// Project is set in a token of project scope, Domain in one of domain scope; an unscoped one has neither.
	Project *Ref
	Domain  *Ref
	// Roles are those in the scope now, implied ones included, by name. Empty in an unscoped token only.
	Roles []Ref
	// Credential is the application credential that the token came from, or nil.
	Credential *CredentialRef
	Methods    []string // "password", "token", "application_credential"
	// AuditIDs are the token's own and, when it came from another token, the first of that chain.
	AuditIDs            []string
	IssuedAt, ExpiresAt time.Time
}

// CredentialRef names an application credential.
type CredentialRef struct {
	ID, Name     string
	Unrestricted bool
}

// RoleNames returns the names of the roles.
func (t *Token) RoleNames() []string {
	names := make([]string, len(t.Roles))
	for i, r := range t.Roles {
		names[i] = r.Name
	}
	return names
}

// ProjectID returns the id of the project in scope, or "".
func (t *Token) ProjectID() string {
	if t.Project == nil {
		return ""
	}
	return t.Project.ID
}

// Restricted reports whether the token came from an application credential
// that may not make further credentials.
func (t *Token) Restricted() bool { return t.Credential != nil && !t.Credential.Unrestricted }

// tokenPrefix lets people and secret scanners recognise a token; 32 random bytes follow, so that
// the whole has 47 bytes of [A-Za-z0-9_-], fit for any header and below Keystone's customary 255.
const (
	tokenPrefix = "hwt_"
	tokenBytes  = 32
	maxToken    = 255
)

// Issued is a fresh token. Secret is what the client sends from now on; it cannot be had again.
type Issued struct {
	Secret ident.Secret
	Token  *Token
}

// Validate implements Provider.
func (s *Store) Validate(ctx context.Context, token string) (*Token, error) {
	if token == "" || len(token) > maxToken {
		return nil, unauthorized()
	}
	key := keyOf(token)
	t, epoch := s.cache.get(key)
	if t != nil {
		return t, nil
	}
	t, err := s.read(ctx, hexKey(key), false)
	if err != nil {
		return nil, err
	}
	s.cache.put(key, epoch, t)
	return t, nil
}

// Inspect is Validate for somebody else's token: with expired set, also one
// that expired less than Config.ExpiredWindow ago. What Validate would refuse is fault.NotFound.
func (s *Store) Inspect(ctx context.Context, token string, expired bool) (*Token, error) {
	t, err := s.Validate(ctx, token)
	if fault.Is(err, fault.Unauthorized) && expired && len(token) <= maxToken {
		t, err = s.read(ctx, hexKey(keyOf(token)), true)
	}
	if fault.Is(err, fault.Unauthorized) {
		return nil, fault.New(fault.NotFound, "cascade/identity.Inspect", "Could not find the token: it is unknown, expired or revoked.")
	}
	return t, err
}

// Revoke ends one token; fault.NotFound when there is none. Tokens made from it live on, as in Keystone.
func (s *Store) Revoke(ctx context.Context, token string) error {
	key := keyOf(token)
	defer s.cache.forget(key)
	return s.db.Write(ctx, func(tx dbschema.Tx) error {
		n, err := deleteToken(tx, hexKey(key))
		if err == nil && n == 0 {
			return fault.New(fault.NotFound, "cascade/identity.Revoke", "Could not find the token: it is unknown, expired or revoked.")
		}
		return err
	})
}

// read makes a Token of the rows that bear on it.
func (s *Store) read(ctx context.Context, hash string, expired bool) (*Token, error) {
	row, err := s.tokenRow(ctx, hash)
	if err != nil {
		return nil, err
	}
	now := s.now()
	if !expired && !now.Before(row.ExpiresAt) || expired && now.Sub(row.ExpiresAt) > s.cfg.ExpiredWindow {
		return nil, unauthorized()
	}
	sub, err := s.subject(ctx, row.UserID, row.ProjectID, row.DomainID, row.CredentialID)
	if err != nil {
		if k := fault.KindOf(err); k == fault.NotFound || k == fault.Forbidden {
			return nil, unauthorized() // the user, the scope or the last role in it is gone
		}
		return nil, err
	}
	t := sub.token()
	t.Methods = strings.Split(row.Methods, ",")
	t.AuditIDs = []string{row.AuditID}
	if row.ChainID != "" {
		t.AuditIDs = append(t.AuditIDs, row.ChainID)
	}
	t.IssuedAt, t.ExpiresAt = row.IssuedAt.UTC(), row.ExpiresAt.UTC()
	return t, nil
}

// subject is a user in a scope, as the rows say now.
type subject struct {
	user       Ref
	project    *Ref
	domain     *Ref
	roles      []Ref
	credential *CredentialRef
	// credentialEnds is when the application credential does; zero when there is none or it never does.
	credentialEnds time.Time
}

func (s *subject) token() *Token {
	return &Token{User: s.user, Project: s.project, Domain: s.domain, Roles: s.roles, Credential: s.credential}
}

// errNoRoles is what asking for a scope without a role in it brings.
func errNoRoles() error {
	return fault.New(fault.Forbidden, "cascade/identity", "The user has no role there.")
}

// subject reads who acts, where and in which roles. NotFound: the user, scope or
// credential does not exist, is disabled or has ended. Forbidden: no role in the scope.
func (s *Store) subject(ctx context.Context, userID, projectID, domainID, credentialID string) (*subject, error) {
	out := &subject{}
	var err error
	if out.user, err = s.enabledUser(ctx, userID); err != nil {
		return nil, err
	}
	kind, target := targetProject, projectID
	switch {
	case projectID != "":
		out.project, err = s.enabledProject(ctx, projectID)
	case domainID != "":
		kind, target = targetDomain, domainID
		out.domain, err = s.enabledDomain(ctx, domainID)
	default:
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	held, err := s.rolesOf(ctx, userID, kind, target)
	if err != nil {
		return nil, err
	}
	if credentialID != "" {
		if held, err = s.limit(ctx, out, credentialID, held); err != nil {
			return nil, err
		}
	}
	if len(held) == 0 {
		return nil, errNoRoles()
	}
	out.roles = held
	return out, nil
}

// limit keeps of the roles those that the application credential carries.
func (s *Store) limit(ctx context.Context, out *subject, credentialID string, held []Ref) ([]Ref, error) {
	c, err := s.credential(ctx, credentialID)
	if err != nil {
		return nil, err
	}
	if c.ExpiresAt != nil && !s.now().Before(*c.ExpiresAt) {
		return nil, notFound("application credential", credentialID)
	}
	if c.ExpiresAt != nil {
		out.credentialEnds = *c.ExpiresAt
	}
	out.credential = &CredentialRef{ID: c.ID, Name: c.Name, Unrestricted: c.Unrestricted}
	all, err := s.roleNames(ctx)
	if err != nil {
		return nil, err
	}
	granted := expand(c.RoleIDs, all)
	return slices.DeleteFunc(held, func(r Ref) bool {
		return !slices.ContainsFunc(granted, func(g Ref) bool { return g.ID == r.ID })
	}), nil
}

// proof is what a new token is issued on.
type proof struct {
	methods []string
	chain   string // audit id at the head of the chain, or ""
	expires time.Time
	// holds looks, in the transaction that stores the token, whether what was checked before still holds: a
	// password that changed meanwhile ended all tokens, and this one must not come after.
	holds func(tx dbschema.Tx) (bool, error)
}

// issue stores a token for the subject and returns it.
func (s *Store) issue(ctx context.Context, sub *subject, p proof) (*Issued, error) {
	now := s.stamp()
	expires := p.expires
	if !sub.credentialEnds.IsZero() && sub.credentialEnds.Before(expires) {
		expires = sub.credentialEnds
	}
	if !expires.After(now) {
		return nil, unauthorized()
	}
	t := sub.token()
	t.Methods, t.IssuedAt, t.ExpiresAt = p.methods, now, expires.UTC().Truncate(time.Microsecond)
	t.AuditIDs = []string{random(16)}
	if p.chain != "" {
		t.AuditIDs = append(t.AuditIDs, p.chain)
	}
	secret := tokenPrefix + random(tokenBytes)
	row := dbschema.IdentityToken{
		Hash: hexKey(keyOf(secret)), UserID: t.User.ID, ProjectID: t.ProjectID(), Methods: strings.Join(p.methods, ","),
		AuditID: t.AuditIDs[0], ChainID: p.chain, IssuedAt: now, ExpiresAt: t.ExpiresAt,
	}
	if t.Domain != nil {
		row.DomainID = t.Domain.ID
	}
	if t.Credential != nil {
		row.CredentialID = t.Credential.ID
	}
	err := s.db.Write(ctx, func(tx dbschema.Tx) error {
		ok, err := p.holds(tx)
		if err != nil {
			return err
		}
		if !ok {
			return unauthorized()
		}
		return insertToken(tx, row)
	})
	if err != nil {
		return nil, err
	}
	return &Issued{Secret: ident.Secret(secret), Token: t}, nil
}
