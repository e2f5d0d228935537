package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// InProcess returns a transport that has each request answered by h in this
// process, with all of h's middleware and without a connection. The answer is
// held in memory as a whole.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(out *http.Request) (resp *http.Response, err error) {
	in := out.Clone(out.Context())
	in.RequestURI = in.URL.RequestURI()
	in.Host = in.URL.Host
	in.RemoteAddr = remoteAddr(out.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer func() {
		if p := recover(); p != nil { // as a connection that is cut
			resp, err = nil, fmt.Errorf("%s %s: the handler panicked: %v", out.Method, out.URL.Path, p)
		}
	}()
	w := &recorder{header: http.Header{}}
	t.handler.ServeHTTP(w, in)
	if in.Body != nil {
		_ = in.Body.Close() // as RoundTripper demands; a reader of memory cannot fail
	}
	if err := out.Context().Err(); err != nil {
		return nil, err
	}
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.code, http.StatusText(w.code)), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: out,
	}, nil
}

// recorder is the ResponseWriter of one exchange.
type recorder struct {
	header, sent http.Header
	code         int
	body         bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code, w.sent = code, w.header.Clone()
	}
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

type remoteKey struct{}

// withRemoteAddr keeps the browser's address for the API, which counts failed sign-ins by it.
func withRemoteAddr(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, remoteKey{}, addr)
}

func remoteAddr(ctx context.Context) string {
	addr, _ := ctx.Value(remoteKey{}).(string)
	return addr
}
