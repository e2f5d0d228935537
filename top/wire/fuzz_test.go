package wire

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Whatever the headers say, the version is within the window or the request is refused, and the answer names a version of the window.
func FuzzNegotiate(f *testing.F) {
	for _, text := range []string{"compute 2.93", "compute latest", "volume 3.1, compute 2.5", "compute 2.0", "compute 02.1", "compute 2.99999999999999999999", "2.1", ",", "compute", "compute 2.-1"} {
		f.Add(text, text)
	}
	d := Dialect{Name: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: Version{2, 1}, Max: Version{2, 93}}
	f.Fuzz(func(t *testing.T, header, legacy string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = http.Header{"Openstack-Api-Version": {header}, "X-Openstack-Nova-Api-Version": {legacy}}
		w := httptest.NewRecorder()
		v, err := d.Negotiate(echo.New().NewContext(r, w))
		if err != nil && !fault.Is(err, fault.BadRequest) && !fault.Is(err, fault.NotAcceptable) {
			t.Errorf("%q and %q: %v", header, legacy, err)
		}
		if err == nil && (v.Major != 2 || v.Minor < 1 || v.Minor > 93) {
			t.Errorf("%q and %q: version %v", header, legacy, v)
		}
	})
}

// Whatever the query says, a page has a limit in its range or is refused.
func FuzzParsePage(f *testing.F) {
	for _, text := range []string{"limit=1&marker=x", "limit=", "limit=-1", "limit=99999999999999999999", "limit=1&limit=2", "%zz"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		p, err := ParsePage(q)
		if err == nil && (p.Limit < 0 || p.Limit > MaxLimit) || err != nil && !fault.Is(err, fault.BadRequest) {
			t.Errorf("%q: %+v %v", text, p, err)
		}
	})
}
