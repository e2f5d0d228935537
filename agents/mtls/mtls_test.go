package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		uris []string
		want string // of the identity; "": refused
	}{
		{[]string{"spiffe://headwater/site/east/host/h1"}, "/site/east/host/h1"},
		{[]string{"spiffe://headwater/site/east/relay/r1"}, "/site/east/relay/r1"},
		{[]string{"spiffe://headwater/top/a"}, "/top/a"},
		{nil, ""},
		{[]string{"spiffe://headwater/top/a", "spiffe://headwater/top/b"}, ""},
		{[]string{"spiffe://other/top/a"}, ""},
		{[]string{"https://headwater/top/a"}, ""},
		{[]string{"spiffe://headwater/top/"}, ""},
		{[]string{"spiffe://headwater/site//host/h1"}, ""},
		{[]string{"spiffe://headwater/site/east/host/h1/more"}, ""},
		{[]string{"spiffe://headwater/site/east/admin/h1"}, ""},
	} {
		cert := &x509.Certificate{}
		for _, s := range tt.uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		id, err := Of(cert, DefaultDomain)
		if got := id.String(); (err == nil) != (tt.want != "") || err == nil && got != tt.want {
			t.Errorf("Of(%v) = %v, %v, want %q", tt.uris, got, err, tt.want)
		}
	}
}

func issue(t *testing.T, a *Authority, id Identity) *Credentials {
	t.Helper()
	cfg, err := a.Issue(t.TempDir(), id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority(DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shake runs a handshake and returns the two ends' errors and whom the server saw.
func shake(t *testing.T, server, client *Credentials, allow func(Identity) error) (seen Identity, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server.Server()), tls.Client(b, client.Client(allow))
	var wait sync.WaitGroup
	wait.Go(func() {
		serverErr = s.HandshakeContext(t.Context())
		if serverErr == nil {
			seen, _, serverErr = server.Peer(s.ConnectionState())
		}
		_ = a.Close()
	})
	clientErr = c.HandshakeContext(t.Context())
	if clientErr == nil {
		_, _ = c.Read(make([]byte, 1)) // TLS 1.3: the server's refusal comes after the client's handshake
	}
	_ = b.Close()
	wait.Wait()
	return seen, serverErr, clientErr
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	ours, theirs := authority(t), authority(t)
	relay := issue(t, ours, Identity{Relay, "east", "r1"})
	host := Identity{Host, "east", "h1"}
	for _, tt := range []struct {
		name           string
		server, client *Credentials
		site           string
		serverErr      string
		clientErr      string
	}{
		{"a host and its relay", relay, issue(t, ours, host), "east", "", ""},
		{"another authority's host", relay, issue(t, theirs, host), "east", "remote error", "not believed"},
		{"a relay of another site", relay, issue(t, ours, host), "west", "remote error", "does not hand out"},
		{"a host that plays a relay", issue(t, ours, host), issue(t, ours, host), "east", "remote error", "does not hand out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen, serverErr, clientErr := shake(t, tt.server, tt.client, Upstream(tt.site))
			if tt.clientErr == "" && (serverErr != nil || clientErr != nil || seen != host) {
				t.Fatalf("saw %v; %v, %v", seen, serverErr, clientErr)
			}
			if tt.clientErr != "" && (clientErr == nil || !strings.Contains(clientErr.Error(), tt.clientErr)) {
				t.Errorf("client: %v, want %q", clientErr, tt.clientErr)
			}
		})
	}
	stranger := issue(t, theirs, host)
	stranger.loaded.roots = relay.loaded.roots // it believes us, but not we it
	if _, serverErr, _ := shake(t, relay, stranger, Upstream("east")); serverErr == nil || !strings.Contains(serverErr.Error(), "not believed") {
		t.Errorf("server: %v", serverErr)
	}
}

// Certificates are replaced without a restart; what stands in the files for a moment and does not fit together is not used.
func TestReload(t *testing.T) {
	t.Parallel()
	a := authority(t)
	dir := t.TempDir()
	cfg, err := a.Issue(dir, Identity{Host, "east", "h1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	cfg.Refused = func(error) { refused++ }
	c, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue(dir, Identity{Host, "east", "h2"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	next, err := os.ReadFile(cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key []byte, age time.Duration) {
		if err := os.WriteFile(cfg.KeyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(cfg.KeyFile, time.Time{}, time.Now().Add(age)); err != nil {
			t.Fatal(err)
		}
	}
	put(old, time.Minute)
	if got := c.Identity().Name; got != "h1" || refused == 0 {
		t.Errorf("in the middle of a change it is %s, refused %d times", got, refused)
	}
	put(next, 2*time.Minute)
	if got := c.Identity().Name; got != "h2" {
		t.Errorf("after the change it is %s", got)
	}
}
