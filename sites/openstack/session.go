package openstack

import (
	"context"
	"errors"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

const (
	// renewBefore is how long before its end a token is replaced: longer than a call may take.
	renewBefore = 2 * time.Minute
	// refusalHold is how long a refused login is not tried again: a Keystone locks accounts after a few
	// wrong passwords (security_compliance lockout_failure_attempts), and a storm of calls must not do that.
	refusalHold = 5 * time.Second
)

// grant is one successful login: the token and what came with it. It never changes.
type grant struct {
	token     string
	began     time.Time // when the login was sent
	until     time.Time // by our clock
	account   sites.Account
	catalog   []tokens.CatalogEntry
	endpoints map[sites.Service]string
}

// session keeps the token of an adaptor. One login goes on at a time, whoever asks for it.
type session struct {
	adaptor    *Adaptor
	credential sites.Credential

	mu        sync.Mutex // guards the fields below
	current   *grant
	flight    *flight
	refusal   error // the last login's, when it was refused
	refusedAt time.Time
}

// flight is a login that goes on; done is closed by whoever does it.
type flight struct {
	done  chan struct{}
	grant *grant
	err   error
}

// grant returns a grant that is still good for a while, and logs in for it when there is none.
func (s *session) grant(ctx context.Context) (*grant, error) { return s.obtain(ctx, "") }

// renew returns a grant with another token than the given one, which the site no longer accepts.
func (s *session) renew(ctx context.Context, token string) (*grant, error) {
	return s.obtain(ctx, token)
}

func (s *session) obtain(ctx context.Context, refusedToken string) (*grant, error) {
	for {
		s.mu.Lock()
		now := s.adaptor.now()
		if g := s.current; g != nil && g.token != refusedToken && now.Before(g.until) {
			s.mu.Unlock()
			return g, nil
		}
		if s.refusal != nil && now.Sub(s.refusedAt) < refusalHold {
			err := s.refusal
			s.mu.Unlock()
			return nil, err
		}
		f, leader := s.flight, false
		if f == nil {
			f, leader = &flight{done: make(chan struct{})}, true
			s.flight = f
		}
		s.mu.Unlock()
		if leader {
			s.land(f, ctx)
			return f.grant, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, s.adaptor.lost("sites/openstack.login", &sentState{}, true, ctx.Err())
		}
		// A leader whose own caller went away says nothing about the site: the next in line logs in.
		if f.err == nil || !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.grant, f.err
		}
		if ctx.Err() != nil {
			return nil, f.err
		}
	}
}

