package compute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// Nova's oldest microversions still carry what other services took over long ago: images, volumes, snapshots, networks,
// floating IPs and security groups. Nova itself asks those services in the caller's name (nova/network/neutron.py,
// nova/image/glance.py, nova/volume/cinder.py) and so does Top: the request goes through Top's own front door, with the
// caller's token, so that each service's checks and rules hold.

const (
	lastProxy     = 35 // nova/api/openstack/api_version_request.py, MAX_PROXY_API_SUPPORT_VERSION
	lastImageMeta = 38 // MAX_IMAGE_META_PROXY_API_VERSION
	lastFloating  = 43 // the actions addFloatingIp and removeFloatingIp
)

// reply is a response that is kept.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *reply) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *reply) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *reply) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// elsewhere asks another service of Top as the caller does, at the same site when the request is pinned to one. A refusal
// comes back as the fault that Nova answers with.
func (k *call) elsewhere(method, path string, q url.Values, body any) (object, error) {
	raw, contentType := []byte(nil), "application/json"
	if body != nil {
		if list, patch := body.([]object); patch {
			contentType, body = "application/openstack-images-v2.1-json-patch", list
		}
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("ask %s: %w", path, err)
		}
	}
	asked := k.Request()
	if pin := k.caller.Pin; pin != "" {
		path = "/sites/" + string(pin) + path
	}
	r := asked.Clone(k.ctx())
	r.Method, r.Body, r.ContentLength = method, http.NoBody, int64(len(raw))
	r.URL = &url.URL{Scheme: asked.URL.Scheme, Host: asked.URL.Host, Path: path, RawQuery: q.Encode()}
	r.RequestURI = r.URL.RequestURI()
	r.Header = http.Header{
		"X-Auth-Token": asked.Header.Values("X-Auth-Token"), "X-Openstack-Request-Id": {k.caller.RequestID}, "Accept": {"application/json"},
	}
	if raw != nil {
		r.Body = readCloser{bytes.NewReader(raw)}
		r.Header.Set("Content-Type", contentType)
	}
	w := &reply{header: http.Header{}}
	k.Echo().ServeHTTP(w, r)
	if w.status >= http.StatusBadRequest {
		return nil, refusal(w.status, w.body.Bytes())
	}
	out := object{}
	if w.body.Len() == 0 {
		return out, nil
	}
	if err := json.Unmarshal(w.body.Bytes(), &out); err != nil {
		return nil, fmt.Errorf("answer of %s %s: %w", method, path, err)
	}
	return out, nil
}

type readCloser struct{ *bytes.Reader }

// Close implements io.Closer.
func (readCloser) Close() error { return nil }

// refusal is another service's error in Nova's words: a quota there is Forbidden here, and Nova has no conflicts of
// theirs but a bad request.
func refusal(status int, body []byte) error {
	kinds := map[int]fault.Kind{
		http.StatusUnauthorized: fault.Unauthorized, http.StatusForbidden: fault.Forbidden, http.StatusNotFound: fault.NotFound,
		http.StatusRequestEntityTooLarge: fault.Forbidden, http.StatusNotImplemented: fault.NotImplemented, http.StatusServiceUnavailable: fault.Unavailable,
	}
	kind, ok := kinds[status]
	if !ok && status < http.StatusInternalServerError {
		kind = fault.BadRequest
	}
	text := message(body)
	if status == http.StatusConflict && strings.HasPrefix(text, "Quota exceeded") {
		kind = fault.Forbidden
	}
	return fault.New(kind, "top/compute.elsewhere", "%s", text)
}

// message finds the sentence in an error of any service: {"NeutronError":{"message":...}} and its like, or Glance's page.
func message(body []byte) string {
	var m map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &m) == nil {
		for _, inner := range m {
			return inner.Message
		}
	}
	_, text, _ := strings.Cut(string(body), "</h1>")
	text, _, _ = strings.Cut(text, "<br")
	return strings.TrimSpace(text)
}

// one asks for one thing and returns what stands under its name.
func (k *call) one(method, path, name string, body any) (object, error) {
	got, err := k.elsewhere(method, path, nil, body)
	if err != nil {
		return nil, err
	}
	out, _ := got[name].(object)
	return out, nil
}

// many asks for a list.
func (k *call) many(path, name string, q url.Values) ([]object, error) {
	got, err := k.elsewhere(http.MethodGet, path, q, nil)
	if err != nil {
		return nil, err
	}
	items, _ := got[name].([]any)
	out := make([]object, 0, len(items))
	for _, item := range items {
		if o, ok := item.(object); ok {
			out = append(out, o)
		}
	}
	return out, nil
}

// cut is the part of a list that limit and offset ask for, as the old proxies page.
func cut[T any](k *call, list []T) ([]T, error) {
	p, err := k.page()
	if err != nil {
		return nil, err
	}
	offset := 0
	if text := k.QueryParam("offset"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &offset); err != nil || offset < 0 {
			return nil, wire.BadRequest("offset param must be an integer")
		}
	}
	list = list[min(offset, len(list)):]
	return list[:min(p.Limit, len(list))], nil
}

// each shows every item of a list.
func each(list []object, show func(object) object) []object {
	out := make([]object, 0, len(list))
	for _, o := range list {
		out = append(out, show(o))
	}
	return out
}
