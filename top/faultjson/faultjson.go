// Package faultjson turns a fault into the bytes that the clients of one
// service understand. It is the only place where a fault.Kind becomes an HTTP
// status, and it promises that an Internal fault shows nothing but the request
// id, whatever its text holds.
package faultjson

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Dialect names the service whose clients read the answer.
type Dialect string

// The dialects.
const (
	Compute     Dialect = "compute"      // Nova: {"itemNotFound": {"code", "message"}}
	Volume      Dialect = "volume"       // Cinder: as Nova's, but over quota is 413
	Network     Dialect = "network"      // Neutron: {"NeutronError": {"type", "message", "detail"}}
	Identity    Dialect = "identity"     // Keystone: {"error": {"code", "title", "message"}}
	Image       Dialect = "image"        // Glance: a page of HTML, whose tags the SDK strips
	DataProtect Dialect = "data-protect" // Karbor: as Nova's
	Operator    Dialect = "operator"     // ours, /v1: RFC 9457 problem details
)

// Dialects returns every dialect, for tests.
func Dialects() []Dialect {
	return []Dialect{Compute, Volume, Network, Identity, Image, DataProtect, Operator}
}

// Asked is what the answer to a failed request needs to know of the request.
type Asked struct {
	Service Dialect
	// RequestID is the "req-..." id of the request, shown where the fault itself may not be.
	RequestID string
	// AuthURL is the identity endpoint that a 401 names, ".../identity/v3"; "" leaves the header out.
	AuthURL string
}

// NeutronTyper is what an error may add so that Neutron's clients see the
// exception that they look for ("NetworkInUse", "IpAddressInUse") instead of
// its kind's general name. It is found with errors.As anywhere in the chain.
type NeutronTyper interface {
	error
	NeutronType() string
}

// Reply is a whole answer. Its owner is the caller.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// Typed returns err with the Neutron exception name that it shall show; see NeutronTyper. A nil err stays nil.
func Typed(neutronType string, err error) error {
	if err == nil {
		return nil
	}
	return &typed{neutronType, err}
}

type typed struct {
	name string
	err  error
}

func (t *typed) Error() string       { return t.err.Error() }
func (t *typed) Unwrap() error       { return t.err }
func (t *typed) NeutronType() string { return t.name }

// retryAfter is the delay in seconds that a 503 names when nobody knows better:
// twice the interval at which a site's health is looked at, so that one more look has been had.
const retryAfter = 10

// Render returns the answer to a request that failed with err, which must not be nil.
func Render(asked Asked, err error) Reply {
	kind := fault.KindOf(err)
	status := statusOf(asked.Service, kind)
	r := RenderStatus(asked, status, message(asked, kind, err), neutronType(kind, err))
	switch status {
	case http.StatusServiceUnavailable:
		r.Header.Set("Retry-After", strconv.Itoa(delay(err)))
	case http.StatusUnauthorized:
		if asked.AuthURL != "" {
			r.Header.Set("WWW-Authenticate", `Keystone uri="`+asked.AuthURL+`"`)
		}
	}
	return r
}

// RenderStatus returns an answer for what no fault.Kind says: a path or method
// that does not exist, a media type that is not taken. The type is Neutron's
// exception name; "" makes one from the status.
func RenderStatus(asked Asked, status int, text, neutron string) Reply {
	if neutron == "" {
		neutron = "HTTP" + strings.ReplaceAll(http.StatusText(status), " ", "")
	}
	form := forms[asked.Service]
	if form.render == nil {
		form = forms[Compute]
	}
	if status == http.StatusUnauthorized && form.middleware {
		form = forms[Identity]
	}
	h := http.Header{}
	h.Set("Content-Type", form.contentType)
	return Reply{Status: status, Header: h, Body: form.render(answer{asked, status, text, neutron})}
}

// Write renders err and sends it. The status has then been written.
func Write(w http.ResponseWriter, asked Asked, err error) {
	Render(asked, err).WriteTo(w)
}