// land does the login of a flight and publishes what came of it.
func (s *session) land(f *flight, ctx context.Context) {
	f.grant, f.err = s.login(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight, s.refusal = nil, nil
	if f.err == nil {
		s.current = f.grant
	} else if fault.Is(f.err, fault.Unauthorized) {
		s.current, s.refusal, s.refusedAt = nil, f.err, s.adaptor.now()
	}
	close(f.done)
}

// login asks the site's Keystone for a token.
func (s *session) login(ctx context.Context) (*grant, error) {
	const op = "sites/openstack.login"
	a := s.adaptor
	sent := &sentState{}
	began := a.now()
	client := &gophercloud.ServiceClient{ProviderClient: a.client, Endpoint: a.client.IdentityBase + "v3/",
		MoreHeaders: passDown(ctx)}
	result := tokens.Create(httptrace.WithClientTrace(ctx, sent.watch()), client, authOptions(s.credential))
	if result.Err != nil {
		var code gophercloud.ErrUnexpectedResponseCode
		if !errors.As(result.Err, &code) {
			return nil, a.lost(op, sent, true, result.Err) // a second token does no harm
		}
		e := a.refused(outcome{op: op, status: code.Actual, header: code.ResponseHeader, body: code.Body, idempotent: true})
		if e.Kind == fault.NotFound || e.Kind == fault.BadRequest && code.Actual < 400 {
			e.Kind, e.Msg = fault.BadRequest, "there is no Keystone v3 at the authentication URL of site "+string(a.site)
		}
		return nil, e
	}
	g, err := s.read(result, began)
	if err != nil {
		return nil, &fault.Error{Op: op, Site: string(a.site), Kind: fault.Unavailable, RequestID: requestID(result.Header),
			Msg: "site " + string(a.site) + " answered the login with something unreadable", Err: err}
	}
	a.log.DebugContext(ctx, "site login completed", "site", a.site)
	return g, nil
}

// read makes a grant of Keystone's answer.
func (s *session) read(result tokens.CreateResult, began time.Time) (*grant, error) {
	var t struct {
		IssuedAt  time.Time             `json:"issued_at"`
		ExpiresAt time.Time             `json:"expires_at"`
		User      tokens.User           `json:"user"`
		Project   tokens.Project        `json:"project"`
		Roles     []tokens.Role         `json:"roles"`
		Catalog   []tokens.CatalogEntry `json:"catalog"`
	}
	if err := result.ExtractInto(&t); err != nil {
		return nil, err
	}
	g := &grant{token: result.Header.Get("X-Subject-Token"), catalog: t.Catalog, began: began}
	if g.token == "" || t.ExpiresAt.IsZero() {
		return nil, errors.New("no token or no end of it")
	}
	// Reckoned from its length, not from its end: the site's clock may differ from ours.
	life := t.ExpiresAt.Sub(t.IssuedAt)
	if t.IssuedAt.IsZero() {
		life = t.ExpiresAt.Sub(began)
	}
	g.until = began.Add(max(life-renewBefore, life/2))
	g.account = sites.Account{UserID: t.User.ID, UserName: t.User.Name, ProjectID: t.Project.ID, ProjectName: t.Project.Name,
		DomainID: t.Project.Domain.ID, ExpiresAt: t.ExpiresAt}
	for _, r := range t.Roles {
		g.account.Roles = append(g.account.Roles, r.Name)
	}
	g.endpoints = endpoints(t.Catalog, s.credential.Region, s.credential.Interface, g.account.ProjectID)
	if g.endpoints[sites.Identity] == "" {
		g.endpoints[sites.Identity] = s.adaptor.client.IdentityBase + "v3/"
	}
	return g, nil
}

// private returns texts that no tenant may see: the token and the hosts of the site.
func (s *session) private() []string {
	s.mu.Lock()
	g := s.current
	s.mu.Unlock()
	hosts := []string{s.adaptor.client.IdentityBase}
	var hidden []string
	if g != nil {
		hidden = append(hidden, g.token)
		for _, e := range g.endpoints {
			hosts = append(hosts, e)
		}
	}
	for _, h := range hosts {
		if u, err := url.Parse(h); err == nil && u.Host != "" {
			hidden = append(hidden, u.Host, u.Hostname())
		}
	}
	return hidden
}

// authOptions puts a credential into gophercloud's words.
func authOptions(c sites.Credential) *tokens.AuthOptions {
	opts := &tokens.AuthOptions{Username: c.Username, UserID: c.UserID, DomainID: c.UserDomainID}
	if opts.UserID != "" {
		opts.Username, opts.DomainID = "", ""
	} else if opts.DomainID == "" {
		opts.DomainName = c.UserDomainName
	}
	if c.AppCredID != "" || c.AppCredName != "" { // it carries its own scope
		opts.ApplicationCredentialID, opts.ApplicationCredentialName = c.AppCredID, c.AppCredName
		opts.ApplicationCredentialSecret = c.AppCredSecret.Reveal()
		if c.AppCredID != "" {
			opts.Username, opts.UserID, opts.DomainID, opts.DomainName, opts.ApplicationCredentialName = "", "", "", "", ""
		}
		return opts
	}
	opts.Password = c.Password.Reveal()
	opts.Scope = tokens.Scope{ProjectID: c.ProjectID}
	if c.ProjectID == "" {
		opts.Scope.ProjectName, opts.Scope.DomainID = c.ProjectName, c.ProjectDomainID
		if c.ProjectDomainID == "" {
			opts.Scope.DomainName = c.ProjectDomainName
		}
	}
	return opts
}
