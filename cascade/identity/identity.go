// Package identity is Top's own Keystone: domains, projects, users, groups,
// roles, assignments, tokens and application credentials, and the rules of who
// may log in as whom and to what.
//
// A revoked token, a changed password, a disabled user and a lost role take
// effect at once in this process and within CacheFor (5 s) in every other
// process on the same database. Neither a token nor a password is stored: only
// hashes are.
package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The names of the roles that every Top has. Admin implies member, member implies reader.
const (
	RoleAdmin  = "admin"
	RoleMember = "member"
	RoleReader = "reader"
)

// DefaultDomain is the id of the domain that every Top has.
const DefaultDomain = "default"

// CacheFor is how long a process may go on accepting a token after another
// process on the same database has revoked it.
const CacheFor = 5 * time.Second

// Config says how the identity service behaves. Begin with Default.
type Config struct {
	// TokenLife is how long a token is valid, from 1 minute to 7 days.
	TokenLife time.Duration `yaml:"token_life"`
	// ExpiredWindow is how long an expired token can still be shown with allow_expired (for
	// services that finish a long request); it is also how long its row stays.
	ExpiredWindow time.Duration `yaml:"expired_window"`
	// MinPassword is the least number of bytes of a new password, at least 1.
	MinPassword int `yaml:"min_password"`
	// HashSlots is how many passwords are hashed at once, each in 19 MiB; 0 means one for each processor, 4 at most.
	HashSlots int `yaml:"hash_slots"`
}

// Default returns the Config of a Top that nobody configured: tokens live 8
// hours, as a working day does.
func Default() Config {
	return Config{TokenLife: 8 * time.Hour, ExpiredWindow: 48 * time.Hour, MinPassword: 1}
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.TokenLife < time.Minute || c.TokenLife > 7*24*time.Hour {
		errs = append(errs, fmt.Errorf("token_life %v: want 1m to 168h", c.TokenLife))
	}
	if c.ExpiredWindow < 0 {
		errs = append(errs, fmt.Errorf("expired_window %v: want 0 or more", c.ExpiredWindow))
	}
	if c.MinPassword < 1 || c.MinPassword > maxPassword {
		errs = append(errs, fmt.Errorf("min_password %d: want 1 to %d", c.MinPassword, maxPassword))
	}
	if c.HashSlots < 0 {
		errs = append(errs, fmt.Errorf("hash_slots %d: want 0 or more", c.HashSlots))
	}
	return errors.Join(errs...)
}

// Provider says whose a token is. The built-in Store is one; an external Keystone is another.
type Provider interface {
	// Validate returns what a token stands for now. A token that is unknown, expired, revoked or without
	// any role in its scope is fault.Unauthorized. The result is shared: nobody changes it.
	Validate(ctx context.Context, token string) (*Token, error)
}

// Store is the built-in identity service over a database. It is safe for concurrent use.
type Store struct {
	db       *dbschema.DB
	cfg      Config
	now      func() time.Time
	log      *slog.Logger
	hasher   *hasher
	throttle *throttle
	cache    *cache
	logins   *prometheus.CounterVec // by method and outcome
	gone     func(ctx context.Context, tx dbschema.Tx, projectID string) error
}

var _ Provider = (*Store)(nil)

// Options are what a Store needs besides its Config.
type Options struct {
	DB  *dbschema.DB
	Now func() time.Time // time.Now outside tests
	Log *slog.Logger
	// Metrics takes the counter of logins; nil counts them for nobody.
	Metrics prometheus.Registerer
	// ProjectGone is asked, in the transaction that deletes a project, whether that may be; an error
	// (fault.Conflict when resources are left) refuses. Nil lets every project go.
	ProjectGone func(ctx context.Context, tx dbschema.Tx, projectID string) error
}

