package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/top/admin"
	"github.com/headwater-cloud/headwater/top/auth"
	topcompute "github.com/headwater-cloud/headwater/top/compute"
	"github.com/headwater-cloud/headwater/top/faultjson"
	topidentity "github.com/headwater-cloud/headwater/top/identity"
	topimage "github.com/headwater-cloud/headwater/top/image"
	topnetwork "github.com/headwater-cloud/headwater/top/network"
	"github.com/headwater-cloud/headwater/top/server"
	topvolume "github.com/headwater-cloud/headwater/top/volume"
	"github.com/headwater-cloud/headwater/web"
)

// front makes the HTTP server with every service mounted. Ready decides /healthz.
func (t *top) front(ready func(context.Context) error) (*server.Server, error) {
	policy, err := auth.NewPolicy(t.cfg.Identity.Policy, topidentity.Rules())
	if err != nil {
		return nil, run.Usage(err)
	}
	known := topidentity.Config{Store: t.identity, Sites: t.registry, PublicURL: t.cfg.PublicURL}
	var provider identity.Provider = t.identity
	if t.cfg.Identity.External.AuthURL != "" {
		if known.External, err = t.external(); err != nil {
			return nil, run.Usage(err)
		}
		provider = known.External
	}
	a := auth.New(provider, policy)
	known.Auth = a
	ids := topidentity.New(known)
	computes := topcompute.New(topcompute.Config{Service: t.compute, Auth: a, PublicURL: t.cfg.PublicURL})
	operator := admin.New(admin.Config{
		Sites: t.registry, Jobs: jobs.NewStore(t.db), Audit: t.audit, Version: run.Version(), Caller: a.Caller,
		Explain: func(ctx context.Context, who sites.Caller, body map[string]any) (placement.Explanation, error) {
			return computes.Explain(ctx, who, body, t.placer)
		},
	})
	var front *server.Server // the dashboard calls it as any client does, in this process
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front.ServeHTTP(w, r) })
	front, err = server.New(server.Config{
		Listen: t.cfg.Listen, CertFile: t.cfg.TLS.CertFile, KeyFile: t.cfg.TLS.KeyFile, PublicURL: t.cfg.PublicURL,
		MaxBody: t.cfg.MaxBody, Grace: t.cfg.Grace, Sites: t.registry, Audit: t.audit, Ready: ready, Metrics: t.metrics, Log: t.log, Now: time.Now,
		MetricsListen: t.cfg.Metrics.Listen, MetricsToken: t.cfg.metricsToken, Trace: t.tracer.Requests(),
		Handlers: map[string]http.Handler{web.Base: web.New(web.Config{
			API: web.InProcess(api), Seal: t.keys, Secure: strings.HasPrefix(t.cfg.PublicURL, "https:"), Now: time.Now, Log: t.log,
		})},
		Mounts: []server.Mount{
			{Prefix: "/identity", Dialect: faultjson.Identity, Routes: ids.Routes, Audited: true},
			{Prefix: "/compute", Dialect: faultjson.Compute, Routes: computes.Routes},
			{Prefix: "/network", Dialect: faultjson.Network, Routes: topnetwork.New(topnetwork.Config{Service: t.network, Auth: a, Ages: t.compute, PublicURL: t.cfg.PublicURL}).Routes},
			{Prefix: "/image", Dialect: faultjson.Image, Streams: topimage.Streams, Routes: topimage.New(topimage.Config{Service: t.image, Auth: a, PublicURL: t.cfg.PublicURL}).Routes},
			{Prefix: "/volume", Dialect: faultjson.Volume, Routes: topvolume.New(topvolume.Config{Service: t.volume, Auth: a, Zones: t.placer, Sites: t.registry, PublicURL: t.cfg.PublicURL}).Routes},
			{Prefix: "/v1", Dialect: faultjson.Operator, Routes: operator.Routes, Audited: true},
			{Prefix: "/docs", Dialect: faultjson.Operator, Routes: operator.Docs},
		},
	})
	return front, err
}
