package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority whose key exists in memory only: for tests, benchmarks and demonstrations, not for anything that is to last.
type Authority struct {
	domain string
	now    func() time.Time
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// NewAuthority makes an authority that is valid for ten years.
func NewAuthority(domain string, now func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Headwater, not for production"}, NotBefore: now().Add(-time.Hour), NotAfter: now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{domain, now, cert, key}, err
}

// Issue writes a certificate for an identity, its key and the authority's certificate into a folder, as cert.pem, key.pem and ca.pem,
// and returns a Config that names them.
func (a *Authority) Issue(dir string, id Identity, life time.Duration) (Config, error) {
	cfg := Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem"), Domain: a.domain, Now: a.now}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cfg, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return cfg, fmt.Errorf("make a serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{id.URI(a.domain)}, NotBefore: a.now().Add(-time.Minute), NotAfter: a.now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return cfg, fmt.Errorf("make a certificate for %s: %w", id, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return cfg, fmt.Errorf("write a key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return cfg, fmt.Errorf("make a folder for certificates: %w", err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{cfg.CertFile, "CERTIFICATE", der}, {cfg.KeyFile, "PRIVATE KEY", raw}, {cfg.CAFile, "CERTIFICATE", a.cert.Raw}} {
		if err := os.WriteFile(f.name, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			return cfg, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return cfg, nil
}