// New returns a Store. It fails on a Config that is not valid.
func New(cfg Config, o Options) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("identity configuration: %w", err)
	}
	s := &Store{db: o.DB, cfg: cfg, now: o.Now, log: o.Log, gone: o.ProjectGone}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.hasher = newHasher(cfg.HashSlots)
	s.throttle = newThrottle(s.now)
	s.cache = newCache(s.now)
	s.logins = newLogins()
	if o.Metrics != nil {
		if err := o.Metrics.Register(s.logins); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// newLogins returns the counter of logins with every method and outcome at 0, so that a dashboard shows what never happened.
func newLogins() *prometheus.CounterVec {
	logins := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "headwater_identity_logins_total", Help: "Attempts to get a token.",
	}, []string{"method", "outcome"})
	for _, method := range []string{MethodPassword, MethodToken, MethodCredential} {
		for _, outcome := range []string{loginDone, loginRefused, loginThrottled, loginFailed} {
			logins.WithLabelValues(method, outcome)
		}
	}
	return logins
}

// Run deletes tokens whose ExpiredWindow is over, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	const every = 10 * time.Minute // a small share of any token's life, so the table stays near its working size
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if n, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "expired tokens not removed", "err", err)
		} else if n > 0 {
			s.log.DebugContext(ctx, "expired tokens removed", "count", n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// change runs f as one transaction and then makes every cached token be looked at again.
func (s *Store) change(ctx context.Context, f func(tx dbschema.Tx) error) error {
	// Also after an error: the commit of an ambiguous one may have happened.
	defer s.cache.forgetAll()
	return s.db.Write(ctx, f)
}

func (s *Store) stamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Extra holds the members of a resource that Top does not know; they are stored and shown as they came.
type Extra map[string]json.RawMessage

// Domain is a container of projects, users and groups.
type Domain struct {
	ID, Name, Description string
	Enabled               bool
	Extra                 Extra
}

// Project is what owns resources. Its parent is its domain: projects are not nested.
type Project struct {
	ID, DomainID, Name, Description string
	Enabled                         bool
	Tags                            []string
	Extra                           Extra
}

// User is somebody who can log in.
type User struct {
	ID, DomainID, Name string
	Enabled            bool
	DefaultProjectID   string // "" for none
	HasPassword        bool
	Extra              Extra // email and description among them, as in Keystone
}

// Group is a set of users of one or several domains.
type Group struct {
	ID, DomainID, Name, Description string
	Extra                           Extra
}

// Role is a name that rules ask for.
type Role struct {
	ID, Name, Description string
	DomainID              string // "" for a global role; a role of a domain can be assigned and never counts, since nothing implies it or is implied by it
	Extra                 Extra
}

// Ref names a thing with its domain, as tokens show it. DomainID is "" for a domain itself and for roles.
type Ref struct {
	ID, Name             string
	DomainID, DomainName string
}

// Changed is what an update wants of the members that all kinds share; nil leaves a member alone.
type Changed struct {
	Name, Description *string
	Enabled           *bool
	// Extra is merged into the stored one; a JSON null is stored as such.
	Extra Extra
}

// notFound is Keystone's sentence for an id that does not exist.
func notFound(kind, id string) error {
	return fault.New(fault.NotFound, "cascade/identity", "Could not find %s: %s.", kind, id)
}

func duplicate(kind, name string) error {
	return fault.New(fault.Conflict, "cascade/identity", "Conflict occurred attempting to store %s - it is not permitted to have two of the name %s.", kind, name)
}

func badRequest(format string, args ...any) error {
	return fault.New(fault.BadRequest, "cascade/identity", format, args...)
}

func forbidden(format string, args ...any) error {
	return fault.New(fault.Forbidden, "cascade/identity", format, args...)
}

// unauthorized is the one answer to every login that fails, so that it tells nothing.
func unauthorized() error {
	return fault.New(fault.Unauthorized, "cascade/identity", "The request you have made requires authentication.")
}

func newID() string { return ident.NewHexID() }
