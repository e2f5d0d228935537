package ident

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := Secret("hunter2")
	encoded, err := json.Marshal(map[string]any{"password": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", s)
	for _, got := range []string{fmt.Sprint(s), fmt.Sprintf("%v %s %q %#v %+v", s, s, s, s, struct{ P Secret }{s}), string(encoded), log.String()} {
		if strings.Contains(got, "hunter2") || !strings.Contains(got, "REDACTED") {
			t.Errorf("secret printed as %q", got)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("Reveal() = %q", s.Reveal())
	}
}

func TestNewUUID(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := NewUUID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("NewUUID() = %q, malformed or repeated", id)
		}
		seen[id] = true
	}
}

func TestContextValues(t *testing.T) {
	t.Parallel()
	ctx := WithTrace(WithJobID(WithRequestID(t.Context(), "req-1"), "7"), "00-ab")
	if RequestID(ctx) != "req-1" || JobID(ctx) != "7" || Trace(ctx) != "00-ab" {
		t.Errorf("got %q %q %q", RequestID(ctx), JobID(ctx), Trace(ctx))
	}
	if RequestID(t.Context()) != "" {
		t.Error("an empty context carries a request id")
	}
}
