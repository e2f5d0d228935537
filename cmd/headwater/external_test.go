package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// keystone is as much of one as validates a token, behind a certificate that no system trusts.
func keystone(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := map[string]any{"user": map[string]any{"id": "u", "name": "ann", "domain": map[string]any{"id": "default", "name": "Default"}},
			"project": map[string]any{"id": "p", "name": "p", "domain": map[string]any{"id": "default", "name": "Default"}},
			"roles":   []any{map[string]any{"id": "1", "name": "_member_"}, map[string]any{"id": "2", "name": "reader"}},
			"methods": []any{"password"}, "issued_at": time.Now().UTC(), "expires_at": time.Now().Add(time.Hour).UTC(), "catalog": []any{}}
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			w.Header().Set("X-Subject-Token", "own")
			w.WriteHeader(http.StatusCreated)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token})
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of handshakes that are meant to fail
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// The settings reach the client: its certificates, without which the Keystone is not trusted, and its roles.
func TestExternalSettings(t *testing.T) {
	t.Parallel()
	srv := keystone(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, settings, roles string }{
		{"certificates and roles", fmt.Sprintf("ca_file: %q, roles: {_member_: member}", ca), "member reader"},
		{"certificates alone", fmt.Sprintf("ca_file: %q", ca), "_member_ reader"},
		{"the system's certificates", "roles: {}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "top.yaml")
			text := fmt.Sprintf("identity: {external: {auth_url: %q, username: top, project: service, domain: Default, %s}}", srv.URL, tt.settings)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig(file, func(name string) string { return map[string]string{envExternalPassword: "secret"}[name] })
			if err != nil {
				t.Fatal(err)
			}
			external, err := (&top{cfg: cfg}).external()
			if err != nil {
				t.Fatal(err)
			}
			token, err := external.Validate(t.Context(), "tenants")
			if tt.roles == "" {
				if !fault.Is(err, fault.Unavailable) {
					t.Errorf("a Keystone of an unknown authority: %v, want unavailable", err)
				}
				return
			}
			if err != nil || strings.Join(token.RoleNames(), " ") != tt.roles {
				t.Errorf("Validate = %v, %v; want roles %s", token, err, tt.roles)
			}
		})
	}
}
