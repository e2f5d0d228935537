package members

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		reg := prometheus.NewRegistry()
		one := f.start(t, 1, func(c *Config) { c.Registerer = reg })
		wan := settings(7)
		wan.Scope, wan.Registerer = WAN, reg // an agent of a gateway has both
		both := f.run(t, wan, nil)
		synctest.Wait()
		if n := metric(t, reg, "headwater_members_events_total", "site", "died"); n != 0 {
			t.Errorf("before any, %v deaths, want 0 and present", n)
		}
		others := f.fleet(t, 2, 5, func(c *Config) { c.Meta.Gateway = c.Host == member(5).Host })
		await(t, 10*time.Second, "all see all", allSee(append(others, one), upTo(1, 5)...))
		_ = others[0].end(nil)
		f.kill(others[1])
		clone := f.run(t, twin(9, 4), nil)
		clone.done.Wait()
		await(t, time.Minute, "it is noticed", func() bool { return sees(one, 1, 4, 5) })
		step(time.Minute)
		for _, tt := range []struct {
			name, label string
			least, most float64
		}{
			{"alive", "host", 2, 2},
			{"alive", "gateway", 1, 1},
			{"gone", "dead", 1, 1},
			{"gone", "left", 1, 1},
			{"events_total", "joined", 5, 5},
			{"events_total", "died", 1, 1},
			{"events_total", "left", 1, 1},
			{"joins_total", "failed", 1, 1e3},
			{"sent_bytes_total", "packet", 1000, 1e6},
			{"sent_bytes_total", "stream", 100, 1e6},
			{"received_bytes_total", "packet", 1000, 1e6},
			{"received_bytes_total", "stream", 100, 1e6},
			{"queue_packets", "", 0, 10},
			{"degraded", "", 0, 8},
			{"conflicts_total", "", 0, 10},
			{"refused_total", "version", 0, 0},
		} {
			if n := metric(t, reg, "headwater_members_"+tt.name, "site", tt.label); n < tt.least || n > tt.most {
				t.Errorf("%s %s is %v, want %v to %v", tt.name, tt.label, n, tt.least, tt.most)
			}
		}
		if n := metric(t, reg, "headwater_members_alive", "wan", "host"); n != 1 {
			t.Errorf("the other pool has %v hosts", n)
		}
		lint(t, reg)
		endAll(t, append(others[2:], one, both))
	})
}

func lint(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	for _, fam := range families {
		if !strings.HasPrefix(fam.GetName(), "headwater_members_") {
			t.Errorf("metric %s", fam.GetName())
		}
	}
}

// metric returns the value of a pool's series that has a label of that value ("": any), or -1.
func metric(t *testing.T, reg *prometheus.Registry, name, pool, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	has := func(m *dto.Metric, value string) bool {
		for _, l := range m.GetLabel() {
			if l.GetValue() == value {
				return true
			}
		}
		return value == ""
	}
	for _, fam := range families {
		for _, m := range fam.GetMetric() {
			if fam.GetName() == name && has(m, pool) && has(m, value) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// TestGossipLog: a stranger's packets must not fill the disk with their complaints.
func TestGossipLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p, err := New(settings(1))
		if err != nil {
			t.Fatal(err)
		}
		log := newGossipLog(t.Context(), slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), p.metrics)
		log.Printf("[DEBUG] memberlist: Stream connection from=1")
		log.Printf("[INFO] memberlist: Marking x as failed")
		if out.Len() > 0 {
			t.Errorf("the log has what is for debugging: %s", out.String())
		}
		for range 1000 {
			log.Printf("[ERR] memberlist: Decrypt packet failed: no key from=192.0.2.1:5")
		}
		if n := strings.Count(out.String(), "\n"); n != burst {
			t.Errorf("1000 complaints made %d lines, want %d", n, burst)
		}
		if !strings.Contains(out.String(), `level=WARN msg="gossip protocol spoke" text="Decrypt packet failed`) {
			t.Errorf("the log is %s", out.String())
		}
		out.Reset()
		step(burstTime)
		log.Printf("[WARN] memberlist: Refuting a suspect message (from: x)")
		if strings.Count(out.String(), "\n") != 1 {
			t.Errorf("after a pause: %s", out.String())
		}
		m := &dto.Metric{}
		if err := p.metrics.complaints.WithLabelValues("error").Write(m); err != nil || m.GetCounter().GetValue() != 1000 {
			t.Errorf("counted %v, %v", m, err)
		}
	})
}
