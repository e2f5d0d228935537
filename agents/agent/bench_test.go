package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// BenchmarkPlug is the agent's own share of plugging a guest: from the database's word that the interface has a number until the switch carries its flows
// out, beside others that are plugged already.
func BenchmarkPlug(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprintf("ports=%d", n), func(b *testing.B) {
			h := newHost(b)
			var text strings.Builder
			text.WriteString(strings.Split(twoPorts, "ports:")[0] + "security_groups:\n- {id: g, rules: [{id: r1, direction: EGRESS}, {id: r2, protocol_plus_one: 7, port_min: 22, port_max: 22}]}\nports:\n")
			total := n + 2000
			for i := 1; i <= total; i++ {
				fmt.Fprintf(&text, "- {id: p%d, key: %d, network: n1, mac: 'fa:16:3e:00:%02x:%02x', fixed_ips: [{subnet: s1, address: 10.0.%d.%d}], port_security: true, security_groups: [g], host: h1}\n",
					i, i, i>>8, i&0xff, i/250, 1+i%250)
			}
			h.cfg.PuntRate = 100
			h.start()
			h.Commit(snapshot(b, 1, text.String()))
			h.await("the bridge", func() (bool, string) { return h.column("Bridge", "br-int", "fail_mode") == "secure", "" })
			var args []string
			for i := 1; i <= n; i++ {
				args = append(args, "--", "add-port", "br-int", fmt.Sprintf("d%d", i), "--", "set", "Interface", fmt.Sprintf("d%d", i), "type=dummy", fmt.Sprintf("external_ids:iface-id=p%d", i))
			}
			if n > 0 {
				h.ovs.Vsctl(args...)
				h.ready(fmt.Sprintf("d%d", n))
			}
			h.settled()
			before := h.times(b)
			i := n
			for b.Loop() {
				if i++; i > total {
					b.Skip("more loops than there are ports")
				}
				h.plug(fmt.Sprintf("d%d", i), fmt.Sprintf("p%d", i))
				h.ready(fmt.Sprintf("d%d", i))
			}
			for name, after := range h.times(b) {
				was := before[name]
				b.ReportMetric((after.GetSampleSum()-was.GetSampleSum())*1e3/float64(b.N), name+"-ms/op")
			}
		})
	}
}

// times are the agent's own measures: take is its own work, switch what the bridge takes, react all from the first word on.
func (h *host) times(b *testing.B) map[string]*dto.Histogram {
	b.Helper()
	out := map[string]*dto.Histogram{}
	for name, histogram := range map[string]prometheus.Histogram{"take": h.metrics.compile, "switch": h.metrics.bundle, "react": h.metrics.reaction} {
		var m dto.Metric
		if err := histogram.Write(&m); err != nil {
			b.Fatal(err)
		}
		out[name] = m.GetHistogram()
	}
	return out
}
