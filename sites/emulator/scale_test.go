package emulator

import (
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// Not parallel: it measures the heap of the whole process.
func TestHundredThousandServersFit(t *testing.T) {
	if testing.Short() {
		t.Skip("seeds 100,000 servers")
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := start(t, func(cfg *Config) { cfg.Unlimited = true })
	if err := s.Seed(Seeding{Servers: 100_000, Ports: 1, Marker: "hw:"}); err != nil {
		t.Fatal(err)
	}
	used := heap() - before
	t.Logf("100,000 servers with ports: %d MB", used>>20)
	if used > 300<<20 {
		t.Errorf("100,000 servers take %d MB, want at most 300", used>>20)
	}
	token := s.login(t, "demo", "demo").Token()
	page := func(path string) time.Duration {
		t.Helper()
		at := time.Now()
		req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil))(t)
		req.Header.Set("X-Auth-Token", token)
		req.Header.Set("OpenStack-API-Version", "compute 2.90")
		res := must(http.DefaultClient.Do(req))(t)
		n := must(io.Copy(io.Discard, res.Body))(t)
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK || n < 100_000 {
			t.Fatalf("page is %d with %d bytes, %v", res.StatusCode, n, err)
		}
		return time.Since(at)
	}
	t.Logf("page of 1000 in detail: %v, second page: %v, ports: %v", page("/compute/v2.1/servers/detail"),
		page("/compute/v2.1/servers/detail?marker="+s.Servers()[50_000].ID), page("/network/v2.0/ports?limit=1000"))
	runtime.KeepAlive(s)
}

func BenchmarkServerPage(b *testing.B) {
	c := New(Config{Name: "emu", Unlimited: true})
	if err := c.Seed(Seeding{Servers: 10_000, Ports: 1}); err != nil {
		b.Fatal(err)
	}
	q := &request{c: c, svc: computeSvc, base: "http://emu", minor: 90, project: c.ProjectID("demo"), user: c.userNamed("demo"), query: map[string][]string{}}
	for b.Loop() {
		rep, err := c.listServers(true)(q)
		if err != nil || len(appendJSON(nil, rep.body)) < 1000 {
			b.Fatal(err)
		}
	}
}
