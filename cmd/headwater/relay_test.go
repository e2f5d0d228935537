package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/relay"
	"github.com/headwater-cloud/headwater/agents/stream"
)

// The program as an operator runs it: a server above, a host below, certificates and settings from files, metrics over HTTP.
func TestRelayCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := mtls.NewAuthority(mtls.DefaultDomain, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	files := func(id mtls.Identity) mtls.Config {
		cfg, err := ca.Issue(filepath.Join(dir, id.Name), id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	credentials := func(id mtls.Identity) *mtls.Credentials {
		c, err := mtls.Load(files(id))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	above, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	feed := relay.NewFeed("i1", 6, nil)
	if _, err := feed.Commit(t.Context(), []*api.Object{
		{Kind: &api.Object_Host{Host: &api.Host{Id: "h1", Key: 1}}}, {Kind: &api.Object_Network{Network: &api.Network{Id: "n1", Key: 1}}},
		{Kind: &api.Object_Port{Port: &api.Port{Id: "p1", Key: 1, Network: "n1", Mac: "fa:16:3e:00:00:01", Host: "h1", FixedIps: []*api.FixedIP{{Address: "10.0.0.1"}}}}},
		{Kind: &api.Object_Port{Port: &api.Port{Id: "p2", Key: 2, Network: "n1", Mac: "fa:16:3e:00:00:02", Host: "h1", FixedIps: []*api.FixedIP{{Address: "10.0.0.2"}}}}},
	}, nil); err != nil {
		t.Fatal(err)
	}
	top, err := relay.New(relay.Config{Source: feed, Site: "east", Credentials: credentials(mtls.Identity{Role: mtls.Top, Name: "top"}), Listener: above})
	if err != nil {
		t.Fatal(err)
	}
	listen, metrics, mine := freeAddress(t), freeAddress(t), files(mtls.Identity{Role: mtls.Relay, Site: "east", Name: "r1"})
	file := filepath.Join(dir, "relay.yaml")
	text := fmt.Sprintf("listen: %s\nupstream: [%s]\ndir: %s\ntls: {cert_file: %s, key_file: %s, ca_file: %s}\nmetrics: {listen: %s}\n",
		listen, above.Addr(), filepath.Join(dir, "state"), mine.CertFile, mine.KeyFile, mine.CAFile, metrics)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan stream.Commit, 1)
	var host *stream.Client
	host, err = stream.New(stream.Config{Servers: []string{listen}, Host: "h1", Site: "east", Credentials: credentials(mtls.Identity{Role: mtls.Host, Site: "east", Name: "h1"}),
		Retry: time.Second, Request: func(m *api.ToAgent) { host.Answer(dropping(m.GetRequest())) }, Commit: func(_ context.Context, c stream.Commit) error { got <- c; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return top.Run(ctx) })
	g.Go(func() error { return process(ctx, []string{"relay", "--config", file}, noEnv, io.Discard) })
	g.Go(func() error { return host.Run(ctx) })
	select {
	case c := <-got:
		if c.Revision != 7 || len(c.Set) != 4 {
			t.Errorf("the host got %+v", c)
		}
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the host got nothing")
	}
	if page := fetch(t, "http://"+metrics+"/metrics"); !strings.Contains(page, "headwater_relay_streams 1\n") || !strings.Contains(page, "headwater_stream_connected 1\n") {
		t.Errorf("metrics: %s", page)
	}
	// An operator asks why p1 does not reach p2: the host's switch has a flow that nobody of ours made.
	var out strings.Builder
	err = process(ctx, []string{"relay", "trace", "p1", "10.0.0.2", "--live", "off", "--config", file}, noEnv, &out)
	if err == nil || !strings.Contains(out.String(), "by the state:    delivered port p2 at h1") || !strings.Contains(out.String(), "FAULT in layer foreign, host h1") {
		t.Errorf("trace: %v\n%s", err, out.String())
	}
	if err := process(ctx, []string{"relay", "trace", "p9", "10.0.0.2", "--config", file}, noEnv, io.Discard); err == nil || !strings.Contains(err.Error(), "port p9: there is none") {
		t.Errorf("trace from nowhere: %v", err)
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// dropping is what an agent answers whose switch drops all that p1 sends.
func dropping(r *api.Request) *api.Answer {
	result := &api.TraceResult{Devices: []*api.TraceDevice{{Name: "tap1", Port: "p1"}, {Name: "tap2", Port: "p2"}}}
	if r.GetTraceCheck().GetFlow() != "" {
		result.Text = "Flow: icmp\n\nbridge(\"br-int\")\n----\n 0. in_port=\"tap1\", priority 65535\n    drop\n\nFinal flow: unchanged\nMegaflow: icmp\nDatapath actions: drop\n"
		result.Steps = []*api.TraceStep{{Priority: 65535, Foreign: true, Packets: 3}}
	}
	return &api.Answer{Id: r.GetId(), What: &api.Answer_TraceResult{TraceResult: result}}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // it was only asked for a number
	return ln.Addr().String()
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The example that operators begin with has the defaults, and names what has none.
func TestRelayExample(t *testing.T) {
	t.Parallel()
	cfg := relayConfig{}
	if err := readConfig([]byte(exampleRelay), &cfg); err != nil {
		t.Fatal(err)
	}
	want := defaultRelay()
	if cfg.Listen != want.Listen || cfg.Dir != want.Dir || cfg.TLS != want.TLS || cfg.QueueBytes != want.QueueBytes || cfg.Ring != want.Ring || cfg.Log != want.Log || len(cfg.Upstream) > 0 {
		t.Errorf("the example says %+v, the defaults are %+v", cfg, want)
	}
	err := cfg.validate()
	if err == nil || !strings.Contains(err.Error(), "upstream") || !strings.Contains(err.Error(), "cert_file") || strings.Contains(err.Error(), "ring") {
		t.Errorf("validate: %v", err)
	}
}

func TestRelayRefusesBadSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"upstream: [top]":                   `upstream "top": want HOST:PORT`,
		"upstreams: [top:1]":                "unknown field",
		"dir: /" + strings.Repeat("d", 100): "at most 96 bytes",
		"queue_bytes: 1":                    "queue_bytes 1: want at least 65536",
		"ring: 0":                           "ring 0",
		"log: {level: loud}":                "log.level",
		"metrics: {listen: x}":              "metrics.listen",
	} {
		file := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadRelay(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
