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
	if _, err := feed.Commit(t.Context(), []*api.Object{{Kind: &api.Object_Host{Host: &api.Host{Id: "h1", Key: 1}}}}, nil); err != nil {
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
	host, err := stream.New(stream.Config{Servers: []string{listen}, Host: "h1", Site: "east", Credentials: credentials(mtls.Identity{Role: mtls.Host, Site: "east", Name: "h1"}),
		Retry: time.Second, Commit: func(_ context.Context, c stream.Commit) error { got <- c; return nil }})
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
		if c.Revision != 7 || len(c.Set) != 1 {
			t.Errorf("the host got %+v", c)
		}
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the host got nothing")
	}
	if page := fetch(t, "http://"+metrics+"/metrics"); !strings.Contains(page, "headwater_relay_streams 1\n") || !strings.Contains(page, "headwater_stream_connected 1\n") {
		t.Errorf("metrics: %s", page)
	}
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
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
		"upstream: [top]":      `upstream "top": want HOST:PORT`,
		"upstreams: [top:1]":   "unknown field",
		"queue_bytes: 1":       "queue_bytes 1: want at least 65536",
		"ring: 0":              "ring 0",
		"log: {level: loud}":   "log.level",
		"metrics: {listen: x}": "metrics.listen",
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
