package members

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// traffic is the bytes of one direction.
type traffic struct{ packets, streams prometheus.Counter }

// metrics are one pool's.
type metrics struct {
	events     *prometheus.CounterVec // event
	joins      *prometheus.CounterVec // outcome
	refused    *prometheus.CounterVec // reason
	complaints *prometheus.CounterVec // level
	conflicts  prometheus.Counter
	sent       traffic
	received   traffic
	all        []prometheus.Collector
}

// What the labels may say.
const (
	eventJoined  = "joined"
	eventUpdated = "updated"
	eventDied    = "died"
	eventLeft    = "left"

	joinDone   = "joined"
	joinFailed = "failed"

	refusedName    = "name"    // of a member, which is not SITE/HOST or of another site than the pool
	refusedVersion = "version" // of an announcement: later than ours
	refusedMeta    = "malformed"
	refusedBusy    = "busy" // a connection beyond those that there may be at once
)

// newMetrics makes the metrics of a pool. The gauges look at p when they are asked.
func newMetrics(p *Pool) *metrics {
	labels := prometheus.Labels{"pool": p.cfg.Scope.String()}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "headwater_members_" + name, Help: help, ConstLabels: labels}
	}
	m := &metrics{
		events:     prometheus.NewCounterVec(counter("events_total", "What members did, as seen from here."), []string{"event"}),
		joins:      prometheus.NewCounterVec(counter("joins_total", "Attempts to join by a seed or by a member that had died."), []string{"outcome"}),
		refused:    prometheus.NewCounterVec(counter("refused_total", "Members, announcements and connections that were not taken, by the reason; one may be counted often."), []string{"reason"}),
		complaints: prometheus.NewCounterVec(counter("complaints_total", "Complaints of the gossip protocol, also those that the log was spared."), []string{"level"}),
		conflicts:  prometheus.NewCounter(counter("conflicts_total", "Messages that claimed a host id that another machine holds.")),
	}
	m.all = []prometheus.Collector{m.events, m.joins, m.refused, m.complaints, m.conflicts}
	bytes := func(name, help string) traffic {
		v := prometheus.NewCounterVec(counter(name, help), []string{"kind"})
		m.all = append(m.all, v)
		return traffic{v.WithLabelValues("packet"), v.WithLabelValues("stream")}
	}
	m.sent = bytes("sent_bytes_total", "Bytes sent, without the headers below UDP and TCP.")
	m.received = bytes("received_bytes_total", "Bytes received, without the headers below UDP and TCP.")
	m.gauges(p, labels)
	m.preset()
	return m
}

func (m *metrics) gauges(p *Pool, labels prometheus.Labels) {
	gauge := func(name, help string, more prometheus.Labels, value func() float64) {
		all := prometheus.Labels{}
		for _, from := range []prometheus.Labels{labels, more} {
			for k, v := range from {
				all[k] = v
			}
		}
		opts := prometheus.GaugeOpts{Name: "headwater_members_" + name, Help: help, ConstLabels: all}
		m.all = append(m.all, prometheus.NewGaugeFunc(opts, value))
	}
	count := func(want func(*Member) bool) func() float64 {
		return func() float64 {
			n := 0
			v := p.View()
			for i := range v.members {
				if want(&v.members[i]) {
					n++
				}
			}
			return float64(n)
		}
	}
	for role, gateway := range map[string]bool{"gateway": true, "host": false} {
		gauge("alive", "Members that are alive, this one included, by their role.", prometheus.Labels{"role": role},
			count(func(m *Member) bool { return m.State == Alive && m.Gateway == gateway }))
	}
	for _, s := range []State{Dead, Left} {
		gauge("gone", "Members that died or left and are remembered.", prometheus.Labels{"state": s.String()},
			count(func(m *Member) bool { return m.State == s }))
	}
	gauge("queue_packets", "Packets received that nobody has looked at yet.", nil, func() float64 { return float64(p.queued()) })
	gauge("degraded", "How far this member is behind its own times, 0 (not at all) to 8: it waits that many times longer before it suspects others.", nil,
		func() float64 { return float64(p.degraded()) })
}

// preset makes every series exist, so that its absence can be an alert.
func (m *metrics) preset() {
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.events:     {eventJoined, eventUpdated, eventDied, eventLeft},
		m.joins:      {joinDone, joinFailed},
		m.refused:    {refusedName, refusedVersion, refusedMeta, refusedBusy},
		m.complaints: {"warn", "error"},
	} {
		for _, v := range values {
			vec.WithLabelValues(v)
		}
	}
}

// register adds the metrics to reg; nil leaves them unseen.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}
