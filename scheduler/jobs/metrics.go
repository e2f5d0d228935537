package jobs

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attempts *prometheus.CounterVec   // kind, outcome
	work     *prometheus.HistogramVec // kind
	wait     *prometheus.HistogramVec // queue
	running  *prometheus.GaugeVec     // queue
	jobs     *prometheus.GaugeVec     // state
	rescued  prometheus.Counter
	panics   prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "headwater_jobs_" + name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "headwater_jobs_" + name, Help: help, Buckets: buckets}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Name: "headwater_jobs_" + name, Help: help}
	}
	m := &metrics{
		attempts: prometheus.NewCounterVec(counter("attempts_total", "Attempts at jobs by how they went."), []string{"kind", "outcome"}),
		work: prometheus.NewHistogramVec(histogram("work_seconds", "Time an attempt took.",
			prometheus.ExponentialBuckets(0.001, 4, 10)), []string{"kind"}), // 1 ms to 4 min
		wait: prometheus.NewHistogramVec(histogram("wait_seconds", "Time from when a job was due to when an attempt began.",
			prometheus.ExponentialBuckets(0.001, 4, 12)), []string{"queue"}), // 1 ms to 70 min
		running: prometheus.NewGaugeVec(gauge("running", "Jobs that this process runs."), []string{"queue"}),
		jobs:    prometheus.NewGaugeVec(gauge("in_state", "Jobs in the database by state, as counted last."), []string{"state"}),
		rescued: prometheus.NewCounter(counter("rescued_total", "Jobs taken back because their lease ran out.")),
		panics:  prometheus.NewCounter(counter("panics_total", "Attempts that ended in a panic.")),
	}
	for _, s := range States() {
		m.jobs.WithLabelValues(string(s)).Set(0)
	}
	return m
}

// register adds the metrics to reg; nil leaves them unseen.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.attempts, m.work, m.wait, m.running, m.jobs, m.rescued, m.panics} {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}

// kind makes a kind's series exist before its first job, so that their absence can be an alert.
func (m *metrics) kind(kind string) {
	for _, o := range outcomes() {
		m.attempts.WithLabelValues(kind, o)
	}
	m.work.WithLabelValues(kind)
}
