package openstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// maxErrorBody is how much of a failure's body is read: gophercloud reads it whole into memory.
const maxErrorBody = 64 << 10

// NewTransport returns a transport that trusts what the credential says
// (CACert, Insecure). It may be shared by adaptors of one site.
func NewTransport(cred sites.Credential) (http.RoundTripper, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cred.Insecure} //nolint:gosec // the operator's explicit choice, warned about by Probe
	if cred.CACert != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(cred.CACert)) {
			return nil, fault.New(fault.BadRequest, "sites/openstack.NewTransport", "cacert holds no PEM certificate")
		}
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 32,
		// Shorter than the keep-alive time-outs usual on the other side (Apache 5 s is the exception; a
		// connection that the server closed first costs a POST its certainty).
		IdleConnTimeout: 4 * time.Second,
	}, nil
}

// sized is a request body whose length is known though net/http cannot see it.
type sized interface{ size() int64 }

// meteredTransport measures the site's clock from Date headers, bounds the
// bodies of failures and tells net/http the length of sized bodies.
type meteredTransport struct {
	inner http.RoundTripper
	meter *skewMeter
	now   func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *meteredTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if s, ok := r.Body.(sized); ok && s.size() >= 0 {
		r = r.Clone(r.Context())
		r.ContentLength = s.size()
		if r.ContentLength == 0 {
			r.Body = http.NoBody
		}
	}
	// After this process stood still (a paused virtual machine), the timer that ends the context may run later than
	// we do. What is sent now would reach the site when another replica has done the same long ago.
	if by, ok := r.Context().Deadline(); ok && !time.Now().Before(by) {
		if r.Body != nil {
			_ = r.Body.Close() // RoundTrip's duty, also on errors
		}
		return nil, context.DeadlineExceeded
	}
	began := t.now()
	resp, err := t.inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.meter.observe(resp.Header.Get("Date"), began, t.now())
	if resp.StatusCode >= 400 {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
	}
	return resp, nil
}

// skewMeter keeps the best estimate of a site's clock minus ours: that of the quickest answer.
type skewMeter struct {
	mu    sync.Mutex // guards the fields below
	skew  time.Duration
	trip  time.Duration
	since time.Time
	known bool
}

// skewMemory is after what time a quicker but older estimate gives way to a newer one.
const skewMemory = 5 * time.Minute

// observe takes the Date header of an answer to a request sent at began and answered at ended.
func (m *skewMeter) observe(date string, began, ended time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	trip := ended.Sub(began)
	if m.known && trip > m.trip && ended.Sub(m.since) < skewMemory {
		return
	}
	// Date is cut to the second: on average half a second too early.
	skew := at.Add(500 * time.Millisecond).Sub(began.Add(trip / 2))
	m.skew, m.trip, m.since, m.known = skew.Round(time.Second), trip, ended, true
}

// value returns the estimate, 0 before the first answer.
func (m *skewMeter) value() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skew
}

// sentState says how far a request got when its answer failed to come.
type sentState struct {
	connected atomic.Bool // a connection was in hand
	failed    atomic.Bool // writing the request to it ended in an error
}

// watch returns the trace that keeps the state.
func (s *sentState) watch() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		// Each attempt begins here; net/http makes a second one, of a call that may not be repeated, only when
		// the first wrote nothing to a connection that the site had closed.
		GetConn: func(string) {
			s.connected.Store(false)
			s.failed.Store(false)
		},
		GotConn:      func(httptrace.GotConnInfo) { s.connected.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) { s.failed.Store(info.Err != nil) },
	}
}

// never reports whether the site certainly did not get the whole request. A
// request cut off while it was being written counts as perhaps arrived: the
// writer may have finished just after the caller gave up.
func (s *sentState) never() bool { return !s.connected.Load() || s.failed.Load() }
