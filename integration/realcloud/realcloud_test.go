package realcloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRegion uses a real region as a tenant and as its administrator.
func TestRegion(t *testing.T) {
	t.Parallel()
	c := Need(t, "east")
	before, err := c.Snapshot(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	for kind, name := range map[string]string{"flavor": "m1.tiny", "image": "tiny", "network": "private", "project": "demo", "user": "demo", "aggregate": "az1", "role": "member"} {
		if !slices.Contains(names(before[kind]), name) {
			t.Errorf("no %s named %s in the snapshot: %v", kind, name, before[kind])
		}
	}
	mine := fmt.Sprintf("realcloud-test-%d", time.Now().UnixNano())
	id := OpenStack(t, c.Demo("east"), "network", "create", "-f", "value", "-c", "id", mine).OK(t)
	OpenStack(t, c.Demo("east"), "keypair", "create", mine).OK(t)
	after, err := c.Snapshot(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	// Others may be at work in this region: only what is named for this test counts.
	left := func(s Snapshot) (out []string) {
		for _, line := range s.Since(before) {
			if strings.Contains(line, mine) {
				kind, _, _ := strings.Cut(line, " ")
				out = append(out, kind)
			}
		}
		return out
	}
	if got, want := left(after), []string{"keypair", "network"}; !slices.Equal(got, want) {
		t.Errorf("new in the snapshot: %v, want %v", got, want)
	}
	if got := after["network"][id]; got != mine {
		t.Errorf("network %s is named %q in the snapshot, want %q", id, got, mine)
	}
	if says := OpenStack(t, c.Demo("east"), "flavor", "create", mine).Fails(t); !strings.Contains(says, "403") {
		t.Errorf("the tenant makes a flavor: got %q, want a 403", says)
	}
	var shown struct {
		Name string `json:"name"`
	}
	OpenStack(t, c.Admin("east"), "network", "show", "-f", "json", id).JSON(t, &shown)
	if shown.Name != mine {
		t.Errorf("the administrator sees the name %q, want %q", shown.Name, mine)
	}
	OpenStack(t, c.Demo("east"), "network", "delete", id).OK(t)
	OpenStack(t, c.Demo("east"), "keypair", "delete", mine).OK(t)
	after, err = c.Snapshot(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	if got := left(after); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func names(things map[string]string) []string {
	var out []string
	for _, name := range things {
		out = append(out, name)
	}
	return out
}

// TestPages lists from a server that answers in pages, in each service's way.
func TestPages(t *testing.T) {
	t.Parallel()
	var server *httptest.Server
	answers := map[string]any{
		"/v2.1/servers": map[string]any{"servers": []any{map[string]any{"id": "s1", "name": "a"}},
			"servers_links": []any{map[string]any{"rel": "next", "href": "SERVER/v2.1/servers2"}}},
		"/v2.1/servers2":    map[string]any{"servers": []any{map[string]any{"id": "s2", "name": "b"}}},
		"/v2/images":        map[string]any{"images": []any{map[string]any{"id": "i1", "name": "a"}}, "next": "/v2/images2"},
		"/v2/images2":       map[string]any{"images": []any{map[string]any{"id": "i2"}}},
		"/v2.1/os-keypairs": map[string]any{"keypairs": []any{map[string]any{"keypair": map[string]any{"name": "k"}}}},
		"/v2.1/aggregates":  map[string]any{"aggregates": []any{map[string]any{"id": 7, "name": "az1"}}},
	}
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		data, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, strings.ReplaceAll(string(data), "SERVER", server.URL))
	}))
	defer server.Close()
	s := &session{endpoints: map[string]string{"compute": server.URL + "/v2.1", "image": server.URL}}
	for _, tt := range []struct {
		from source
		want string
	}{
		{source{"server", "compute", "/servers", "servers"}, "map[s1:a s2:b]"},
		{source{"image", "image", "/v2/images", "images"}, "map[i1:a i2:]"},
		{source{"keypair", "compute", "/os-keypairs", "keypairs"}, "map[k:k]"},
		{source{"aggregate", "compute", "/aggregates", "aggregates"}, "map[7:az1]"},
		{source{"server", "compute", "/servers2", "wrong"}, "the answer has no such list"},
		{source{"volume", "compute", "/volumes", "volumes"}, "404 Not Found: no such page"},
		{source{"volume", "volumev3", "/volumes", "volumes"}, "no endpoint of type volumev3"},
	} {
		got, err := s.list(t.Context(), tt.from)
		if text := fmt.Sprint(got, err); !strings.Contains(text, tt.want) {
			t.Errorf("list %+v: got %s, want %s", tt.from, text, tt.want)
		}
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	before := Snapshot{"server": {"1": "a"}, "port": {"p": ""}}
	after := Snapshot{"server": {"1": "renamed", "2": "b"}, "volume": {"v": "data"}}
	want := []string{"server 2 (b)", "volume v (data)"}
	if got := after.Since(before); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
