package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certFiles serves a certificate from files and reads them again when they
// changed, so that a renewed certificate needs no restart. A broken new pair
// keeps the old one in use.
type certFiles struct {
	cert, key string

	mu     sync.Mutex // guards the fields below
	loaded *tls.Certificate
	mtime  time.Time
}

// get implements tls.Config.GetCertificate.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	st, err := os.Stat(f.cert)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.loaded != nil && st.ModTime().Equal(f.mtime) {
		return f.loaded, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(f.cert, f.key); err == nil {
			f.loaded, f.mtime = &pair, st.ModTime()
		}
	}
	if f.loaded == nil {
		return nil, fmt.Errorf("load %s and %s: %w", f.cert, f.key, err)
	}
	return f.loaded, nil
}
