package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/cmd/internal/trace"
	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/limit"
	"github.com/headwater-cloud/headwater/sites/openstack"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/sites/retry"
)

// adaptors makes the adaptors of all sites: those of one site share
// connections, a bound on calls under way and a circuit breaker.
type adaptors struct {
	cfg     sitesConfig
	log     *slog.Logger
	metrics *limit.Metrics
	tracer  *trace.Tracer
	report  func(ident.SiteID, error) // told when a site stops answering

	mu         sync.Mutex // guards the fields below
	limiters   map[ident.SiteID]*limit.Limiter
	transports map[string]http.RoundTripper
}

func newAdaptors(cfg sitesConfig, metrics *limit.Metrics, tracer *trace.Tracer, log *slog.Logger) *adaptors {
	return &adaptors{cfg: cfg, log: log, metrics: metrics, tracer: tracer, limiters: map[ident.SiteID]*limit.Limiter{}, transports: map[string]http.RoundTripper{}}
}

// make is the registry's factory.
func (a *adaptors) make(site ident.SiteID, cred sites.Credential) (sites.Adaptor, error) {
	transport, err := a.transport(site, cred)
	if err != nil {
		return nil, err
	}
	return openstack.New(openstack.Config{Site: site, Credential: cred, Timeout: a.cfg.CallTimeout, Transport: transport, Log: a.log})
}

// transport is shared by the accounts of a site that trust the same certificates.
func (a *adaptors) transport(site ident.SiteID, cred sites.Credential) (http.RoundTripper, error) {
	key := fmt.Sprintf("%s\x00%t\x00%s", site, cred.Insecure, cred.CACert)
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.transports[key]; ok {
		return t, nil
	}
	plain, err := openstack.NewTransport(cred)
	if err != nil {
		return nil, err
	}
	t := a.tracer.Transport(site, plain)
	a.transports[key] = t
	return t, nil
}

// decorate lists what goes around each adaptor, innermost first.
func (a *adaptors) decorate() []func(sites.Adaptor) sites.Adaptor {
	return []func(sites.Adaptor) sites.Adaptor{
		func(inner sites.Adaptor) sites.Adaptor { return a.limiter(inner.Site()).Wrap(inner) },
		func(inner sites.Adaptor) sites.Adaptor { return retry.Wrap(inner, retry.Config{}) },
	}
}

func (a *adaptors) limiter(site ident.SiteID) *limit.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.limiters[site]
	if !ok {
		l = limit.New(site, limit.Config{Concurrency: a.cfg.Concurrency, Timeout: a.cfg.CallTimeout, Metrics: a.metrics, OnChange: func(s limit.State) {
			a.log.Info("breaker changed", "site", s.Site, "kind", s.Phase, "err", s.Reason)
			if s.Phase == limit.Open && a.report != nil {
				a.report(s.Site, siteSilent(s.Reason))
			}
		}})
		a.limiters[site] = l
	}
	return l
}

// forget drops what is kept of a site that was removed: its limits, its metrics, its connections.
func (a *adaptors) forget(site ident.SiteID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.limiters[site]; ok {
		l.Retire()
		delete(a.limiters, site)
	}
	for key, t := range a.transports {
		if !strings.HasPrefix(key, string(site)+"\x00") {
			continue
		}
		if idle, ok := t.(interface{ CloseIdleConnections() }); ok {
			idle.CloseIdleConnections()
		}
		delete(a.transports, key)
	}
}

// lateRemover stands for the remover that is made after the registry which needs it.
type lateRemover struct{ registry.Remover }

// keeper drops what is older than it is kept, once an hour.
type keeper struct {
	what   string
	expire func(context.Context, time.Duration) (int64, error)
	keep   time.Duration
	log    *slog.Logger
}

// Run drops until ctx ends.
func (k keeper) Run(ctx context.Context) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		if n, err := k.expire(ctx, k.keep); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "old rows were not removed", "kind", k.what, "err", err)
		} else if n > 0 {
			k.log.InfoContext(ctx, "old rows removed", "kind", k.what, "count", n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// ready says whether Top can serve: its database answers.
func ready(db *dbschema.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := db.Ping(ctx); err != nil {
			return fmt.Errorf("the database does not answer: %w", err)
		}
		return nil
	}
}

// siteSilent is the fault of a site whose breaker opened.
func siteSilent(reason string) error {
	return fault.New(fault.Unavailable, "cmd/headwater", "%s", reason)
}
