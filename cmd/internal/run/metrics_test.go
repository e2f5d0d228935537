package run

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are served at an address until the program ends, and nothing else is; an address that is taken is an error, and none is none.
func TestServeMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "some_gauge", Help: "Some."}))
	// An address that nobody else binds to: the port stays free when it is given back.
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.77.1.9:0")
	if err != nil {
		t.Fatal(err)
	}
	at := taken.Addr().String()
	if err := ServeMetrics(t.Context(), at, registry); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("at an address that is taken: %v", err)
	}
	if err := ServeMetrics(t.Context(), "", registry); err != nil {
		t.Errorf("at none: %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ServeMetrics(ctx, at, registry); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	for path, want := range map[string]string{"/metrics": "some_gauge 0", "/debug/pprof/": "404"} {
		if got := get(t, "http://"+at+path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", path, got, want)
		}
	}
}

// get asks until somebody answers.
func get(t *testing.T, url string) string {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			if time.Now().After(limit) {
				t.Fatal(err)
			}
			continue
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status + "\n" + string(body)
	}
}
