package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
