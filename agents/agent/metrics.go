package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the agent counts of itself.
type metrics struct {
	connected prometheus.Gauge
	fills     prometheus.Counter
	changes   prometheus.Counter
	refused   prometheus.Counter
	bundle    prometheus.Histogram
	compile   prometheus.Histogram
	reaction  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, c *core) *metrics {
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_agent_switch_connected", Help: "1 while the agent has a connection to the bridge."}),
		fills:     prometheus.NewCounter(prometheus.CounterOpts{Name: "headwater_agent_fills_total", Help: "Times that all of the bridge was compared with the program after a connection."}),
		changes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "headwater_agent_changes_total", Help: "Changes of flows and groups that the bridge was sent."}),
		refused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "headwater_agent_refused_total", Help: "Changes that the bridge refused."}),
		bundle: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_agent_apply_seconds", Help: "Time until the bridge had carried out what it was sent at once.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		compile: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_agent_compile_seconds", Help: "Time to take in what had changed and compile it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
		reaction: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_agent_reaction_seconds",
			Help: "Time from being told of a change until the bridge carries it out.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
	}
	gauge := func(name, help string, f func(*core) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return f(c)
		})
	}
	counter := func(name, help string, f func(*core) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return f(c)
		})
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(dropCollector{c})
	reg.MustRegister(m.connected, m.fills, m.changes, m.refused, m.bundle, m.compile, m.reaction,
		gauge("headwater_agent_flows", "Flows of the program.", func(c *core) float64 { return float64(c.compiler.Stats().Flows) }),
		gauge("headwater_agent_units", "Compilations that the program is made of.", func(c *core) float64 { return float64(c.compiler.Stats().Units) }),
		counter("headwater_agent_compiled_units_total", "Compilations done.", func(c *core) float64 { return float64(c.compiler.Stats().Compiled) }),
		gauge("headwater_agent_flow_clashes", "Flows that two parts of the compiler want differently (a defect), or that hold not all that they should.", func(c *core) float64 { return float64(c.compiler.Stats().Clashes) }),
		gauge("headwater_agent_revision", "Revision of the desired state that the agent was told.", func(c *core) float64 { return float64(c.revision) }),
		gauge("headwater_agent_applied_revision", "Revision of the desired state that the bridge carries out.", func(c *core) float64 { return float64(c.done.revision) }),
		gauge("headwater_agent_plugged_ports", "Ports that are plugged here.", func(c *core) float64 { return float64(len(c.plugged)) }),
		gauge("headwater_agent_ready_ports", "Ports that are plugged here and whose flows are in.", func(c *core) float64 {
			n := 0
			for _, p := range c.plugged {
				if p.ready {
					n++
				}
			}
			return float64(n)
		}),
		gauge("headwater_agent_alarms", "Alarms that stand.", func(c *core) float64 { return float64(len(c.alarms.standing)) }),
		counter("headwater_agent_foreign_changes_total", "Changes of the bridge by somebody else that were mended.", func(c *core) float64 { return float64(c.foreign) }),
		gauge("headwater_agent_connections", "Connections in zones that have a bound.", func(c *core) float64 { return float64(c.connections) }),
		gauge("headwater_agent_full_zones", "Zones that have as many connections as they may have.", func(c *core) float64 { return float64(c.full) }),
		gauge("headwater_agent_zones", "Connection tracking zones in use.", func(c *core) float64 { return float64(len(c.zones.used)) }),
	)
	return m
}

// dropCollector has the counts of dropped packets, by reasons that only the switch's flows tell.
type dropCollector struct{ core *core }

// Describe says nothing beforehand.
func (dropCollector) Describe(chan<- *prometheus.Desc) {}

// Collect gives the last counts.
func (d dropCollector) Collect(out chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("headwater_agent_dropped_packets_total", "Packets dropped by the switch, by reason, since the flow that drops them was made.", []string{"reason"}, nil)
	for reason, n := range d.core.dropCounts() {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), reason)
	}
}
