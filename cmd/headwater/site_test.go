package main

import (
	"encoding/json"
	"testing"
)

// A tenant's list, which says nothing of enabled and state, showed each site as disabled.
func TestSiteStatus(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"name":"east","draining":false}`:                                 "enabled",
		`{"name":"east","draining":true}`:                                  "draining",
		`{"name":"east","enabled":true,"state":"active"}`:                  "enabled",
		`{"name":"east","enabled":true,"state":"active","draining":true}`:  "draining",
		`{"name":"east","enabled":false,"state":"active","draining":true}`: "disabled",
		`{"name":"east","enabled":true,"state":"removing"}`:                "removing",
	} {
		var s site
		if err := json.Unmarshal([]byte(answer), &s); err != nil {
			t.Fatal(err)
		}
		if got := s.status(); got != want {
			t.Errorf("%s = %q, want %q", answer, got, want)
		}
	}
}
