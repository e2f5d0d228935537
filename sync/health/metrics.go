package health

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/sites/registry"
)

// metrics are the loop's; a nil one counts nothing.
type metrics struct {
	states  *prometheus.GaugeVec
	checks  *prometheus.CounterVec
	changes *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		return nil, nil
	}
	m := &metrics{
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headwater_health_site_state",
			Help: "1 for the present health state of a site, 0 for the others."}, []string{"site", "state"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_health_checks_total",
			Help: "Checks of a site by this process, by what they found."}, []string{"site", "outcome"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_health_changes_total",
			Help: "Changes of a site's health that this process noticed, by the new state."}, []string{"site", "state"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "headwater_health_check_duration_seconds",
			Help: "How long a check of a site took.", Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2, 4, 8}}, []string{"site"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.states, m.checks, m.changes, m.seconds} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func states() []registry.HealthState {
	return []registry.HealthState{registry.Up, registry.Degraded, registry.Down, registry.Unknown}
}

// state sets the gauges of a site, and its counters to 0 where they are absent.
func (m *metrics) state(site ident.SiteID, now registry.HealthState) {
	for _, s := range states() {
		value := 0.0
		if s == now {
			value = 1
		}
		m.states.WithLabelValues(string(site), string(s)).Set(value)
		if s != registry.Unknown {
			m.checks.WithLabelValues(string(site), string(s))
			m.changes.WithLabelValues(string(site), string(s))
		}
	}
}

func (m *metrics) checked(site ident.SiteID, found registry.HealthState, took time.Duration) {
	if m != nil {
		m.checks.WithLabelValues(string(site), string(found)).Inc()
		m.seconds.WithLabelValues(string(site)).Observe(took.Seconds())
	}
}

func (m *metrics) changed(site ident.SiteID, to registry.HealthState) {
	if m != nil {
		m.changes.WithLabelValues(string(site), string(to)).Inc()
	}
}

// forget drops the series of a site that is gone.
func (m *metrics) forget(site ident.SiteID) {
	if m == nil {
		return
	}
	at := prometheus.Labels{"site": string(site)}
	m.states.DeletePartialMatch(at)
	m.checks.DeletePartialMatch(at)
	m.changes.DeletePartialMatch(at)
	m.seconds.DeletePartialMatch(at)
}
