// Package openstack is the adaptor to a site that speaks OpenStack's public
// APIs: one Adaptor is one account there. It logs in by itself, follows the
// site's catalog, speaks the newest microversion that both sides know, and
// turns every failure into a *fault.Error whose Kind says what may be done.
package openstack

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// DefaultTimeout bounds one call, from the first byte sent to the last byte
// read, when Config.Timeout is 0. It is what OpenStack's own load balancers use.
const DefaultTimeout = 60 * time.Second

// Config says which site is spoken to, as whom, and with what.
type Config struct {
	Site       ident.SiteID
	Credential sites.Credential
	// Timeout bounds each call besides the caller's context; 0 means DefaultTimeout. The bytes of an image
	// are not bounded as a whole, but a transfer that stands still for this long is given up.
	Timeout time.Duration
	// Transport carries the requests; nil means one made by NewTransport for Credential alone. Adaptors of
	// one site may share one, and with it their connections.
	Transport http.RoundTripper
	Log       *slog.Logger     // nil: nothing is logged
	Now       func() time.Time // nil: time.Now
	UserAgent string           // stands before gophercloud's own; "" means "headwater"
}

// Adaptor is one account at one OpenStack site.
type Adaptor struct {
	site    ident.SiteID
	timeout time.Duration
	now     func() time.Time
	log     *slog.Logger
	client  *gophercloud.ProviderClient
	skew    *skewMeter
	session *session
	windows *windows
}

var (
	_ sites.Adaptor      = (*Adaptor)(nil)
	_ sites.ProjectMaker = (*Adaptor)(nil)
	_ sites.FlavorMaker  = (*Adaptor)(nil)
)

// New returns an adaptor. It checks the configuration, and reports all that is
// wrong with it, but sends nothing: the first call logs in.
func New(c Config) (*Adaptor, error) {
	identity, err := check(c)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, "sites/openstack.New", err)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.UserAgent == "" {
		c.UserAgent = "headwater"
	}
	if c.Transport == nil {
		if c.Transport, err = NewTransport(c.Credential); err != nil {
			return nil, err
		}
	}
	a := &Adaptor{site: c.Site, timeout: c.Timeout, now: c.Now, log: c.Log, skew: &skewMeter{}, windows: &windows{}}
	// No ReauthFunc: gophercloud would send half-read bodies again, and a login begun by one caller would end
	// with that caller's context. exchange and session do it.
	a.client = &gophercloud.ProviderClient{IdentityBase: identity, HTTPClient: http.Client{
		Transport: &meteredTransport{inner: c.Transport, meter: a.skew, now: c.Now},
		// A redirected POST would become a GET, and the token would go wherever the answer points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	a.client.UserAgent.Prepend(c.UserAgent)
	a.session = &session{adaptor: a, credential: c.Credential}
	return a, nil
}

// check reports every problem of a configuration at once and returns the URL
// below which the site's Keystone has its "v3/".
func check(c Config) (string, error) {
	var problems []error
	if c.Site == "" {
		problems = append(problems, errors.New("the site has no name"))
	}
	cred := c.Credential
	base, err := identityBase(cred.AuthURL)
	if err != nil {
		problems = append(problems, err)
	}
	switch cred.Interface {
	case "", "public", "internal", "admin":
	default:
		problems = append(problems, errors.New("interface must be public, internal or admin"))
	}
	if cred.AppCredID != "" || cred.AppCredName != "" {
		if cred.AppCredSecret == "" {
			problems = append(problems, errors.New("the application credential has no secret"))
		}
		if cred.AppCredID == "" && cred.UserID == "" && cred.Username == "" {
			problems = append(problems, errors.New("an application credential given by name needs its user"))
		}
		return base, errors.Join(problems...)
	}
	if cred.UserID == "" && cred.Username == "" {
		problems = append(problems, errors.New("username is missing"))
	}
	if cred.UserID == "" && cred.Username != "" && cred.UserDomainID == "" && cred.UserDomainName == "" {
		problems = append(problems, errors.New("user_domain_name or user_domain_id is missing"))
	}
	if cred.Password == "" {
		problems = append(problems, errors.New("password is missing"))
	}
	if cred.ProjectID == "" && cred.ProjectName == "" {
		problems = append(problems, errors.New("project_name or project_id is missing"))
	}
	if cred.ProjectID == "" && cred.ProjectName != "" && cred.ProjectDomainID == "" && cred.ProjectDomainName == "" {
		problems = append(problems, errors.New("project_domain_name or project_domain_id is missing"))
	}
	return base, errors.Join(problems...)
}

// identityBase returns an authentication URL without its version, with a slash at its end.
func identityBase(authURL string) (string, error) {
	u, err := url.Parse(authURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("auth_url must be an http or https URL of a Keystone")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("auth_url must have no user, query or fragment")
	}
	path := strings.TrimRight(u.Path, "/")
	for _, version := range []string{"/v3", "/v2.0"} {
		path = strings.TrimSuffix(path, version)
	}
	u.Path, u.RawPath = path+"/", ""
	return u.String(), nil
}

// Site returns the name of the site.
func (a *Adaptor) Site() ident.SiteID { return a.site }

// Account returns as whom the adaptor acts, from the token in use; it logs in when there is none.
func (a *Adaptor) Account(ctx context.Context) (sites.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	g, err := a.session.grant(ctx)
	if err != nil {
		return sites.Account{}, err
	}
	return g.account, nil
}

var _ sites.Prover = (*Adaptor)(nil)

// Prove logs in again and returns as whom the adaptor acts from here on.
func (a *Adaptor) Prove(ctx context.Context) (sites.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	g, err := a.session.grant(ctx)
	if err == nil {
		g, err = a.session.renew(ctx, g.token)
	}
	if err != nil {
		return sites.Account{}, err
	}
	return g.account, nil
}
