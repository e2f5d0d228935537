package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/topproc"
)

// relayed is a site as it is run: a relay as a process at the site's node, a server above it, and the agents of two hosts below.
type relayed struct {
	*fleet
	program string
	config  string // the relay's file
	above   *server
	relay   *hosts.Process
}

const relayAddress = "172.31.1.2:7901"

// An operator follows packets with headwater relay trace: through the relay's process and the streams of the hosts, and once more when the relay was started again with nobody above.
func TestRelayTraces(t *testing.T) {
	t.Parallel()
	f := newBareFleet(t, 2)
	ctx := t.Context()
	program, err := topproc.Program()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, pa := f.vm("vm1", f.bed.Host("s1h1"), hosts.VMConfig{})
	_, pb := f.vm("vm2", f.bed.Host("s1h2"), hosts.VMConfig{})
	_, shut := f.vm("vm3", f.bed.Host("s1h2"), hosts.VMConfig{})
	shut.SecurityGroups = nil
	s := &relayed{fleet: f, program: program, above: f.serve(ca)}
	s.configure(ca)
	s.startRelay()
	f.joinAt(ca, relayAddress)
	s.above.awaitReady(ctx, f, pa, pb, shut)
	f.same(ctx)

	delivered, denied := "[delivered port "+pb.Id+" at s1h2]", "[dropped in-denied at s1h2]"
	s.each(ctx, pa, pb, delivered)
	s.each(ctx, pa, shut, denied)
	if out, err := s.trace(ctx, "nobody", "10.0.1.2"); exitCode(err) != 1 || !strings.Contains(err.Error(), "port nobody: there is none") {
		t.Errorf("trace of a port that there is not: %v\n%s", err, out)
	}
	if out, err := s.trace(ctx, pa.Id, "10.0.1.2", "--established"); exitCode(err) != 2 {
		t.Errorf("trace of what is no question: %v, want status 2\n%s", err, out)
	}

	s.above.end()
	s.relay.Kill() // its socket stays behind
	if out, err := s.trace(ctx, pa.Id, "10.0.1.2"); exitCode(err) != 1 || !strings.Contains(err.Error(), "no relay answers at") {
		t.Errorf("trace without a relay: %v\n%s", err, out)
	}
	s.startRelay()
	f.await(ctx, "the hosts are at the relay again", func() error { return s.reports(ctx, pa, pb.FixedIps[0].Address, delivered) })

	f.agents["s1h2"].Kill()
	f.await(ctx, "the relay knows that s1h2 is away", func() error {
		out, err := s.trace(ctx, pa.Id, pb.FixedIps[0].Address)
		if err != nil || !strings.Contains(out, "by the switches: sent to s1h2\n") || !strings.Contains(out, "the packet:      sent to s1h2 (") ||
			!strings.Contains(out, "host s1h2 was not asked: ") || !strings.HasSuffix(out, "all agree\n") {
			return fmt.Errorf("%w\n%s", errors.Join(errors.New("it does not"), err), out)
		}
		return nil
	})
}

// configure writes the relay's file.
func (s *relayed) configure(ca *mtls.Authority) {
	s.t.Helper()
	id := s.issue(ca, mtls.Identity{Role: mtls.Relay, Site: "s1", Name: "relay1"})
	s.config = filepath.Join(s.bed.Dir, "relay.yaml")
	text := fmt.Sprintf("listen: %s\nupstream: [%s]\ndir: %s\ntls: {cert_file: %s, key_file: %s, ca_file: %s}\n",
		relayAddress, serverAddress, s.dir(), id.CertFile, id.KeyFile, id.CAFile)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *relayed) dir() string { return filepath.Join(s.bed.Dir, "relay") }

// startRelay starts the relay, and waits until it answers commands.
func (s *relayed) startRelay() {
	s.t.Helper()
	p, err := s.bed.Site(1).Start(filepath.Join(s.bed.Dir, "relay.out"), s.program, "relay", "--config", s.config)
	if err == nil {
		s.relay, err = p, p.Listens(s.t.Context(), filepath.Join(s.dir(), "relay.sock"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("relay:\n%s", p.Said())
		}
	})
}

// trace runs the command at the site's node.
func (s *relayed) trace(ctx context.Context, port, to string, more ...string) (string, error) {
	return s.bed.Site(1).Exec(ctx, s.program, append([]string{"relay", "trace", port, to, "--config", s.config}, more...)...)
}

// reports says whether a connection of a port to an address ends, by each of the three, as it should, and all of its hosts were asked.
func (s *relayed) reports(ctx context.Context, from *api.Port, to, want string) error {
	out, err := s.trace(ctx, from.Id, to, "--proto", "tcp", "--dst-port", "80", "--wait", "30s", "--json")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var r trace.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if got := ends(&r); got != [3]string{want, want, want} || len(r.Findings)+len(r.Unasked) > 0 {
		return fmt.Errorf("to %s: by the state, the switches and a packet: %q, want %s of each\n%s", to, got, want, out)
	}
	return nil
}

// each is reports for all addresses of a port.
func (s *relayed) each(ctx context.Context, from, to *api.Port, want string) {
	s.t.Helper()
	for _, ip := range to.FixedIps {
		if err := s.reports(ctx, from, ip.Address, want); err != nil {
			s.t.Error(err)
		}
	}
}

// exitCode is the status with which a program has ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}
