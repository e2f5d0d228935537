package relay

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/stream"
)

// The metrics of a relay, which are the server's and its client's, are registered together, follow the rules for names, and are 0 before
// anything happens, so that an alert on what is absent works.
func TestMetrics(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, r *rig) {
		registry := prometheus.NewRegistry()
		cred := r.credentials(mtls.Identity{Role: mtls.Relay, Site: "east", Name: "relay1"})
		up, err := NewUpstream(stream.Config{Servers: []string{"top"}, Site: "east", Credentials: cred, Dial: r.dial, Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		r.serve("relay1", up, cred, func(c *Config) { c.Metrics = registry })
		families, err := registry.Gather()
		if err != nil || len(families) < 20 {
			t.Fatalf("%d metrics, %v", len(families), err)
		}
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("promlint: %v, %v", problems, err)
		}
	})
}
