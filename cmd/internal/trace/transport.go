package trace

import (
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Transport makes spans of the calls to a site that belong to a request or a job, and tells the site their place. Polls
// belong to neither. It returns inner itself when t is nil.
func (t *Tracer) Transport(site ident.SiteID, inner http.RoundTripper) http.RoundTripper {
	if t == nil {
		return inner
	}
	return &transport{t, site, inner}
}

type transport struct {
	*Tracer
	site  ident.SiteID
	inner http.RoundTripper
}

// RoundTrip makes one call. Its span ends when the answer begins.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !otel.SpanContextFromContext(r.Context()).IsValid() {
		return t.inner.RoundTrip(r)
	}
	ctx, span := t.tracer.Start(r.Context(), r.Method+" "+string(t.site), otel.WithSpanKind(otel.SpanKindClient), otel.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path), // no query: it may name what a tenant filters by
		attribute.String("server.address", r.URL.Host), attribute.String("headwater.site", string(t.site)),
	))
	defer span.End()
	r = r.Clone(ctx)
	r.Header.Set("Traceparent", traceparent(span.SpanContext()))
	resp, err := t.inner.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if id := resp.Header.Get("X-Openstack-Request-Id"); id != "" {
		span.SetAttributes(attribute.String("headwater.site_request_id", id))
	}
	if resp.StatusCode >= 400 {
		span.SetStatus(codes.Error, strconv.Itoa(resp.StatusCode))
	}
	return resp, nil
}
