package trace

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/headwater-cloud/headwater/sites/ident"
)

const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
)

// keeper keeps spans after Close, which empties tracetest's own exporter.
type keeper struct{ spans tracetest.SpanStubs }

func (k *keeper) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	k.spans = append(k.spans, tracetest.SpanStubsFromReadOnlySpans(spans)...)
	return nil
}

func (k *keeper) Shutdown(context.Context) error { return nil }

// A request of a client that traces, the job it makes, and that job's call to a site are one trace, each below the one before.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	var kept keeper
	tr := newTracer(&kept, 0, "1") // the client's decision wins over the sample
	var told []string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("Traceparent"))
		w.WriteHeader(http.StatusConflict)
	}))
	defer site.Close()
	client := http.Client{Transport: tr.Transport("east", http.DefaultTransport)}
	call := func(ctx context.Context) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, site.URL+"/servers?name=private", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}

	ctx, endRequest := tr.Requests()(ident.WithTrace(t.Context(), "00-"+clientTrace+"-"+clientSpan+"-01"))
	row := ident.Trace(ctx) // what a job's row keeps
	endRequest("POST /servers", "", slog.Int("http.response.status_code", 202))
	ctx, endJob := tr.Jobs()(ident.WithTrace(t.Context(), row))
	call(ctx)
	endJob("job compute.create", "no host", slog.String("headwater.site", "east"), slog.String("headwater.project_id", ""))
	call(t.Context()) // a poll
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	if len(kept.spans) != 3 {
		t.Fatalf("%d spans, want request, call and job", len(kept.spans))
	}
	request, down, job := kept.spans[0], kept.spans[1], kept.spans[2]
	for _, s := range kept.spans {
		if s.SpanContext.TraceID().String() != clientTrace {
			t.Errorf("%s is in trace %s", s.Name, s.SpanContext.TraceID())
		}
	}
	if request.Parent.SpanID().String() != clientSpan || job.Parent.SpanID() != request.SpanContext.SpanID() || down.Parent.SpanID() != job.SpanContext.SpanID() {
		t.Errorf("parents: %s of the request, %s of the job, %s of the call", request.Parent.SpanID(), job.Parent.SpanID(), down.Parent.SpanID())
	}
	if len(told) != 2 || told[0] != traceparent(down.SpanContext) || told[1] != "" {
		t.Errorf("the site was told %q", told)
	}
	if job.Status.Code != codes.Error || down.Status.Code != codes.Error || request.Status.Code == codes.Error || job.Name != "job compute.create" {
		t.Errorf("job %s %+v, call %+v, request %+v", job.Name, job.Status, down.Status, request.Status)
	}
	for _, s := range kept.spans {
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "private") || a.Value.String() == "" {
				t.Errorf("%s has %s = %q", s.Name, a.Key, a.Value.String())
			}
		}
	}
}

// A client that says not to sample is obeyed, and the site is told so; of traces that begin here only the share is kept.
func TestSampling(t *testing.T) {
	t.Parallel()
	var kept keeper
	tr := newTracer(&kept, 0, "1")
	ctx, end := tr.Requests()(t.Context())
	end("GET /", "")
	if !strings.HasSuffix(ident.Trace(ctx), "-00") {
		t.Errorf("not sampled, and the trace goes on as %s", ident.Trace(ctx))
	}
	all := newTracer(&kept, 1, "1")
	_, end = all.Requests()(ident.WithTrace(t.Context(), "00-"+clientTrace+"-"+clientSpan+"-00"))
	end("GET /", "")
	if err := errors.Join(tr.Close(t.Context()), all.Close(t.Context())); err != nil || len(kept.spans) != 0 {
		t.Errorf("%d spans %v", len(kept.spans), err)
	}
}

// Being off is nil all through.
func TestOff(t *testing.T) {
	t.Parallel()
	tr, err := New(t.Context(), Config{Sample: 1}, "1", slog.New(slog.DiscardHandler))
	if err != nil || tr != nil || tr.Requests() != nil || tr.Jobs() != nil || tr.Transport("east", http.DefaultTransport) != http.DefaultTransport || tr.Close(t.Context()) != nil {
		t.Errorf("off is %v %v", tr, err)
	}
}

// A collector that refuses costs a line in the log, one that hangs no more than the time to flush.
func TestNoCollector(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	for name, answer := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"hangs":   func(http.ResponseWriter, *http.Request) { <-hang },
	} {
		collector := httptest.NewServer(answer)
		defer collector.Close()
		var log bytes.Buffer
		tr, err := New(t.Context(), Config{Endpoint: collector.URL, Sample: 1}, "1", slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		_, end := tr.Requests()(t.Context())
		end("GET /", "")
		began := time.Now()
		err = tr.Close(t.Context())
		if took := time.Since(began); took > flushTime+5*time.Second {
			t.Errorf("%s: closing took %v", name, took)
		}
		if err == nil && !strings.Contains(log.String(), "spans cannot be sent") {
			t.Errorf("%s: the log says %q", name, log.String())
		}
	}
	close(hang)
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Endpoint: "localhost:4318"}, {Endpoint: "grpc://x"}, {Endpoint: "http://"}, {Sample: 1.1}, {Sample: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if err := (Config{Endpoint: "https://collector:4318/otlp", Sample: 0.5}).Validate(); err != nil {
		t.Error(err)
	}
}
