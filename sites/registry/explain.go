package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// explain turns a failed login or probe into a code and a sentence for the
// operator: the adaptor's own where it names the address, which it knows better.
func explain(err error, authURL string) (code, detail string) {
	code, detail = codeOf(err), describe(err)
	if why := tlsReason(err); why != "" && !strings.Contains(detail, "TLS") {
		detail = why
	}
	if strings.Contains(detail, "://") || code == CodeNoCompute || code == CodeNoService {
		return code, detail
	}
	switch code {
	case CodeTLS:
		return code, fmt.Sprintf("TLS failure at %s: %s", authURL, detail)
	case CodeUnauthorized:
		return code, fmt.Sprintf("%s refused the credential: %s (wrong user, password, domain or project)", authURL, detail)
	case CodeUnreachable:
		return code, fmt.Sprintf("%s does not answer: %s", authURL, netReason(err))
	}
	return code, fmt.Sprintf("%s: %s", authURL, detail)
}

// codeOf classifies a failed login or probe. The adaptor has one kind,
// BadRequest, for all that is wrong with a site: its words tell more.
func codeOf(err error) string {
	text := describe(err)
	switch {
	case tlsReason(err) != "" || strings.HasPrefix(text, "TLS failure"):
		return CodeTLS
	case strings.Contains(text, "no Keystone"):
		return CodeNoKeystone
	case strings.Contains(text, "no compute service"):
		return CodeNoCompute
	case strings.Contains(text, "catalog has no "):
		return CodeNoService
	case errors.Is(err, context.DeadlineExceeded):
		return CodeUnreachable
	}
	switch fault.KindOf(err) {
	case fault.Unauthorized:
		return CodeUnauthorized
	case fault.Unavailable, fault.Ambiguous, fault.NotFound:
		return CodeUnreachable
	}
	return CodeProbe
}

// tlsReason returns what is wrong with a site's TLS, or "" when err is about something else.
func tlsReason(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		return unknown.Error() + ": give its authority's certificate as cacert"
	case errors.As(err, &host):
		return host.Error()
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.As(err, &verify):
		return verify.Error()
	case errors.As(err, &record):
		return "it does not speak TLS there: should auth_url begin with http:// ?"
	case errors.As(err, &alert):
		return alert.Error()
	}
	if err == nil {
		return ""
	}
	// The client of net/http reports this one as plain text.
	if text := err.Error(); strings.Contains(text, "server gave HTTP response to HTTPS client") {
		return "it does not speak TLS there: should auth_url begin with http:// ?"
	}
	return ""
}

// netReason names the usual causes in a few words.
func netReason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "no such host: " + dns.Name
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return describe(err)
}

// describe returns the text of an error for an operator: the fault's own sentence where there is one.
func describe(err error) string {
	if text := fault.Message(err); text != "" {
		return text
	}
	return err.Error()
}
