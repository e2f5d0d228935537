package main

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/limit"
)

// A removed site left its limiter, its breaker's state and its metrics behind: alerts on a dead site never ended, and
// another site of that name began with the old one's open breaker.
func TestAdaptorsForget(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	counts, err := limit.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	a := newAdaptors(defaultConfig().Sites, counts, nil, slog.New(slog.DiscardHandler))
	old := a.limiter("east")
	kept := a.limiter("east2")
	for site, cred := range map[ident.SiteID]sites.Credential{"east": {Insecure: true}, "east2": {}} {
		if _, err := a.transport(site, cred); err != nil {
			t.Fatal(err)
		}
	}
	a.forget("east")
	a.forget("nowhere")
	families, err := reg.Gather()
	if err != nil || len(families) == 0 {
		t.Fatal(families, err)
	}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			for _, l := range series.GetLabel() {
				if l.GetName() == "site" && l.GetValue() != "east2" {
					t.Errorf("%s of the removed site %s is still shown", f.GetName(), l.GetValue())
				}
			}
		}
	}
	if len(a.transports) != 1 {
		t.Errorf("%d transports are kept, want that of the other site", len(a.transports))
	}
	if a.limiter("east") == old || a.limiter("east2") != kept {
		t.Error("a site of the removed one's name has its limiter, or another site lost its own")
	}
}
