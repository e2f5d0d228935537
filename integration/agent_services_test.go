package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// echo is a metadata service that says who it was told is asking.
const echo = `import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = " ".join(self.headers.get(n, "-") for n in ("X-Instance-ID", "X-Tenant-ID", "X-Forwarded-For")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8775), H).serve_forever()
`

// names is a DNS server that knows nothing but says so in its own words, and ask a question for the addresses of a name, put to it.
const (
	names = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.2.0.3", 53))
while True:
    q, who = s.recvfrom(2000)
    s.sendto(b"the server's own answer", who)
`
	ask = `import socket, sys
q = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[1].split(".")) + b"\0\0\1\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(q, ("10.2.0.3", 53))
a = s.recv(2000)
print(a.decode() if a.startswith(b"the") else ".".join(str(b) for b in a[-4:]))
`
)

// What guests' own kernels and tools get from an agent: metadata by their own TCP, errors of a router, and an address that moves between two of them.
func TestAgentServices(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	ctx := t.Context()
	h := f.bed.Hosts()[0]
	script, secret := filepath.Join(h.Dir, "echo.py"), filepath.Join(h.Dir, "secret")
	for name, text := range map[string]string{script: echo, secret: "s3cret\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Start(filepath.Join(h.Dir, "echo.out"), "python3", script); err != nil {
		t.Fatal(err)
	}
	f.agents[h.Name].Kill()
	f.start(h, "--state", f.file(h), "--metadata", "http://127.0.0.1:8775", "--metadata-secret-file", secret, "--names")

	a, portA := f.vm("a", h, hosts.VMConfig{})
	b, portB := f.vm("b", h, hosts.VMConfig{})
	portA.Device, portA.Project, portB.DnsName, f.state.Networks[0].DnsDomain = "server-a", "project-a", "b", "cloud.example"
	for _, p := range []*api.Port{portA, portB} {
		p.AllowedPairs = []*api.AddressPair{{Prefix: "10.0.9.9"}}
	}
	f.state.Subnets[0].Gateway, f.state.Subnets[1].Gateway = "10.0.0.1", "fd00::1"
	f.state.Networks = append(f.state.Networks, &api.Network{Id: "n2", Key: 2, Mtu: 1300})
	f.state.Subnets = append(f.state.Subnets, &api.Subnet{Id: "n2-4", Network: "n2", Cidr: "10.2.0.0/24", Gateway: "10.2.0.1"})
	f.state.Routers = []*api.Router{{Id: "r", Key: 9, Interfaces: []*api.RouterInterface{
		{Network: "n1", Mac: "fa:16:3e:00:ff:01", Addresses: []string{"10.0.0.1/16", "fd00::1/64"}}, {Network: "n2", Mac: "fa:16:3e:00:ff:02", Addresses: []string{"10.2.0.1/24"}},
	}}}
	c, portC := f.vm("c", h, hosts.VMConfig{MTU: 1300})
	portC.Network, portC.FixedIps = "n2", []*api.FixedIP{{Subnet: "n2-4", Address: "10.2.0.3"}}
	c.Run("sh", "-c", "ip addr flush dev eth0 scope global; ip addr add 10.2.0.3/24 dev eth0; ip route replace default via 10.2.0.1")
	for _, vm := range []*hosts.VM{a, b} {
		vm.Run("ip", "route", "replace", "default", "via", "10.0.0.1")
	}
	f.commit()
	f.same(ctx)
	a.MustReach(netip.MustParseAddr("10.2.0.3"))
	f.await(ctx, "the metadata service listens", func() error {
		c, err := h.Dial(ctx, "tcp", "127.0.0.1:8775")
		if err != nil {
			return err
		}
		return c.Close()
	})

	t.Run("metadata", func(t *testing.T) { askMetadata(ctx, t, a) })
	t.Run("errors of the router", func(t *testing.T) {
		if out, _ := a.Exec(ctx, "ping", "-c", "1", "-W", "20", "-t", "1", "10.2.0.3"); !strings.Contains(out, "Time to live exceeded") || !strings.Contains(out, "10.0.0.1") {
			t.Errorf("a ping that may go one hop: %s", out)
		}
		if out, _ := a.Exec(ctx, "ping", "-c", "1", "-W", "20", "-M", "do", "-s", "1372", "10.2.0.3"); !strings.Contains(out, "mtu = 1300") {
			t.Errorf("a ping of 1400 bytes into a network of 1300: %s", out)
		}
	})
	t.Run("names", func(t *testing.T) {
		if _, err := c.Start(filepath.Join(h.Dir, "names.out"), "python3", "-c", names); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"b.cloud.example": "10.0.1.2", "host-10-0-1-1.cloud.example": "10.0.1.1", "example.org": "the server's own answer"} {
			f.await(ctx, name, func() error { // the server may not have begun
				out, err := a.Exec(ctx, "python3", "-c", ask, name)
				if err == nil && strings.TrimSpace(out) != want {
					err = fmt.Errorf("%q, want %q", out, want)
				}
				return err
			})
		}
	})
	t.Run("moving address", func(t *testing.T) {
		for _, owner := range []*hosts.VM{a, b} {
			for _, vm := range []*hosts.VM{a, b} {
				_, _ = vm.Exec(ctx, "ip", "addr", "del", "10.0.9.9/16", "dev", "eth0") // it may not have it
			}
			owner.Run("ip", "addr", "add", "10.0.9.9/16", "dev", "eth0")
			began := time.Now()
			owner.Run("sh", "-c", "arping -q -c 1 -A -I eth0 10.0.9.9 >/dev/null 2>&1 &") // which stays for a second after it has sent
			f.await(ctx, "the address at "+owner.Name, func() error {
				_, err := c.Exec(ctx, "ping", "-c", "1", "-W", "0.1", "10.0.9.9")
				return err
			})
			t.Logf("10.0.9.9 was reached at %s %s after it was announced", owner.Name, time.Since(began).Round(time.Millisecond))
		}
	})
}

// askMetadata has a VM ask over both families, and often.
func askMetadata(ctx context.Context, t *testing.T, vm *hosts.VM) {
	const want = "server-a project-a 10.0.1.1"
	for url, want := range map[string]string{
		"http://169.254.169.254/openstack/latest/meta_data.json": want, "http://[fe80::a9fe:a9fe%25eth0]/latest/meta-data/": "server-a project-a fd00::1:1",
	} {
		out, err := vm.Exec(ctx, "curl", "-sS", "-m", "10", "-H", "X-Instance-ID: another", url)
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%s: %v %q, want %q", url, err, out, want)
		}
	}
	began := time.Now()
	const times = 40 // what cloud-init asks at a boot
	out, err := vm.Exec(ctx, "sh", "-c", fmt.Sprintf("for i in $(seq %d); do curl -sS -m 10 http://169.254.169.254/ || exit 1; echo; done", times))
	if err != nil || strings.Count(out, want) != times {
		t.Errorf("%d answers of %d: %v", strings.Count(out, want), times, err)
	}
	t.Logf("%d requests, a connection each, took %s", times, time.Since(began).Round(time.Millisecond))
}
