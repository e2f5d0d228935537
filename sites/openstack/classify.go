package openstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// outcome is what a refused or lost call is classified from.
type outcome struct {
	op         string
	status     int
	header     http.Header
	body       []byte
	idempotent bool
}

// statusKinds says what each status means for a call that may be repeated and
// for one that may not; what is absent goes by its hundred.
var statusKinds = map[int]struct{ idempotent, other fault.Kind }{
	http.StatusUnauthorized:          {fault.Unauthorized, fault.Unauthorized},
	http.StatusForbidden:             {fault.Forbidden, fault.Forbidden},
	http.StatusNotFound:              {fault.NotFound, fault.NotFound},
	http.StatusMethodNotAllowed:      {fault.NotImplemented, fault.NotImplemented},
	http.StatusNotAcceptable:         {fault.NotAcceptable, fault.NotAcceptable},
	http.StatusRequestTimeout:        {fault.Unavailable, fault.Unavailable}, // the server did not get the whole request
	http.StatusConflict:              {fault.Conflict, fault.Conflict},
	http.StatusGone:                  {fault.NotFound, fault.NotFound},
	http.StatusPreconditionFailed:    {fault.Conflict, fault.Conflict},
	http.StatusRequestEntityTooLarge: {fault.TooLarge, fault.TooLarge},
	http.StatusLocked:                {fault.Conflict, fault.Conflict},
	http.StatusTooManyRequests:       {fault.Unavailable, fault.Unavailable},
	498:                              {fault.Unavailable, fault.Unavailable}, // Swift's and some gateways' rate limit
	http.StatusNotImplemented:        {fault.NotImplemented, fault.NotImplemented},
	http.StatusServiceUnavailable:    {fault.Unavailable, fault.Unavailable},
}

var (
	quotaText = regexp.MustCompile(`(?i)\bquotas?\b|\bover limit\b|\blimit exceeded\b|\bexceeds allowed\b`)
	// quotaKinds are Neutron's exceptions that say so by type.
	quotaKinds = map[string]bool{"OverQuota": true, "QuotaExceeded": true}
)

// kindOf classifies a status with what the service said.
func (o outcome) kindOf(c complaint) fault.Kind {
	limited := o.header.Get("Retry-After") != "" && o.header.Get("Retry-After") != "0"
	switch o.status {
	case http.StatusConflict:
		if quotaKinds[c.kind] {
			return fault.OverQuota
		}
	case http.StatusForbidden:
		// Nova says 403 for a quota as for a policy; policies never speak of quotas being exceeded.
		if quotaText.MatchString(c.text) && strings.Contains(strings.ToLower(c.text), "exceed") || strings.Contains(c.text, "Maximum number of") {
			return fault.OverQuota
		}
	case http.StatusRequestEntityTooLarge:
		if quotaText.MatchString(c.text) {
			return fault.OverQuota
		}
		if limited { // Nova's rate limit of old
			return fault.Unavailable
		}
	}
	if k, ok := statusKinds[o.status]; ok {
		if o.idempotent {
			return k.idempotent
		}
		return k.other
	}
	switch {
	case o.status >= 500 && o.idempotent:
		return fault.Unavailable
	case o.status >= 500:
		return fault.Ambiguous
	default:
		return fault.BadRequest // 400, 415, 422 and the like; 3xx, which no API answers to a right request
	}
}

// defaultTexts serve where the service said nothing.
var defaultTexts = map[fault.Kind]string{
	fault.BadRequest:     "the site did not accept the request",
	fault.Unauthorized:   "the site refused the account's credential",
	fault.Forbidden:      "the site's policy does not allow it",
	fault.NotFound:       "there is no such thing at the site",
	fault.Conflict:       "the state of things at the site forbids it",
	fault.OverQuota:      "a quota at the site would be exceeded",
	fault.TooLarge:       "the request is too large for the site",
	fault.NotAcceptable:  "the site does not speak this version",
	fault.NotImplemented: "the site does not offer it",
	fault.Unavailable:    "the site cannot serve the request now",
	fault.Ambiguous:      "the site failed while it carried out the request, which may or may not be done",
}

// refused makes the fault of an answer that is no success.
func (a *Adaptor) refused(o outcome) *fault.Error {
	c := readComplaint(o.body)
	kind := o.kindOf(c)
	text := censor(c.text, a.session.private())
	if text == "" || o.status >= 500 {
		// What a broken service says is for its operator: it stands in the cause.
		text = defaultTexts[kind]
	}
	e := &fault.Error{Op: o.op, Site: string(a.site), Kind: kind, RequestID: requestID(o.header), Msg: text,
		RetryAfter: retryAfter(o.header, a.now()), Err: errors.New(o.line(c))}
	return e
}

// line is the cause for the log: the status and, of a failing service, its words.
func (o outcome) line(c complaint) string {
	line := "status " + strconv.Itoa(o.status)
	if c.kind != "" {
		line += " " + c.kind
	}
	if o.status >= 500 && c.text != "" {
		line += ": " + c.text
	}
	return line
}

func requestID(h http.Header) string {
	for _, name := range []string{"X-Openstack-Request-Id", "X-Compute-Request-Id"} {
		if id := h.Get(name); id != "" && len(id) <= 128 {
			return id
		}
	}
	return ""
}

// retryAfter reads a delay in seconds or a date; 0 when there is none.
func retryAfter(h http.Header, now time.Time) int {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return min(n, 86400)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(int(at.Sub(now).Seconds())+1, 86400)
	}
	return 0
}

// lost makes the fault of a call whose answer did not come.
func (a *Adaptor) lost(op string, sent *sentState, idempotent bool, err error) *fault.Error {
	e := &fault.Error{Op: op, Site: string(a.site), Kind: fault.Unavailable, Err: bareCause(err)}
	if !sent.never() && !idempotent {
		e.Kind = fault.Ambiguous
	}
	switch {
	case tlsReason(err) != "":
		e.Kind = fault.Unavailable // no request passes before the handshake
		e.Msg = "the secure connection to site " + string(a.site) + " could not be made"
	case timedOut(err):
		e.Msg = "site " + string(a.site) + " did not answer in time"
	default:
		e.Msg = "site " + string(a.site) + " does not answer"
	}
	if e.Kind == fault.Ambiguous {
		e.Msg += "; the request may or may not have been carried out"
	}
	return e
}

// bareCause takes the URL out of net/http's error: it may stand in a log that a tenant's report quotes.
func bareCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// tlsReason returns why a TLS handshake failed, or "" when it did not.
func tlsReason(err error) string {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		unknown      x509.UnknownAuthorityError
		host         x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return "the certificate is signed by an unknown authority: give its CA (cacert)"
	case errors.As(err, &host):
		return "the certificate is not for this host: " + host.Error()
	case errors.As(err, &invalid):
		return "the certificate is not valid: " + invalid.Error()
	case errors.As(err, &verification):
		return "the certificate cannot be verified: " + verification.Err.Error()
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &alert):
		return "it refused the handshake: " + alert.Error()
	case err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS" // net/http replaces the RecordHeaderError by this text
	case err != nil && strings.Contains(err.Error(), "TLS handshake timeout"):
		return "the handshake took too long"
	}
	return ""
}

// unreachable says for the operator what is wrong with an address.
func unreachable(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "the name " + dns.Name + " cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refuses connections"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to it"
	case timedOut(err):
		return "it does not answer in time"
	case errors.Is(err, syscall.ECONNRESET):
		return "it resets connections"
	case errors.Is(err, io.EOF):
		return "it closes connections without an answer, as a server without TLS does to https://"
	}
	return bareCause(err).Error()
}
