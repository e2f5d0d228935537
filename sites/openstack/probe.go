package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// probeParallel is how many questions of a probe are under way at once.
const probeParallel = 4

// needed are the services without which a site is of no use.
var needed = []sites.Service{sites.Compute, sites.ImageService, sites.NetworkSvc}

// Probe reads what the site offers and what the account may do. Its failure
// says for the operator exactly what is wrong: Unauthorized for a wrong
// credential, BadRequest for a TLS failure, an unknown region or a missing
// service, Unavailable, with the address, for what does not answer.
func (a *Adaptor) Probe(ctx context.Context) (sites.Capabilities, error) {
	p := &probe{adaptor: a, caps: sites.Capabilities{
		ProbedAt: a.now().UTC(), Services: map[sites.Service]sites.ServiceInfo{}, Zones: map[sites.Service][]string{},
		DefaultZones: map[sites.Service]string{}, Quota: map[sites.Service]map[string]int64{},
	}}
	var err error
	if p.grant, err = p.login(ctx); err != nil {
		return sites.Capabilities{}, err
	}
	p.caps.Roles = slices.Sorted(slices.Values(p.grant.account.Roles))
	if err := p.services(ctx); err != nil {
		return sites.Capabilities{}, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeParallel)
	for _, question := range []func(context.Context) error{
		p.flavors, p.volumeTypes, p.networks, p.extensions, p.importMethods, p.zones,
		p.computeQuota, p.volumeQuota, p.networkQuota, p.imageQuota, p.administration,
	} {
		g.Go(func() error { return question(gctx) })
	}
	if err := g.Wait(); err != nil {
		return sites.Capabilities{}, err
	}
	if err := p.capacity(ctx); err != nil {
		return sites.Capabilities{}, err
	}
	p.caps.ClockSkew = a.skew.value()
	p.judge()
	return p.caps, nil
}

// probe is one Probe under way.
type probe struct {
	adaptor *Adaptor
	grant   *grant

	mu   sync.Mutex // guards the field below while questions run side by side
	caps sites.Capabilities
}

// with changes what was learned so far.
func (p *probe) with(change func(*sites.Capabilities)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.caps)
}

func (p *probe) warn(format string, args ...any) {
	p.with(func(c *sites.Capabilities) { c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...)) })
}

func (p *probe) fail(kind fault.Kind, cause error, format string, args ...any) error {
	return &fault.Error{Op: "sites/openstack.Probe", Site: string(p.adaptor.site), Kind: kind, Msg: fmt.Sprintf(format, args...), Err: cause}
}

// login logs in afresh, so that a changed role or password shows.
func (p *probe) login(ctx context.Context) (*grant, error) {
	a := p.adaptor
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	g, err := a.session.grant(ctx)
	if err == nil && a.now().Sub(g.began) > freshGrant {
		g, err = a.session.renew(ctx, g.token)
	}
	switch {
	case err == nil:
		return g, nil
	case fault.Is(err, fault.Unauthorized):
		return nil, p.fail(fault.Unauthorized, err, "%s is refused by the site's Keystone at %s: wrong user, password or project", p.who(), a.identityAddress())
	case fault.Is(err, fault.BadRequest):
		return nil, p.fail(fault.BadRequest, err, "there is no Keystone v3 at %s", a.identityAddress())
	}
	return nil, p.trouble(err, a.identityAddress())
}

