// Package mtls says who is at the other end of a connection between Top, relays and hosts: TLS 1.3 with certificates on both sides, whose URI names
// the role, the site and the name (as in SPIFFE IDs, so that SPIRE can issue them):
//
//	spiffe://DOMAIN/top/NAME               a replica of Top
//	spiffe://DOMAIN/site/SITE/relay/NAME   a relay
//	spiffe://DOMAIN/site/SITE/host/NAME    a host
//
// A certificate has exactly one such URI. DNS names and addresses in it are not looked at: what a host is called in DNS is no proof of
// anything, and relays move. Files are read again when they change, so certificates and authorities are replaced without a restart.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// DefaultDomain is the trust domain of certificates that Headwater's own tools make.
const DefaultDomain = "headwater"

// Role is what somebody may do.
type Role string

// The roles.
const (
	Top   Role = "top"
	Relay Role = "relay"
	Host  Role = "host"
)

// Identity is who a certificate names.
type Identity struct {
	Role Role
	Site string // "" of Top
	Name string
}

// String is the path of the identity's URI.
func (i Identity) String() string {
	if i.Role == Top {
		return "/top/" + i.Name
	}
	return "/site/" + i.Site + "/" + string(i.Role) + "/" + i.Name
}

// URI is the identity as it stands in a certificate.
func (i Identity) URI(domain string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: domain, Path: i.String()}
}

// Of reads the identity in a certificate.
func Of(cert *x509.Certificate, domain string) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("the certificate has %d URIs, want one", len(cert.URIs))
	}
	u := cert.URIs[0]
	if u.Scheme != "spiffe" || u.Host != domain || u.RawQuery != "" || u.Fragment != "" {
		return Identity{}, fmt.Errorf("%s is not an identity of %s", u, domain)
	}
	parts := strings.Split(u.Path, "/")
	var id Identity
	switch {
	case len(parts) == 3 && parts[1] == "top":
		id = Identity{Top, "", parts[2]}
	case len(parts) == 5 && parts[1] == "site" && (parts[3] == "relay" || parts[3] == "host"):
		id = Identity{Role(parts[3]), parts[2], parts[4]}
	}
	if id.Name == "" || id.Role != Top && id.Site == "" {
		return Identity{}, fmt.Errorf("%s names no host, relay or Top", u)
	}
	return id, nil
}

// Config says where one's own certificate is, and whose are believed.
type Config struct {
	CertFile string // PEM: the certificate and those between it and the authority
	KeyFile  string // PEM
	CAFile   string // PEM: the authorities
	Domain   string // trust domain; "": DefaultDomain
	// Refused is told when changed files could not be read; what was read before is used on. May be nil.
	Refused func(error)
	Now     func() time.Time // nil: time.Now
}

// Credentials are a certificate and the authorities, as they are in the files now.
type Credentials struct {
	cfg Config

	mu     sync.Mutex // guards the fields below
	stamps [3]stamp
	loaded material
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

type material struct {
	cert  *tls.Certificate
	roots *x509.CertPool
	id    Identity
}

// Load reads the files.
func Load(cfg Config) (*Credentials, error) {
	if cfg.Domain == "" {
		cfg.Domain = DefaultDomain
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Credentials{cfg: cfg}
	var err error
	if c.stamps, err = c.look(); err != nil {
		return nil, err
	}
	c.loaded, err = c.read()
	return c, err
}

func (c *Credentials) look() (out [3]stamp, err error) {
	for i, name := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.CAFile} {
		info, err := os.Stat(name)
		if err != nil {
			return out, fmt.Errorf("look at a certificate's file: %w", err)
		}
		out[i] = stamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

func (c *Credentials) read() (material, error) {
	cert, err := tls.LoadX509KeyPair(c.cfg.CertFile, c.cfg.KeyFile)
	if err != nil {
		return material{}, fmt.Errorf("read the certificate %s: %w", c.cfg.CertFile, err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return material{}, fmt.Errorf("read the certificate %s: %w", c.cfg.CertFile, err)
	}
	id, err := Of(leaf, c.cfg.Domain)
	if err != nil {
		return material{}, fmt.Errorf("%s: %w", c.cfg.CertFile, err)
	}
	pem, err := os.ReadFile(c.cfg.CAFile)
	if err != nil {
		return material{}, fmt.Errorf("read the authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return material{}, fmt.Errorf("%s has no certificate in PEM", c.cfg.CAFile)
	}
	return material{&cert, roots, id}, nil
}

// current is what the files hold. Where they cannot be read, as in the middle of being replaced, what they held before.
func (c *Credentials) current() material {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.look()
	if err == nil && stamps == c.stamps {
		return c.loaded
	}
	if err == nil {
		var now material
		if now, err = c.read(); err == nil {
			c.stamps, c.loaded = stamps, now
		}
	}
	if err != nil && c.cfg.Refused != nil {
		c.cfg.Refused(err)
	}
	return c.loaded
}

// Identity is one's own.
func (c *Credentials) Identity() Identity { return c.current().id }

// Server is the configuration of a server: it asks every client for a certificate of the authorities.
func (c *Credentials) Server() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current().cert, nil },
		ClientAuth:             tls.RequireAnyClientCert, // and checked below, against the authorities of now
		VerifyConnection:       func(s tls.ConnectionState) error { _, err := c.verify(s, x509.ExtKeyUsageClientAuth); return err },
		SessionTicketsDisabled: true,
	}
}

// Client is the configuration of a client, which talks to whom allow says.
func (c *Credentials) Client(allow func(Identity) error) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current().cert, nil },
		InsecureSkipVerify:   true, //nolint:gosec // only the comparison with a DNS name is skipped: VerifyConnection checks the chain and the identity
		VerifyConnection: func(s tls.ConnectionState) error {
			id, err := c.verify(s, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			return allow(id)
		},
	}
}

func (c *Credentials) verify(s tls.ConnectionState, usage x509.ExtKeyUsage) (Identity, error) {
	if len(s.PeerCertificates) == 0 {
		return Identity{}, errors.New("no certificate was shown")
	}
	between := x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	leaf := s.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.current().roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: c.cfg.Now(),
	})
	if err != nil {
		return Identity{}, fmt.Errorf("the certificate is not believed: %w", err)
	}
	return Of(leaf, c.cfg.Domain)
}

// Peer is who is at the other end of a connection that one of the configurations above has accepted, and until when the certificate holds.
func (c *Credentials) Peer(s tls.ConnectionState) (Identity, time.Time, error) {
	if len(s.PeerCertificates) == 0 {
		return Identity{}, time.Time{}, errors.New("no certificate was shown")
	}
	id, err := Of(s.PeerCertificates[0], c.cfg.Domain)
	return id, s.PeerCertificates[0].NotAfter, err
}

// Upstream says whom a host or relay of a site may get its state from: Top, and relays of its own site.
func Upstream(site string) func(Identity) error {
	return func(id Identity) error {
		if id.Role == Top || id.Role == Relay && id.Site == site {
			return nil
		}
		return fmt.Errorf("%s does not hand out the state of site %s", id, site)
	}
}
