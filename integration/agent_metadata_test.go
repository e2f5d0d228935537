package integration

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

const metadataSecret = "between us"

// Guests ask 169.254.169.254 and fe80::a9fe:a9fe for their metadata: the site's service is asked, and told which server it is for, whatever its address
// is and whatever it says itself.
func TestAgentsServeMetadata(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	nova := novaMetadata(t, f.bed)
	secret := filepath.Join(f.bed.Dir, "secret")
	if err := os.WriteFile(secret, []byte(metadataSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.network("red", 11, 1450, "10.1.0.0/24", "fd01::/64")
	f.network("green", 12, 1450, "10.1.0.0/24", "fd01::/64")
	f.network("isle", 13, 1400, "10.3.0.0/24")
	f.router("r1", 21, "red 10.1.0.1/24 fd01::1/64")
	f.router("r2", 22, "green 10.1.0.1/24 fd01::1/64")
	h := f.bed.Hosts()
	red, _ := f.guest("red", h[0], "red", hosts.VMConfig{}, "10.1.0.11/24", "fd01::11/64")
	green, _ := f.guest("green", h[0], "green", hosts.VMConfig{}, "10.1.0.11/24", "fd01::11/64")
	away, _ := f.guest("away", h[1], "green", hosts.VMConfig{}, "10.1.0.12/24", "fd01::12/64")
	isle := f.bed.VM("isle", h[1], hosts.VMConfig{IPs: []netip.Prefix{netip.MustParsePrefix("10.3.0.11/24")}, MTU: 1400})
	f.bind(isle, "isle", "10.3.0.11/24")
	isle.Run("ip", "route", "add", state.MetadataIPv4().String(), "dev", "eth0") // as DHCP tells guests of a network without a router
	for _, host := range h {
		f.agents[host.Name].Stop()
		f.start(host, "--state", f.file(host), "--metadata", nova, "--metadata-secret-file", secret)
	}
	f.settle(t.Context())
	for _, vm := range []*hosts.VM{red, green, away, isle} {
		addresses := []string{net.JoinHostPort(state.MetadataIPv4().String(), "80")}
		if vm != isle {
			number, _, _ := strings.Cut(vm.Run("ip", "-o", "link", "show", "eth0"), ":") // names of zones are those of this process
			addresses = append(addresses, net.JoinHostPort(state.MetadataIPv6().String()+"%"+number, "80"))
		}
		project := "project-red"
		switch vm {
		case green, away:
			project = "project-green"
		case isle:
			project = "project-isle"
		}
		for _, to := range addresses {
			f.await(t.Context(), vm.Name+" asks "+to, func() error {
				got, err := metadataAs(t.Context(), vm, to)
				if want := fmt.Sprintf("server-%s of %s at %s asks /openstack/latest/meta_data.json", vm.Name, project, vm.IPs[0].Addr()); err == nil && !strings.HasPrefix(got, want) {
					// IPv6 guests have the first address that they are known by.
					if six := strings.Replace(want, vm.IPs[0].Addr().String(), vm.IPs[len(vm.IPs)-1].Addr().String(), 1); !strings.HasPrefix(got, six) {
						err = fmt.Errorf("got %.200q, want %q", got, want)
					}
				}
				if err == nil && len(got) < metadataLong {
					err = fmt.Errorf("got %d bytes, want more than %d", len(got), metadataLong)
				}
				return err
			})
		}
	}
}

// metadataLong is more than a packet, and more than a buffer.
const metadataLong = 200_000

// metadataAs is what a guest gets that says that it is another.
func metadataAs(ctx context.Context, vm *hosts.VM, to string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return vm.Dial(ctx, network, to) }}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://169.254.169.254/openstack/latest/meta_data.json", nil)
	if err != nil {
		return "", err
	}
	for name, value := range map[string]string{"X-Instance-ID": "another", "X-Tenant-ID": "another", "X-Forwarded-For": "192.0.2.1", "X-Instance-ID-Signature": signed("another")} {
		req.Header.Set(name, value)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // all is read
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func signed(instance string) string {
	mac := hmac.New(sha256.New, []byte(metadataSecret))
	mac.Write([]byte(instance))
	return hex.EncodeToString(mac.Sum(nil))
}

// novaMetadata stands in for Nova's metadata API, at the site's node. It believes who has the secret, as Nova does, and says who asked.
func novaMetadata(t *testing.T, bed *hosts.Bed) string {
	t.Helper()
	l, err := bed.Site(1).Listen(t.Context(), "tcp", netip.AddrPortFrom(bed.SiteAddr(1), 8775).String())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		instance := r.Header.Get("X-Instance-ID")
		if r.Header.Get("X-Instance-ID-Signature") != signed(instance) {
			http.Error(w, "the signature is wrong", http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, "%s of %s at %s asks %s\n%s", instance, r.Header.Get("X-Tenant-ID"), r.Header.Get("X-Forwarded-For"), r.URL.Path, strings.Repeat("m", metadataLong))
	})}
	var g errgroup.Group
	g.Go(func() error { return server.Serve(l) })
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), g.Wait()); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}