// who names the account without its secret.
func (p *probe) who() string {
	c := p.adaptor.session.credential
	if c.AppCredID != "" || c.AppCredName != "" {
		return "application credential " + firstOf(c.AppCredName, c.AppCredID)
	}
	return fmt.Sprintf("user %s of project %s", firstOf(c.Username, c.UserID), firstOf(c.ProjectName, c.ProjectID))
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// identityAddress is where the site's Keystone is, for the operator.
func (a *Adaptor) identityAddress() string { return strings.TrimSuffix(a.client.IdentityBase, "/") }

// trouble explains an endpoint that does not answer as it should.
func (p *probe) trouble(err error, address string) error {
	var e *fault.Error
	if !errors.As(err, &e) {
		return p.fail(fault.Internal, err, "")
	}
	if reason := tlsReason(e.Err); reason != "" {
		return p.fail(fault.BadRequest, err, "TLS failure at %s: %s", address, reason)
	}
	if e.Kind == fault.Unavailable && strings.HasPrefix(e.Err.Error(), "status ") {
		return p.fail(fault.Unavailable, err, "%s answers %s", address, e.Err.Error())
	}
	if e.Kind == fault.Unavailable {
		return p.fail(fault.Unavailable, err, "%s cannot be reached: %s", address, unreachable(e.Err))
	}
	return p.fail(e.Kind, err, "%s: %s", address, fault.Message(err))
}

// services checks that the catalog has what is needed and asks each service for its versions.
func (p *probe) services(ctx context.Context) error {
	if err := p.complete(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeParallel)
	for service, endpoint := range p.grant.endpoints {
		g.Go(func() error {
			w, err := p.adaptor.discover(gctx, service)
			if err != nil && (slices.Contains(needed, service) || service == sites.Identity) {
				return p.trouble(err, address(endpoint))
			}
			if err != nil {
				p.warn("the %s service of the site cannot be used: %s", service, fault.Message(p.trouble(err, address(endpoint))))
				return nil
			}
			if service == sites.Compute || service == sites.BlockStorage {
				if _, err := p.adaptor.chosen(gctx, service); err != nil {
					return p.fail(fault.BadRequest, err, "%s", fault.Message(err))
				}
			}
			info := sites.ServiceInfo{URL: endpoint, Version: w.current}
			if !w.max.zero() {
				info.MinMicroversion, info.MaxMicroversion = w.min.String(), w.max.String()
			}
			p.with(func(c *sites.Capabilities) { c.Services[service] = info })
			return nil
		})
	}
	return g.Wait()
}

// complete says what the catalog lacks.
func (p *probe) complete() error {
	cred := p.adaptor.session.credential
	found := regions(p.grant.catalog)
	if cred.Region == "" && len(found) > 1 {
		return p.fail(fault.BadRequest, nil, "the site has several regions (%s): give region_name", strings.Join(found, ", "))
	}
	if cred.Region != "" && !slices.Contains(found, cred.Region) {
		return p.fail(fault.BadRequest, nil, "the site has no compute service in region %s; its regions are: %s", cred.Region, strings.Join(found, ", "))
	}
	for _, service := range needed {
		if p.grant.endpoints[service] == "" {
			return p.fail(fault.BadRequest, nil, "the site's catalog has no %s service with interface %s in region %s", service,
				firstOf(cred.Interface, "public"), firstOf(cred.Region, strings.Join(found, ", ")))
		}
	}
	return nil
}

// address is an endpoint as shown to the operator.
func address(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "an endpoint that is no URL"
	}
	return u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
}

// skip decides about a question that failed: an optional one that the site does not answer becomes a
// warning; a site that fails in the middle fails the probe.
func (p *probe) skip(err error, what string) error {
	switch fault.KindOf(err) {
	case fault.Forbidden, fault.NotFound, fault.NotImplemented, fault.BadRequest, fault.NotAcceptable:
		p.warn("%s could not be read: %s", what, fault.Message(err))
		return nil
	}
	return fmt.Errorf("probe %s: %w", what, err)
}

// judge adds the warnings that follow from the whole.
func (p *probe) judge() {
	c := &p.caps
	if _, ok := c.Services[sites.BlockStorage]; !ok {
		p.warn("the site has no block-storage service: no volumes there")
	}
	if w := parseVersion(c.Services[sites.Compute].MaxMicroversion); w.less(taggedServers) {
		p.warn("the compute service is older than microversion %s: servers are marked by metadata and found again by reading all of them", taggedServers)
	}
	if !c.HasExtension("standard-attr-description") {
		p.warn("the network service lacks the extension standard-attr-description: resources there cannot be marked")
	}
	if !c.HasExtension("port-security") {
		p.warn("the network service lacks the extension port-security")
	}
	if len(c.ExternalNetworks) == 0 {
		p.warn("the site shows no external network: no floating IPs there")
	}
	for _, n := range c.SharedNetworks {
		if !n.ToAll {
			p.warn("network %s (%s) is shared with the account; that it is with every project cannot be seen: it is offered only where all projects use this account", n.Name, n.ID)
		}
	}
	if skew := c.ClockSkew.Abs(); skew > maxSkew {
		p.warn("the site's clock differs from ours by %s", c.ClockSkew)
	}
	if p.adaptor.session.credential.Insecure {
		p.warn("the site's certificate is not verified (insecure)")
	}
	slices.Sort(c.Warnings)
}
