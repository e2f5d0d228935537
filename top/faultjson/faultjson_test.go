package faultjson

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every dialect and kind has a golden file that holds the whole answer.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, d := range Dialects() {
		for _, k := range fault.Kinds() {
			name := string(d) + "-" + strings.ReplaceAll(k.String(), " ", "-") + ".golden"
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				asked := Asked{Service: d, RequestID: "req-1", AuthURL: "http://top/identity/v3"}
				err := fmt.Errorf("show thing: %w", fault.New(k, "top.show", "thing <%s> & more", k))
				compare(t, name, text(Render(asked, err)))
			})
		}
	}
}

func text(r Reply) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", r.Status, http.StatusText(r.Status))
	keys := make([]string, 0, len(r.Header))
	for k := range r.Header {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "%s: %s\n", k, r.Header.Get(k))
	}
	return b.String() + "\n" + string(r.Body) + "\n"
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestInternalShowsNothing(t *testing.T) {
	t.Parallel()
	secret := errors.New("pq: password hunter2")
	for _, err := range []error{
		secret,
		fault.Wrap(fault.Internal, "x", secret),
		Typed("hunter2", secret),
		&fault.Error{Kind: fault.Internal, Site: "hunter2", Msg: "hunter2"},
		fault.Wrap(fault.Internal, "x", fault.New(fault.NotFound, "y", "hunter2")),
	} {
		for _, d := range Dialects() {
			r := Render(Asked{Service: d, RequestID: "req-9"}, err)
			if r.Status != http.StatusInternalServerError || strings.Contains(string(r.Body), "hunter2") {
				t.Errorf("%s of %v: %d %s", d, err, r.Status, r.Body)
			}
			if !strings.Contains(string(r.Body), "req-9") {
				t.Errorf("%s: no request id in %s", d, r.Body)
			}
		}
	}
}

func TestNeutronType(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("delete network: %w", Typed("NetworkInUse", fault.New(fault.Conflict, "x", "ports are there")))
	r := Render(Asked{Service: Network}, err)
	var body map[string]map[string]string
	if e := json.Unmarshal(r.Body, &body); e != nil {
		t.Fatal(e)
	}
	if got := body["NeutronError"]["type"]; got != "NetworkInUse" || r.Status != http.StatusConflict {
		t.Errorf("got type %q status %d, want NetworkInUse 409", got, r.Status)
	}
	if Typed("NetworkInUse", nil) != nil {
		t.Error("Typed makes an error of nil")
	}
}

func TestSiteAndDelay(t *testing.T) {
	t.Parallel()
	err := &fault.Error{Kind: fault.Unavailable, Site: "east", RetryAfter: 42, Err: errors.New("connection refused")}
	r := Render(Asked{Service: Compute}, err)
	if got := r.Header.Get("Retry-After"); got != "42" {
		t.Errorf("Retry-After %q, want the site's own 42", got)
	}
	if !strings.Contains(string(r.Body), "site east: connection refused") {
		t.Errorf("body %s does not name the site", r.Body)
	}
}

func TestRenderStatus(t *testing.T) {
	t.Parallel()
	for d, want := range map[Dialect]string{
		Compute: `{"badMethod":{"code":405,"message":"no"}}`,
		Network: `{"NeutronError":{"type":"HTTPMethodNotAllowed","message":"no","detail":""}}`,
		"other": `{"badMethod":{"code":405,"message":"no"}}`,
	} {
		if got := string(RenderStatus(Asked{Service: d}, 405, "no", "").Body); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Write(w, Asked{Service: Identity, AuthURL: "http://top/identity/v3"}, fault.New(fault.Unauthorized, "x", ""))
	if w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Keystone uri="http://top/identity/v3"` {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	if want := `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}`; w.Body.String() != want {
		t.Errorf("got %s, want %s", w.Body, want)
	}
}
