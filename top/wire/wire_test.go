package wire

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
)

func TestNegotiate(t *testing.T) {
	t.Parallel()
	d := Dialect{Name: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: Version{2, 1}, Max: Version{2, 93}}
	for _, tt := range []struct {
		name        string
		now, legacy string
		want        string
		kind        fault.Kind
	}{
		{name: "none is the oldest", want: "2.1"},
		{name: "given", now: "compute 2.53", want: "2.53"},
		{name: "among others", now: "volume 3.1, compute 2.60", want: "2.60"},
		{name: "another service's", now: "volume 3.1", want: "2.1"},
		{name: "latest", now: "compute latest", want: "2.93"},
		{name: "the older header", legacy: "2.7", want: "2.7"},
		{name: "the newer header wins", now: "compute 2.8", legacy: "2.7", want: "2.8"},
		{name: "too new", now: "compute 2.94", kind: fault.NotAcceptable},
		{name: "too old", now: "compute 1.1", kind: fault.NotAcceptable},
		{name: "no version", now: "compute x", kind: fault.BadRequest},
		{name: "leading zero", now: "compute 2.01", kind: fault.BadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("OpenStack-API-Version", tt.now)
			r.Header.Set("X-OpenStack-Nova-API-Version", tt.legacy)
			w := httptest.NewRecorder()
			v, err := d.Negotiate(echo.New().NewContext(r, w))
			if tt.kind != fault.Internal {
				if !fault.Is(err, tt.kind) {
					t.Fatalf("got %v, %v; want %v", v, err, tt.kind)
				}
				return
			}
			if err != nil || v.String() != tt.want {
				t.Fatalf("got %v, %v; want %s", v, err, tt.want)
			}
			if got := w.Header().Get("OpenStack-API-Version"); got != "compute "+tt.want {
				t.Errorf("answered with version %q, want compute %s", got, tt.want)
			}
			if got := w.Header().Values("Vary"); len(got) != 2 {
				t.Errorf("Vary: %v, want both headers", got)
			}
		})
	}
}

func TestParsePage(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{"": 1000, "limit=0": 0, "limit=7": 7, "limit=5000": 1000, "limit=99999999999999999999": 1000, "limit=-1": -1, "limit=x": -1, "limit=": -1} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePage(q)
		if want < 0 {
			if !fault.Is(err, fault.BadRequest) {
				t.Errorf("%q: %+v, %v; want a bad request", query, p, err)
			}
			continue
		}
		if err != nil || p.Limit != want {
			t.Errorf("%q: %+v, %v; want limit %d", query, p, err, want)
		}
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	var in struct {
		A, B Bool
		C, D Int
		E, F Optional[string]
	}
	if err := json.Unmarshal([]byte(`{"A":"True","B":0,"C":"12","D":-3,"E":null}`), &in); err != nil {
		t.Fatal(err)
	}
	if !bool(in.A) || bool(in.B) || in.C != 12 || in.D != -3 || !in.E.Set || in.E.Value != nil || in.F.Set {
		t.Errorf("read %+v", in)
	}
	for _, bad := range []string{`{"A":"perhaps"}`, `{"C":1.5}`, `{"C":"x"}`, `{"E":7}`} {
		if err := json.Unmarshal([]byte(bad), &in); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	at := time.Date(2026, 11, 21, 3, 4, 5, 6_000, time.UTC)
	if Time(at) != "2026-11-21T03:04:05Z" || Micros(at) != "2026-11-21T03:04:05.000006" || Time(time.Time{}) != "" || Micros(time.Time{}) != nil {
		t.Errorf("times: %s %v", Time(at), Micros(at))
	}
}
