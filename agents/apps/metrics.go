package apps

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/agents/flows"
)

// metrics count what becomes of packets. No label is a tenant's or a port's.
type metrics struct {
	packets *prometheus.CounterVec
	drops   *prometheus.CounterVec
	sent    prometheus.Counter
	unsent  prometheus.Counter
	// Requests for metadata.
	metadata *prometheus.CounterVec
	answers  [256][outcomes]prometheus.Counter // packets, by operation
}

func newMetrics() *metrics {
	m := &metrics{
		packets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headwater_apps_packets_total", Help: "Packets that the switch sent to the agent, by what for and what became of them.",
		}, []string{"op", "outcome"}),
		drops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headwater_apps_dropped_total", Help: "Packets for the agent that were not looked at: more than the sender's share, or more than the queue holds.",
		}, []string{"class", "reason"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headwater_apps_unsolicited_total", Help: "Packets that the agent sent of its own accord: router advertisements, announcements, questions for neighbours.",
		}),
		unsent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headwater_apps_unsent_total", Help: "Answers that the switch could not be given.",
		}),
		metadata: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headwater_apps_metadata_requests_total", Help: "Guests' requests for metadata: answered by the service, of nobody who is known, or not answered by the service.",
		}, []string{"outcome"}),
	}
	named := func(name string) (out [outcomes]prometheus.Counter) {
		for o := range outcomes {
			out[o] = m.packets.WithLabelValues(name, o.String())
		}
		return out
	}
	other := named("other")
	for op := range m.answers {
		if m.answers[op] = other; op < len(opNames) && opNames[op] != "" {
			m.answers[op] = named(opNames[op])
		}
	}
	for _, outcome := range []string{metadataAnswered, metadataUnknown, metadataUnavailable} {
		m.metadata.WithLabelValues(outcome)
	}
	for _, class := range []string{"port", "elsewhere"} {
		for _, reason := range []string{"share", "queue"} {
			m.drops.WithLabelValues(class, reason)
		}
	}
	return m
}

var opNames = [...]string{
	flows.OpDHCPv4: "dhcpv4", flows.OpDHCPv6: "dhcpv6", flows.OpSolicit: "solicit", flows.OpNeighbor: "neighbor", flows.OpTTL: "ttl", flows.OpTooBig: "too-big",
	flows.OpUnreachable: "unreachable", flows.OpDNS: "dns", flows.OpMetadata: "metadata", flows.OpAnnounce: "announce", flows.OpTrace: "trace",
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.packets, m.drops, m.sent, m.unsent, m.metadata} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics of packet services: %w", err)
		}
	}
	return nil
}

// The outcomes of requests for metadata.
const (
	metadataAnswered    = "answered"
	metadataUnknown     = "unknown"
	metadataUnavailable = "unavailable"
)

// observe is the observer that counts.
func (m *metrics) observe(c *Case, _ string, o Outcome) { m.answers[c.Op][o].Inc() }

func (m *metrics) dropped(source uint32, reason string) {
	class := "port"
	if source == 0 {
		class = "elsewhere"
	}
	m.drops.WithLabelValues(class, reason).Inc()
}