// WriteTo sends the reply. What the connection says to it is lost on purpose: the client has gone.
func (r Reply) WriteTo(w http.ResponseWriter) {
	for k, v := range r.Header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(r.Body)))
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body)
}

// statuses is the status of each kind, unless an exception says otherwise.
var statuses = map[fault.Kind]int{
	fault.Internal:       http.StatusInternalServerError,
	fault.BadRequest:     http.StatusBadRequest,
	fault.Unauthorized:   http.StatusUnauthorized,
	fault.Forbidden:      http.StatusForbidden,
	fault.NotFound:       http.StatusNotFound,
	fault.Conflict:       http.StatusConflict,
	fault.OverQuota:      http.StatusForbidden, // nova, keystone
	fault.TooLarge:       http.StatusRequestEntityTooLarge,
	fault.NotAcceptable:  http.StatusNotAcceptable,
	fault.NotImplemented: http.StatusNotImplemented,
	fault.Unavailable:    http.StatusServiceUnavailable,
	// The client is told to come back, because it may not repeat: the request's job finishes or undoes the call.
	fault.Ambiguous: http.StatusServiceUnavailable,
}

// overQuota is the status of OverQuota where it is not 403: cinder and glance say 413, neutron 409.
var overQuota = map[Dialect]int{
	Volume:  http.StatusRequestEntityTooLarge,
	Image:   http.StatusRequestEntityTooLarge,
	Network: http.StatusConflict,
}

// statusOf is the HTTP status with which the service answers a fault of the kind.
func statusOf(service Dialect, kind fault.Kind) int {
	if status := overQuota[service]; kind == fault.OverQuota && status != 0 {
		return status
	}
	if status := statuses[kind]; status != 0 {
		return status
	}
	return http.StatusInternalServerError
}

// message returns the sentence for the tenant. A fault of a site names the site.
func message(asked Asked, kind fault.Kind, err error) string {
	if kind == fault.Internal {
		id := asked.RequestID
		if id == "" {
			id = "unknown"
		}
		return "The service failed to serve the request. Its operator finds the cause under the request id " + id + "."
	}
	text := fault.Message(err)
	if text == "" || text == kind.String() {
		text = plain[kind]
	}
	var e *fault.Error
	if errors.As(err, &e) && e.Site != "" && !strings.Contains(text, e.Site) {
		text = "site " + e.Site + ": " + text
	}
	return text
}

// plain is the sentence of a fault that brings none.
var plain = map[fault.Kind]string{
	fault.BadRequest:     "The request cannot be served as it is written.",
	fault.Unauthorized:   "The request you have made requires authentication.", // keystonemiddleware's words
	fault.Forbidden:      "You are not authorized to perform the requested action.",
	fault.NotFound:       "The resource could not be found.",
	fault.Conflict:       "The state of the resource forbids the request.",
	fault.OverQuota:      "A quota of the project would be exceeded.",
	fault.TooLarge:       "The body of the request is too large.",
	fault.NotAcceptable:  "The version that was asked for is not supported.",
	fault.NotImplemented: "The request is not offered here.",
	fault.Unavailable:    "The service cannot serve the request now; try again later.",
	fault.Ambiguous:      "It is not known whether the request was carried out; look before repeating it.",
}

func delay(err error) int {
	var e *fault.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return retryAfter
}

// neutronTypes are the exception names of neutron_lib that stand for a kind as a whole.
var neutronTypes = map[fault.Kind]string{
	fault.BadRequest:  "BadRequest",
	fault.Forbidden:   "PolicyNotAuthorized",
	fault.NotFound:    "HTTPNotFound", // what Neutron says of a path that no extension has; a missing resource has a name of its own
	fault.Conflict:    "Conflict",
	fault.OverQuota:   "OverQuota",
	fault.Unavailable: "ServiceUnavailable",
	fault.Ambiguous:   "ServiceUnavailable",
}

func neutronType(kind fault.Kind, err error) string {
	var t NeutronTyper
	if kind != fault.Internal && errors.As(err, &t) {
		return t.NeutronType()
	}
	return neutronTypes[kind]
}
