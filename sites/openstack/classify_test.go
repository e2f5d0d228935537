package openstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// The bodies are what real Zed services sent, but for Nova's and Glance's of old.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const get, post = http.MethodGet, http.MethodPost
	for _, tt := range []struct {
		name   string
		method string
		status int
		body   string
		want   fault.Kind
		msg    string // part of the message
	}{
		{"nova 400", post, 400, `{"badRequest": {"code": 400, "message": "Invalid flavorRef provided."}}`, fault.BadRequest, "Invalid flavorRef provided."},
		{"nova 403 policy", post, 403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}`, fault.Forbidden, "Policy doesn't allow"},
		{"nova 403 quota", post, 403, `{"forbidden": {"code": 403, "message": "Quota exceeded for cores: Requested 4, but already used 18 of 20 cores"}}`, fault.OverQuota, "Quota exceeded for cores"},
		{"nova 403 keypairs", post, 403, `{"forbidden": {"code": 403, "message": "Quota exceeded, too many key pairs."}}`, fault.OverQuota, "too many key pairs"},
		{"nova 403 metadata", post, 403, `{"forbidden": {"code": 403, "message": "Maximum number of metadata items exceeds 128"}}`, fault.OverQuota, "128"},
		{"nova 404", get, 404, `{"itemNotFound": {"code": 404, "message": "Instance 7 could not be found."}}`, fault.NotFound, "Instance 7"},
		{"nova 406", get, 406, `{"computeFault": {"code": 406, "message": "Version 2.99 is not supported by the API. Minimum is 2.1 and maximum is 2.93."}}`, fault.NotAcceptable, "2.99"},
		{"nova 409", post, 409, `{"conflictingRequest": {"code": 409, "message": "Cannot 'pause' instance 7 while it is in vm_state stopped"}}`, fault.Conflict, "while it is in vm_state"},
		{"nova 413 of old", post, 413, `{"overLimit": {"code": 413, "message": "This request was rate-limited.", "retryAfter": "3"}}`, fault.TooLarge, "rate-limited"},
		{"nova 500", post, 500, `{"computeFault": {"code": 500, "message": "Unexpected API Error. <class 'oslo_db.exception.DBDeadlock'>"}}`, fault.Ambiguous, "may or may not"},
		{"nova 500 on a read", get, 500, `{"computeFault": {"code": 500, "message": "Unexpected API Error."}}`, fault.Unavailable, "cannot serve"},
		{"neutron 400", post, 400, `{"NeutronError": {"type": "HTTPBadRequest", "message": "Invalid input for cidr.", "detail": ""}}`, fault.BadRequest, "Invalid input for cidr."},
		{"neutron 404", get, 404, `{"NeutronError": {"type": "NetworkNotFound", "message": "Network 7 could not be found.", "detail": ""}}`, fault.NotFound, "Network 7"},
		{"neutron 409 quota", post, 409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['network'].", "detail": ""}}`, fault.OverQuota, "Quota exceeded"},
		{"neutron 409 in use", post, 409, `{"NeutronError": {"type": "NetworkInUse", "message": "Unable to complete operation on network 7. There are one or more ports still in use on the network.", "detail": ""}}`, fault.Conflict, "still in use"},
		{"neutron 409 addresses", post, 409, `{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network 7.", "detail": ""}}`, fault.Conflict, "No more IP addresses"},
		{"neutron error as text", post, 400, `{"NeutronError": "bad"}`, fault.BadRequest, "bad"},
		{"cinder 400", post, 400, `{"badRequest": {"code": 400, "message": "Invalid volume: Volume status must be available."}}`, fault.BadRequest, "must be available"},
		{"cinder 413 volumes", post, 413, `{"overLimit": {"code": 413, "message": "Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", "retryAfter": "0"}}`, fault.OverQuota, "quota 'volumes'"},
		{"cinder 413 gigabytes", post, 413, `{"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 5G, quota is 4G and 0G has been consumed.", "retryAfter": "0"}}`, fault.OverQuota, "gigabytes quota"},
		{"glance 404 json", get, 404, `{"message": "No image found with ID 7<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found"}`, fault.NotFound, "No image found with ID 7"},
		{"glance 409 html", post, 409, "<html>\n <head>\n  <title>409 Conflict</title>\n </head>\n <body>\n  <h1>409 Conflict</h1>\n  Image status transition from active to saving is not allowed<br /><br />\n </body>\n</html>", fault.Conflict, "409 Conflict Image status transition from active to saving is not allowed"},
		{"glance 413 quota", post, 413, `{"message": "Denying attempt to upload image because it exceeds the quota: 5", "code": "413", "title": "x"}`, fault.OverQuota, "exceeds the quota"},
		{"glance 413 unified limits", post, 413, `{"message": "Project p is over limit for [image_size_total: 10]", "code": "413"}`, fault.OverQuota, "over limit"},
		{"glance 413 size", post, 413, `{"message": "The provided image is too large.", "code": "413"}`, fault.TooLarge, "too large"},
		{"glance 415", post, 415, `{"message": "unsupported"}`, fault.BadRequest, "unsupported"},
		{"keystone 403", get, 403, `{"error": {"code": 403, "message": "You are not authorized to perform the requested action: identity:list_projects.", "title": "Forbidden"}}`, fault.Forbidden, "list_projects"},
		{"keystone 409", post, 409, `{"error": {"code": 409, "message": "Conflict occurred attempting to store user - Duplicate entry found with name x.", "title": "Conflict"}}`, fault.Conflict, "Duplicate entry"},
		{"placement 404", get, 404, `{"errors": [{"status": 404, "title": "Not Found", "detail": "The resource could not be found.\n\n No resource provider with uuid 7", "code": "placement.undefined_code"}]}`, fault.NotFound, "No resource provider"},
		{"405", post, 405, ``, fault.NotImplemented, "does not offer"},
		{"408", post, 408, ``, fault.Unavailable, "cannot serve"},
		{"410", get, 410, ``, fault.NotFound, "no such thing"},
		{"412", post, 412, `{"NeutronError": {"type": "RevisionNumberConstraintFailed", "message": "Constrained to 1, but current revision is 2", "detail": ""}}`, fault.Conflict, "Constrained"},
		{"423", post, 423, ``, fault.Conflict, "forbids"},
		{"429", post, 429, `Too many`, fault.Unavailable, "Too many"},
		{"498", post, 498, ``, fault.Unavailable, "cannot serve"},
		{"501", post, 501, ``, fault.NotImplemented, "does not offer"},
		{"502 read", get, 502, `<html><body>Bad Gateway</body></html>`, fault.Unavailable, "cannot serve"},
		{"502 write", post, 502, `<html><body>Bad Gateway</body></html>`, fault.Ambiguous, "may or may not"},
		{"502 delete", http.MethodDelete, 502, ``, fault.Unavailable, "cannot serve"},
		{"502 put", http.MethodPut, 502, ``, fault.Unavailable, "cannot serve"},
		{"503", post, 503, `<html><body><h1>503 Service Unavailable</h1>No server is available</body></html>`, fault.Unavailable, "cannot serve"},
		{"504 read", get, 504, ``, fault.Unavailable, "cannot serve"},
		{"504 write", post, 504, ``, fault.Ambiguous, "may or may not"},
		{"599 write", post, 599, ``, fault.Ambiguous, "may or may not"},
		{"redirect", get, 302, ``, fault.BadRequest, "did not accept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Openstack-Request-Id", "req-7")
				w.Header().Set("Retry-After", "17")
				if tt.status == 413 {
					w.Header().Del("Retry-After")
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := f.adaptor(t).Do(t.Context(), sites.Request{Service: sites.Compute, Method: tt.method, Path: "x"})
			var e *fault.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a fault", err)
			}
			if e.Kind != tt.want || !strings.Contains(e.Msg, tt.msg) || e.Site != "east" || e.RequestID != "req-7" {
				t.Errorf("got %s %q of site %q with id %q; want %s with %q of east with req-7", e.Kind, e.Msg, e.Site, e.RequestID, tt.want, tt.msg)
			}
			if tt.status != 413 && e.RetryAfter != 17 {
				t.Errorf("retry after %d, want 17", e.RetryAfter)
			}
		})
	}
}

