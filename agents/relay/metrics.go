package relay

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/frame"
)

// metrics are the server's. Names and meanings stand in the README of agents.
type metrics struct {
	commits, resumed, unread, frames prometheus.Counter
	bytes                            prometheus.Counter
	snapshots, refused               *prometheus.CounterVec
	applySeconds, lag                prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "headwater_relay_" + name + "_total", Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "headwater_relay_" + name, Help: help}, f)
	}
	m := &metrics{
		commits: counter("commits", "Revisions that came from the source."), resumed: counter("resumes", "Streams that went on from a revision that is remembered."),
		unread: counter("objects_refused", "Objects that could not be read and are in no host's set."),
		frames: counter("frames_sent", "Parts of revisions that were sent."), bytes: counter("sent_bytes", "Bytes of objects that were sent."),
		snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_relay_snapshots_total", Help: "Whole states that were begun, by reason."}, []string{"reason"}),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "headwater_relay_refused_total", Help: "Streams that were refused, by reason."}, []string{"reason"}),
		applySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_relay_commit_seconds", Help: "Time to find out whom a revision concerns.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8)}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_relay_applied_seconds", Help: "Time until a host has applied all that concerned it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}),
	}
	for _, reason := range reasons() {
		m.snapshots.WithLabelValues(reason)
	}
	for _, reason := range []string{"certificate", "identity", "protocol", "duplicate"} {
		m.refused.WithLabelValues(reason)
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.commits, m.resumed, m.unread, m.frames, m.bytes, m.snapshots, m.refused, m.applySeconds, m.lag,
		gauge("streams", "Streams of hosts and relays.", func() float64 { return float64(s.count().streams) }),
		gauge("queued_bytes", "Bytes that wait for clients.", func() float64 { return float64(s.count().queued) }),
		gauge("objects", "Objects of the site.", func() float64 { return float64(s.count().objects) }),
		gauge("revision", "The revision that is handed out.", func() float64 { return float64(s.count().revision) }),
		gauge("hosts_behind", "Hosts with a stream that have not applied all that concerns them.", func() float64 { _, n := s.Lag(); return float64(n) }),
		gauge("applied_lag_seconds", "How long the one furthest behind is.", func() float64 { d, _ := s.Lag(); return d.Seconds() }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) sent(part *frame.Frame) {
	n := 0
	for _, o := range part.Set {
		n += o.Size()
	}
	m.frames.Inc()
	m.bytes.Add(float64(n))
}

// counts are what gauges show.
type counts struct {
	streams, objects int
	queued           int
	revision         uint64
}

func (s *Server) count() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := counts{streams: len(s.sessions), objects: len(s.objects), revision: s.revision}
	for x := range s.sessions {
		c.queued += x.bytes
	}
	return c
}
