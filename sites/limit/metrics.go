package limit

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Metrics counts the calls of all limiters of a program. A nil one counts nothing.
type Metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	running *prometheus.GaugeVec
	waiting *prometheus.GaugeVec
	open    *prometheus.GaugeVec
}

// The outcomes besides those of fault.Kind.
const (
	outcomeDone    = "done"
	outcomeRefused = "refused" // by the breaker
	outcomeBusy    = "busy"    // no place became free in time
)

// NewMetrics registers the metrics of limiters.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	site := []string{"site"}
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_limit_calls_total",
			Help: "Calls to a site, by outcome: done, refused by the breaker, busy, or the kind of the failure."}, []string{"site", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "headwater_limit_call_duration_seconds",
			Help: "How long calls to a site took once they had their place.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, site),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headwater_limit_calls_running", Help: "Calls and transfers that go on at a site."}, site),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headwater_limit_calls_waiting", Help: "Calls that wait for their place at a site."}, site),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "headwater_limit_breaker_open",
			Help: "1 while the breaker of a site refuses calls, 0.5 while it tries one, 0 while they pass."}, site),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.running, m.waiting, m.open} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// begin makes a site's series appear with 0.
func (m *Metrics) begin(site ident.SiteID) {
	if m == nil {
		return
	}
	for _, outcome := range []string{outcomeDone, outcomeRefused, outcomeBusy, fault.Unavailable.String(), fault.Ambiguous.String()} {
		m.calls.WithLabelValues(string(site), outcome)
	}
	m.state(State{Site: site, Phase: Closed})
}

func (m *Metrics) called(site ident.SiteID, took time.Duration, err error) {
	if m == nil {
		return
	}
	outcome := outcomeDone
	if err != nil {
		outcome = fault.KindOf(err).String()
	}
	m.calls.WithLabelValues(string(site), outcome).Inc()
	m.seconds.WithLabelValues(string(site)).Observe(took.Seconds())
}

func (m *Metrics) turnedAway(site ident.SiteID, outcome string) {
	if m != nil {
		m.calls.WithLabelValues(string(site), outcome).Inc()
	}
}

func (m *Metrics) state(s State) {
	if m == nil {
		return
	}
	m.running.WithLabelValues(string(s.Site)).Set(float64(s.Running))
	m.waiting.WithLabelValues(string(s.Site)).Set(float64(s.Waiting))
	m.open.WithLabelValues(string(s.Site)).Set(map[Phase]float64{Closed: 0, HalfOpen: 0.5, Open: 1}[s.Phase])
}

// Forget drops the series of a site that was removed.
func (m *Metrics) Forget(site ident.SiteID) {
	if m == nil {
		return
	}
	at := prometheus.Labels{"site": string(site)}
	m.calls.DeletePartialMatch(at)
	m.seconds.DeletePartialMatch(at)
	m.running.DeletePartialMatch(at)
	m.waiting.DeletePartialMatch(at)
	m.open.DeletePartialMatch(at)
}
