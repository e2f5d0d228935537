package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ExternalConfig says which Keystone Top trusts and as whom it asks it about tokens.
type ExternalConfig struct {
	// AuthURL is the Keystone's address, with or without /v3.
	AuthURL string
	// Username, Password and Project are of an account that may validate tokens; Domain is the name of its domain.
	Username string
	Password ident.Secret
	Project  string
	Domain   string
	// Roles maps names of that Keystone's roles to ours, for clouds with other names ("_member_": "member"). Roles
	// that are not named here keep their name.
	Roles map[string]string
	// Timeout bounds one call; 0 means 10 seconds.
	Timeout time.Duration
	// Transport is what calls go through; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c ExternalConfig) Validate() error {
	var errs []error
	u, err := url.Parse(c.AuthURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("auth_url %q: want http(s)://HOST", c.AuthURL))
	}
	for name, value := range map[string]string{"username": c.Username, "password": c.Password.Reveal(), "project": c.Project, "domain": c.Domain} {
		if value == "" {
			errs = append(errs, errors.New(name+" is empty"))
		}
	}
	return errors.Join(errs...)
}

// External is an identity.Provider that asks a Keystone which Top does not
// run. It answers about one token from memory for identity.CacheFor. It is safe for concurrent use.
type External struct {
	cfg    ExternalConfig
	url    *url.URL // ends in /v3
	cached *identity.Cached

	mu     sync.Mutex // guards the field below
	client *gophercloud.ServiceClient
}

var _ identity.Provider = (*External)(nil)

// NewExternal returns an External. It does not call the Keystone yet, which may be down when Top starts.
func NewExternal(cfg ExternalConfig) (*External, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("external identity: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	u, err := url.Parse(strings.TrimSuffix(strings.TrimRight(cfg.AuthURL, "/"), "/v3") + "/v3")
	if err != nil {
		return nil, fmt.Errorf("external identity: %w", err)
	}
	e := &External{cfg: cfg, url: u}
	e.cached = identity.NewCached(asking{e}, cfg.Now)
	return e, nil
}

// URL returns the Keystone's address, which ends in /v3.
func (e *External) URL() *url.URL { return e.url }

// Transport returns what calls to the Keystone go through.
func (e *External) Transport() http.RoundTripper { return e.cfg.Transport }

// Validate implements identity.Provider. A Keystone that does not answer, or that refuses Top's own account, is fault.Unavailable.
func (e *External) Validate(ctx context.Context, token string) (*identity.Token, error) {
	if token == "" || len(token) > maxExternalToken || strings.ContainsAny(token, "\r\n\x00") {
		return nil, refused()
	}
	return e.cached.Validate(ctx, token)
}

// Forget makes a token be asked about again, after it was revoked.
func (e *External) Forget(token string) { e.cached.Forget(token) }

// maxExternalToken bounds what is handed on: Fernet tokens have about 250 bytes, JWS ones about 1,000.
const maxExternalToken = 8 << 10

func refused() error {
	return fault.New(fault.Unauthorized, "top/auth.External", "The request you have made requires authentication.")
}

// asking is External without memory.
type asking struct{ e *External }

// The body of GET /v3/auth/tokens, as far as Top reads it.
type (
	externalToken struct {
		Methods    []string       `json:"methods"`
		User       externalRef    `json:"user"`
		Project    *externalRef   `json:"project"`
		Domain     *externalRef   `json:"domain"`
		Roles      []externalRef  `json:"roles"`
		AuditIDs   []string       `json:"audit_ids"`
		IssuedAt   time.Time      `json:"issued_at"`
		ExpiresAt  time.Time      `json:"expires_at"`
		Credential *externalLimit `json:"application_credential"`
	}
	externalRef struct {
		ID     string       `json:"id"`
		Name   string       `json:"name"`
		Domain *externalRef `json:"domain"`
	}
	externalLimit struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Restricted bool   `json:"restricted"`
	}
)

func (r externalRef) ref() identity.Ref {
	out := identity.Ref{ID: r.ID, Name: r.Name}
	if r.Domain != nil {
		out.DomainID, out.DomainName = r.Domain.ID, r.Domain.Name
	}
	return out
}

// Validate implements identity.Provider.
func (a asking) Validate(ctx context.Context, token string) (*identity.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, a.e.cfg.Timeout)
	defer cancel()
	client, err := a.e.connect(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	var body struct {
		Token externalToken `json:"token"`
	}
	_, err = client.Get(ctx, a.e.url.String()+"/auth/tokens?nocatalog=1", &body, &gophercloud.RequestOpts{ //nolint:bodyclose // gophercloud closes what it decodes
		MoreHeaders: map[string]string{"X-Subject-Token": token}, OkCodes: []int{http.StatusOK},
	})
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return nil, refused()
	}
	if err != nil {
		a.e.disconnect()
		return nil, unavailable(err)
	}
	return a.e.token(body.Token), nil
}

// token translates what the Keystone said.
func (e *External) token(in externalToken) *identity.Token {
	t := &identity.Token{
		User: in.User.ref(), Methods: in.Methods, AuditIDs: in.AuditIDs,
		IssuedAt: in.IssuedAt.UTC(), ExpiresAt: in.ExpiresAt.UTC(),
	}
	if in.Project != nil {
		ref := in.Project.ref()
		t.Project = &ref
	}
	if in.Domain != nil {
		ref := in.Domain.ref()
		t.Domain = &ref
	}
	for _, r := range in.Roles {
		name := r.Name
		if ours, ok := e.cfg.Roles[name]; ok {
			name = ours
		}
		if !slices.ContainsFunc(t.Roles, func(have identity.Ref) bool { return have.Name == name }) {
			t.Roles = append(t.Roles, identity.Ref{ID: r.ID, Name: name})
		}
	}
	if in.Credential != nil {
		t.Credential = &identity.CredentialRef{ID: in.Credential.ID, Name: in.Credential.Name, Unrestricted: !in.Credential.Restricted}
	}
	return t
}

// connect logs Top's own account in, once until something fails. The lock is not held meanwhile:
// two who come first both log in, which does no harm.
func (e *External) connect(ctx context.Context) (*gophercloud.ServiceClient, error) {
	e.mu.Lock()
	client := e.client
	e.mu.Unlock()
	if client != nil {
		return client, nil
	}
	provider, err := openstack.NewClient(e.url.String())
	if err != nil {
		return nil, fmt.Errorf("prepare a client: %w", err)
	}
	provider.HTTPClient = http.Client{Transport: e.cfg.Transport}
	provider.UserAgent.Prepend("headwater")
	err = openstack.AuthenticateV3(ctx, provider, &gophercloud.AuthOptions{
		IdentityEndpoint: e.url.String(), Username: e.cfg.Username, Password: e.cfg.Password.Reveal(), DomainName: e.cfg.Domain, AllowReauth: true,
		Scope: &gophercloud.AuthScope{ProjectName: e.cfg.Project, DomainName: e.cfg.Domain},
	}, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("log in as %s: %w", e.cfg.Username, err)
	}
	client = &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: e.url.String() + "/"}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.client = client
	return client, nil
}

func (e *External) disconnect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.client = nil
}

// unavailable says to the tenant what failed, without the address or the account.
func unavailable(err error) error {
	text := "The identity service does not answer."
	var network net.Error
	if !errors.As(err, &network) {
		text = "The identity service refused to say whose the token is."
	}
	return &fault.Error{Op: "top/auth.External", Kind: fault.Unavailable, Msg: text, Err: err}
}
