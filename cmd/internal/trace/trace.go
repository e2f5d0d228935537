// Package trace makes OpenTelemetry spans of requests, of attempts at jobs and
// of calls to sites, and sends them to a collector as OTLP over HTTP.
//
// It alone knows OpenTelemetry. The parts take plain functions from it, nil
// when tracing is off, so that being off costs them a comparison. What they hand
// on among each other is the W3C traceparent in the context (ident.Trace).
package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Config says whether and where spans go.
type Config struct {
	// Endpoint is the collector's OTLP over HTTP: http://localhost:4318, to which /v1/traces is added when the URL has no
	// path. "" turns tracing off.
	Endpoint string `yaml:"endpoint"`
	// Sample is the share of traces that begin here and are kept, in [0, 1]. What a client's traceparent says wins.
	Sample float64 `yaml:"sample"`
}

// Validate returns what is wrong with c, or nil.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "") {
		errs = append(errs, fmt.Errorf("tracing.endpoint %q: want http(s)://HOST[:PORT][/PATH]", c.Endpoint))
	}
	if !(c.Sample >= 0 && c.Sample <= 1) { //nolint:staticcheck // so that NaN is refused
		errs = append(errs, fmt.Errorf("tracing.sample %v: want 0 to 1", c.Sample))
	}
	return errors.Join(errs...)
}

// Tracer makes spans. A nil Tracer makes none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   otel.Tracer
}

// flushTime bounds how long Close waits for a collector.
const flushTime = 5 * time.Second

// New returns a Tracer, or nil when c turns tracing off. Headers for the collector (a token) come from the
// environment, OTEL_EXPORTER_OTLP_HEADERS. A collector that is away is a warning in the log, never a failure.
func New(ctx context.Context, c Config, version string, log *slog.Logger) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is one that is off
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("make the exporter of spans: %w", err)
	}
	return newTracer(&logged{SpanExporter: exporter, log: log}, c.Sample, version), nil
}

// newTracer returns a Tracer over any exporter.
func newTracer(exporter sdk.SpanExporter, sample float64, version string) *Tracer {
	p := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter), // drops spans when the collector is slow: tracing never makes Top wait
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(sample))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "headwater-top"), attribute.String("service.version", version))),
	)
	return &Tracer{provider: p, tracer: p.Tracer("github.com/headwater-cloud/headwater")}
}

// Close sends what is left, for at most five seconds also when ctx has ended.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// Start begins a span and returns a context that carries it, also as ident.Trace, and how to end it: with its name, why
// it failed ("" when it did not), and what else is to be known of it.
type Start = func(ctx context.Context) (context.Context, func(name, failure string, attrs ...slog.Attr))

// Requests begins the spans of requests that clients make; nil when t is.
func (t *Tracer) Requests() Start { return t.starter(otel.SpanKindServer) }

// Jobs begins the spans of attempts at jobs; nil when t is.
func (t *Tracer) Jobs() Start { return t.starter(otel.SpanKindConsumer) }

func (t *Tracer) starter(kind otel.SpanKind) Start {
	if t == nil {
		return nil
	}
	return func(ctx context.Context) (context.Context, func(name, failure string, attrs ...slog.Attr)) {
		ctx, span := t.tracer.Start(under(ctx), "unnamed", otel.WithSpanKind(kind))
		return ident.WithTrace(ctx, traceparent(span.SpanContext())), func(name, failure string, attrs ...slog.Attr) {
			if span.IsRecording() {
				span.SetName(name)
				span.SetAttributes(attributes(attrs)...)
				if failure != "" {
					span.SetStatus(codes.Error, failure)
				}
			}
			span.End()
		}
	}
}

// under returns a context whose parent span is what ident.Trace says: a client's, or the one that a job's row kept.
func under(ctx context.Context) context.Context {
	text := ident.Trace(ctx)
	if text == "" || text == traceparent(otel.SpanContextFromContext(ctx)) {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": text})
}

// traceparent is a span's place in W3C's form.
func traceparent(s otel.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags())
}

// attributes leaves out what is empty.
func attributes(list []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(list))
	for _, a := range list {
		switch v := a.Value; {
		case v.Kind() == slog.KindInt64:
			out = append(out, attribute.Int64(a.Key, v.Int64()))
		case v.String() != "":
			out = append(out, attribute.String(a.Key, v.String()))
		}
	}
	return out
}

// logged is an exporter whose failures go to the log, once until it works again, instead of OpenTelemetry's global handler.
type logged struct {
	sdk.SpanExporter
	log  *slog.Logger
	away atomic.Bool
}

// ExportSpans sends spans; those that cannot be sent are lost.
func (l *logged) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := l.SpanExporter.ExportSpans(ctx, spans)
	switch was := l.away.Swap(err != nil); {
	case err != nil && !was:
		l.log.WarnContext(ctx, "spans cannot be sent and are lost until this ends", "count", len(spans), "err", err)
	case err == nil && was:
		l.log.InfoContext(ctx, "spans are sent again")
	}
	return nil
}