func TestOldRateLimitIsUnavailable(t *testing.T) {
	t.Parallel()
	o := outcome{status: 413, header: http.Header{"Retry-After": {"3"}}}
	if got := o.kindOf(complaint{kind: "overLimit", text: "This request was rate-limited."}); got != fault.Unavailable {
		t.Errorf("413 with Retry-After is %s, want unavailable", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]int{"": 0, "0": 0, "-4": 0, "12": 12, "99999999": 86400, "x": 0,
		now.Add(30 * time.Second).Format(http.TimeFormat): 31, now.Add(-time.Hour).Format(http.TimeFormat): 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("Retry-After %q: %d, want %d", text, got, want)
		}
	}
}

// What a tenant reads must not tell where the site is or hold a token.
func TestMessagesTellNoAddresses(t *testing.T) {
	t.Parallel()
	token := "gAAAAABnX0123456789abcdefghijklmnopqrstuvwxyz_-=="
	var host string
	f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"badRequest": {"message": "no answer from http://10.9.9.9:9292/v2/images/7?x=1 (HTTPConnectionPool(host='glance.inner', port=9292)) at %s with %s and token-1; address 10.0.0.5 is in use"}}`, host, token)
	})
	host = strings.TrimPrefix(f.URL, "http://")
	_, err := f.adaptor(t).Show(t.Context(), sites.Server, "7")
	got := fault.Message(err)
	for _, secret := range []string{"10.9.9.9", "glance.inner", host, "gAAAA", "token-1", "http:"} {
		if strings.Contains(got, secret) {
			t.Errorf("the message tells %q: %s", secret, got)
		}
	}
	if !strings.Contains(got, "10.0.0.5 is in use") {
		t.Errorf("the message lost the tenant's own address: %s", got)
	}
}

// lines is a server that reads whole requests and answers them with raw bytes, or not at all.
func lines(t *testing.T, answer func(net.Conn, *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				answer(conn, r)
			}
			_ = conn.Close()
		}
	})
	return "http://" + l.Addr().String()
}

// reset makes the peer see "connection reset".
func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	read := func(a *Adaptor) error { _, err := a.Show(t.Context(), sites.Server, "7"); return err }
	write := func(a *Adaptor) error {
		_, err := a.Create(t.Context(), sites.Keypair, sites.Body{"name": "k"}, sites.CreateOptions{})
		return err
	}
	remove := func(a *Adaptor) error { return a.Delete(t.Context(), sites.Server, "7") }
	action := func(a *Adaptor) error {
		_, err := a.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "servers/7/action", Body: sites.Body{"x": 1}})
		return err
	}
	repeatable := func(a *Adaptor) error {
		_, err := a.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: "x", Body: sites.Body{"x": 1}, Idempotent: true})
		return err
	}
	for _, tt := range []struct {
		name   string
		answer func(net.Conn, *http.Request) // nil: nobody listens
		call   func(*Adaptor) error
		want   fault.Kind
	}{
		{"refused read", nil, read, fault.Unavailable},
		{"refused write: nothing was sent", nil, write, fault.Unavailable},
		{"reset read", func(c net.Conn, _ *http.Request) { reset(c) }, read, fault.Unavailable},
		{"reset write", func(c net.Conn, _ *http.Request) { reset(c) }, write, fault.Ambiguous},
		{"closed write", func(net.Conn, *http.Request) {}, action, fault.Ambiguous},
		{"closed write that may be repeated", func(net.Conn, *http.Request) {}, repeatable, fault.Unavailable},
		{"closed delete", func(net.Conn, *http.Request) {}, remove, fault.Unavailable},
		{"no HTTP", func(c net.Conn, _ *http.Request) { fmt.Fprint(c, "SSH-2.0-x\r\n") }, write, fault.Ambiguous},
		{"answer cut off, read", cutOff, read, fault.Unavailable},
		{"answer cut off, write", cutOff, write, fault.Ambiguous},
		{"answer is no JSON, write", plain("{nonsense"), write, fault.Ambiguous},
		{"answer is no JSON, read", plain("{nonsense"), read, fault.Unavailable},
		{"answer lacks the resource", plain("{}"), write, fault.Ambiguous},
		{"answer's resource has no id", plain(`{"keypair": {}}`), write, fault.Ambiguous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compute := closed.URL
			if tt.answer != nil {
				compute = lines(t, tt.answer)
			}
			f := newFakeSite(t, nil)
			f.catalog = fmt.Sprintf(`[{"type": "compute", "endpoints": [{"interface": "public", "region": "r1", "url": %q}]}]`, compute+"/v2.1")
			a := f.adaptor(t)
			a.windows.set(sites.Compute, window{max: version{2, 93}, min: version{2, 1}})
			err := tt.call(a)
			if !fault.Is(err, tt.want) || strings.Contains(fault.Message(err), "127.0.0.1") || fault.Message(err) == "" {
				t.Errorf("got %v, message %q; want %s without an address", err, fault.Message(err), tt.want)
			}
		})
	}
}

func cutOff(c net.Conn, _ *http.Request) {
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"keypair\"")
}

func plain(body string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	a := f.adaptor(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
	if _, err := a.Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.windows.set(sites.Compute, window{max: version{2, 93}, min: version{2, 1}})
	_, err := a.Show(t.Context(), sites.Server, "7")
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "in time") {
		t.Errorf("a read: %v, want Unavailable, not in time", err)
	}
	_, err = a.Create(t.Context(), sites.Server, sites.Body{}, sites.CreateOptions{})
	if !fault.Is(err, fault.Ambiguous) || !strings.Contains(fault.Message(err), "in time") {
		t.Errorf("a write: %v, want Ambiguous, not in time", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = a.Create(ctx, sites.Server, sites.Body{}, sites.CreateOptions{}); !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a write that was cancelled before it began: %v, want Unavailable", err)
	}
}

func FuzzReadComplaint(f *testing.F) {
	for _, seed := range []string{`{"badRequest": {"message": "x"}}`, `{"NeutronError": {"type": "OverQuota", "message": "x", "detail": "y"}}`,
		`{"errors": [{"detail": "x"}]}`, `{"message": "x<br />"}`, "<html><head>y</head>x</html>", `{"error": {"title": "x"}}`, `{"errors": [3], "a": {"message": 4}}`, "\xff{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := readComplaint(body)
		if len(c.text) > maxMessage || strings.ContainsAny(c.text, "\n\x00") && !strings.Contains(string(body), "\x00") {
			t.Errorf("text of %d bytes: %q", len(c.text), c.text)
		}
		for _, status := range []int{400, 403, 409, 413, 500, 302} {
			_ = outcome{status: status, header: http.Header{}}.kindOf(c)
		}
		_ = censor(c.text, []string{"token"})
	})
}
