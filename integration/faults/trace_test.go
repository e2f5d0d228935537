package faults

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/integration/topproc"
)

// receiver is a collector of spans.
type receiver struct {
	mu    sync.Mutex // guards spans
	spans []*tracepb.Span
}

// ServeHTTP takes an export.
func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in collector.ExportTraceServiceRequest
	data, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(data, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range in.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

// A client's trace goes through the request, the job that boots its server, and the calls to the site, which is told its
// place; the last spans are sent when Top stops; and a Top that does not trace hands the client's trace on all the same.
func TestTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	var got receiver
	srv := httptest.NewServer(&got)
	defer srv.Close()
	for name, more := range map[string]string{"traced": "tracing: {endpoint: \"" + srv.URL + "\"}", "not traced": ""} {
		w := newWorld(t, topproc.Config{More: more}, "east")
		var mu sync.Mutex
		var told []string
		w.gates[0].catch(func(_ http.Handler, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, r.URL.Path+" "+r.Header.Get("Traceparent"))
			}
			return false
		})
		network, _ := w.network(t, "n", "10.4.0.0/24")
		id := w.create(t, "/compute/v2.1/servers", "server", w.serverBody("traced", network, ""), "Traceparent: 00-"+trace+"-00f067aa0ba902b7-01")
		w.awaitServer(t, id)
		mu.Lock()
		if !slices.ContainsFunc(told, func(s string) bool {
			return strings.Contains(s, "/servers 00-"+trace+"-") && strings.HasSuffix(s, "-01")
		}) {
			t.Errorf("%s: the site was told %q", name, told)
		}
		mu.Unlock()
		w.Stop()
	}

	topproc.Await(t, "the spans", func(context.Context) bool {
		got.mu.Lock()
		defer got.mu.Unlock()
		return len(got.spans) > 0
	})
	got.mu.Lock()
	defer got.mu.Unlock()
	byID, names := map[string]*tracepb.Span{}, map[string]int{}
	for _, s := range got.spans {
		byID[string(s.SpanId)] = s
	}
	for _, s := range got.spans {
		names[s.Name]++
		if s.Name != "POST east" {
			continue
		}
		// Up from the call: the job, what made the job, and so on to the client's own span.
		var path []string
		for at := s; at != nil; at = byID[string(at.ParentSpanId)] {
			path = append(path, at.Name)
		}
		if last := path[len(path)-1]; !strings.HasPrefix(last, "POST /") && !strings.HasPrefix(last, "PUT /") && !strings.HasPrefix(last, "job ") {
			t.Errorf("a call to the site is below %v", path)
		}
	}
	if names["POST /compute/v2.1/servers"] != 1 || names["POST east"] == 0 || names["GET /healthz"] != 0 {
		t.Errorf("spans %v", names)
	}
}
