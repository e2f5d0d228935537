package apps

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// MetadataConfig says where the site's metadata service is.
type MetadataConfig struct {
	// Upstream is the root of Nova's metadata API, such as http://nova-metadata:8775. Without one there is no metadata.
	Upstream string
	// Secret is what Nova has as neutron.metadata_proxy_shared_secret: who knows it can say which server asks.
	Secret ident.Secret
	// Transport carries the requests; nil stands for http.DefaultTransport.
	Transport http.RoundTripper
	// Timeout bounds a request to the service; 0 stands for 30 s.
	Timeout time.Duration
}

// Validate reports all that is wrong.
func (c MetadataConfig) Validate() error {
	if c.Upstream == "" {
		return nil
	}
	var errs []error
	if u, err := url.Parse(c.Upstream); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("metadata upstream %q: write a URL like http://nova-metadata:8775", c.Upstream))
	}
	if c.Secret == "" {
		errs = append(errs, errors.New("metadata secret: without it Nova believes nobody; set that of its neutron.metadata_proxy_shared_secret"))
	}
	return errors.Join(errs...)
}

// Limits of what guests may send and get.
const (
	metadataBody    = 64 << 10 // of a request: a password that is posted is far below
	metadataTimeout = 30 * time.Second
	metadataHeader  = 16 << 10
)

// metadataHeaders are those of a guest that the service gets. Whatever else it says, above all of who it is, ends here.
var metadataHeaders = []string{"Accept", "Accept-Encoding", "Content-Type", "User-Agent", "X-Aws-Ec2-Metadata-Token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"}

// identity is who asks, as the host knows it.
type identity struct{ instance, project, address string }

// newMetadataProxy returns the handler of guests' requests, which are passed to the site's service as Neutron's metadata agent passes them. who is
// asked for the identity behind the remote address of a connection, count is told what became of each request.
func newMetadataProxy(cfg MetadataConfig, who func(netip.AddrPort) (identity, bool), count func(outcome string), log *slog.Logger) (http.Handler, error) {
	upstream, err := url.Parse(cfg.Upstream)
	if err != nil {
		return nil, fmt.Errorf("metadata upstream: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = metadataTimeout
	}
	often := newLimiter[string](0.1, 1, 1) // guests must not fill the log
	proxy := &httputil.ReverseProxy{
		Transport: cfg.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			who, _ := r.In.Context().Value(identityKey{}).(identity)
			r.Out.Header = metadataRequest(r.In.Header, who, cfg.Secret)
		},
		ModifyResponse: func(*http.Response) error { count(metadataAnswered); return nil },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if log != nil && often.allow("", time.Now()) {
				log.WarnContext(r.Context(), "metadata service did not answer", "err", err)
			}
			count(metadataUnavailable)
			w.Header().Set("Retry-After", "5")
			http.Error(w, "the metadata service does not answer; ask again", http.StatusServiceUnavailable)
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := netip.ParseAddrPort(r.RemoteAddr)
		id, ok := who(from)
		if !ok {
			count(metadataUnknown)
			http.Error(w, "no server is known at this address", http.StatusNotFound)
			return
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), identityKey{}, id), cfg.Timeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, metadataBody)
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}), nil
}

type identityKey struct{}

// metadataRequest is the header of a request to the service.
func metadataRequest(in http.Header, who identity, secret ident.Secret) http.Header {
	out := http.Header{}
	for _, name := range metadataHeaders {
		if v := in.Values(name); len(v) > 0 {
			out[name] = v
		}
	}
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write([]byte(who.instance))
	out.Set("X-Instance-ID", who.instance)
	out.Set("X-Tenant-ID", who.project)
	out.Set("X-Forwarded-For", who.address)
	out.Set("X-Instance-ID-Signature", hex.EncodeToString(mac.Sum(nil)))
	return out
}

// identify is who a guest is, by the port that its packets came from.
func identify(store *state.Store, c contact) (id identity, ok bool) {
	store.Read(func(v *state.View) {
		p, _ := v.ByKey(state.KindPort, c.port).(*state.Port)
		if p == nil || p.Device == "" || p.DisableMetadata {
			return
		}
		// Nova knows fixed addresses, not those of a link.
		address := c.addr
		if len(p.FixedIPs) > 0 && !slices.ContainsFunc(p.FixedIPs, func(f state.FixedIP) bool { return f.Address == address }) {
			address = p.FixedIPs[0].Address
		}
		id, ok = identity{p.Device, p.Project, address.String()}, true
	})
	return id, ok
}
