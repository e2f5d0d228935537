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

// explain turns a failed login or probe into a code and a sentence for the operator.
func explain(err error, authURL string) (code, detail string) {
	if why := tlsReason(err); why != "" {
		return CodeTLS, fmt.Sprintf("TLS failure at %s: %s", authURL, why)
	}
	switch fault.KindOf(err) {
	case fault.Unauthorized:
		return CodeUnauthorized, fmt.Sprintf("%s refused the credential: %s (wrong user, password, domain or project)", authURL, describe(err))
	case fault.Unavailable, fault.Ambiguous:
		return CodeUnreachable, fmt.Sprintf("%s does not answer: %s", authURL, netReason(err))
	case fault.NotFound:
		return CodeUnreachable, fmt.Sprintf("%s is no Keystone v3 endpoint: %s", authURL, describe(err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return CodeUnreachable, fmt.Sprintf("%s did not answer in time", authURL)
	}
	return CodeProbe, describe(err)
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
