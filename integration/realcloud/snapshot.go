package realcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Snapshot is what exists in a region: for each kind of thing its ids, and for
// each id its name. Things of all projects are in it.
type Snapshot map[string]map[string]string

// source says where things of one kind are listed, as the administrator.
type source struct {
	kind    string
	service string // the type in the catalog
	path    string // below the service's endpoint
	key     string // of the list in the answer
}

var sources = []source{
	{"server", "compute", "/servers?all_tenants=1&limit=500", "servers"},
	{"server group", "compute", "/os-server-groups?all_projects=1", "server_groups"},
	{"flavor", "compute", "/flavors?is_public=None", "flavors"},
	{"aggregate", "compute", "/os-aggregates", "aggregates"},
	{"network", "network", "/v2.0/networks", "networks"},
	{"subnet", "network", "/v2.0/subnets", "subnets"},
	{"port", "network", "/v2.0/ports", "ports"},
	{"router", "network", "/v2.0/routers", "routers"},
	{"floating ip", "network", "/v2.0/floatingips", "floatingips"},
	{"security group", "network", "/v2.0/security-groups", "security_groups"},
	{"volume", "volumev3", "/volumes?all_tenants=1&limit=500", "volumes"},
	{"volume snapshot", "volumev3", "/snapshots?all_tenants=1&limit=500", "snapshots"},
	{"volume backup", "volumev3", "/backups?all_tenants=1&limit=500", "backups"},
	{"volume type", "volumev3", "/types?is_public=None", "volume_types"},
	{"image", "image", "/v2/images?limit=500&member_status=all", "images"},
	{"project", "identity", "/projects", "projects"},
	{"user", "identity", "/users", "users"},
	{"role", "identity", "/roles", "roles"},
}

// Snapshot lists a region as its administrator, over all projects, by plain
// HTTP: nothing that is under test takes part.
func (c *Cloud) Snapshot(ctx context.Context, region string) (Snapshot, error) {
	r, ok := c.regions[region]
	if !ok {
		return nil, fmt.Errorf("region %s was not asked of realcloud.Need", region)
	}
	admin, err := login(ctx, r.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("log in at %s: %w", region, err)
	}
	snap := Snapshot{}
	for _, s := range sources {
		if snap[s.kind], err = admin.list(ctx, s); err != nil {
			return nil, fmt.Errorf("list each %s of %s: %w", s.kind, region, err)
		}
	}
	// Keypairs belong to users, and only their owner is asked for them.
	snap["keypair"] = map[string]string{}
	for user, name := range snap["user"] {
		pairs, err := admin.list(ctx, source{"keypair", "compute", "/os-keypairs?user_id=" + url.QueryEscape(user), "keypairs"})
		if err != nil {
			return nil, fmt.Errorf("list the keypairs of %s at %s: %w", name, region, err)
		}
		for pair := range pairs {
			snap["keypair"][user+"/"+pair] = pair
		}
	}
	return snap, nil
}

// Since returns what is in s and was not in before, as lines "kind id (name)"
// in order.
func (s Snapshot) Since(before Snapshot) []string {
	var out []string
	for kind, things := range s {
		for id, name := range things {
			if _, old := before[kind][id]; !old {
				out = append(out, fmt.Sprintf("%s %s (%s)", kind, id, name))
			}
		}
	}
	slices.Sort(out)
	return out
}

// NothingLeft fails the test if a region still has something that it did not
// have in its snapshot of before. Regions delete in the background, so it looks
// again until patience is over. Whatever else is at work in the region shows
// too: a test that calls it does not run in parallel with others.
func (c *Cloud) NothingLeft(t testing.TB, before map[string]Snapshot, patience time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, region := range slices.Sorted(maps.Keys(before)) {
		for {
			after, err := c.Snapshot(t.Context(), region)
			if err != nil {
				t.Fatal(err)
			}
			left := after.Since(before[region])
			if len(left) == 0 {
				break
			}
			if ctx.Err() != nil {
				t.Errorf("left behind at %s:\n  %s", region, strings.Join(left, "\n  "))
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done(): // and look a last time
			}
		}
	}
}

// session is a token with the catalog that came with it.
type session struct {
	client    http.Client
	token     string
	endpoints map[string]string
}

// login authenticates as admin in project admin.
func login(ctx context.Context, authURL string) (*session, error) {
	s := &session{client: http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}, endpoints: map[string]string{}}
	domain := map[string]string{"id": "default"}
	body, err := json.Marshal(map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": "admin", "domain": domain, "password": Password}}},
		"scope": map[string]any{"project": map[string]any{"name": "admin", "domain": domain}},
	}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Token struct {
			Catalog []struct {
				Type      string `json:"type"`
				Endpoints []struct {
					Interface string `json:"interface"`
					URL       string `json:"url"`
				} `json:"endpoints"`
			} `json:"catalog"`
		} `json:"token"`
	}
	header, err := s.do(ctx, http.MethodPost, authURL+"/auth/tokens", body, &answer)
	if err != nil {
		return nil, err
	}
	s.token = header.Get("X-Subject-Token")
	for _, service := range answer.Token.Catalog {
		for _, e := range service.Endpoints {
			if e.Interface == "public" {
				s.endpoints[service.Type] = strings.TrimRight(e.URL, "/")
			}
		}
	}
	s.endpoints["identity"] = authURL
	return s, nil
}

// list returns the ids and names of one kind, over all pages.
func (s *session) list(ctx context.Context, from source) (map[string]string, error) {
	base, ok := s.endpoints[from.service]
	if !ok {
		return nil, fmt.Errorf("no endpoint of type %s in the catalog", from.service)
	}
	found := map[string]string{}
	for at := base + from.path; at != ""; {
		var page map[string]json.RawMessage
		if _, err := s.do(ctx, http.MethodGet, at, nil, &page); err != nil {
			return nil, err
		}
		if err := collect(page[from.key], found); err != nil {
			return nil, fmt.Errorf("GET %s: %w", at, err)
		}
		next, err := nextPage(page, from.key)
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w", at, err)
		}
		if at, err = resolve(at, next); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// thing is the part of a listed object that all services agree on; a keypair
// wraps it once more and has its name for an id.
type thing struct {
	ID      any    `json:"id"` // text, but a number for aggregates
	Name    string `json:"name"`
	Keypair *thing `json:"keypair"`
}

func collect(list json.RawMessage, found map[string]string) error {
	if list == nil {
		return fmt.Errorf("the answer has no such list")
	}
	var things []thing
	if err := json.Unmarshal(list, &things); err != nil {
		return err
	}
	for _, one := range things {
		if one.Keypair != nil {
			one = thing{ID: one.Keypair.Name, Name: one.Keypair.Name}
		}
		found[fmt.Sprint(one.ID)] = one.Name
	}
	return nil
}

// nextPage finds the link to the next page: compute, volume and network have
// KEY_links, image has a member "next"; identity answers in one page.
func nextPage(page map[string]json.RawMessage, key string) (string, error) {
	if raw := page["next"]; raw != nil {
		var next string
		return next, json.Unmarshal(raw, &next)
	}
	var links []struct {
		Rel  string `json:"rel"`
		Href string `json:"href"`
	}
	if raw := page[key+"_links"]; raw != nil {
		if err := json.Unmarshal(raw, &links); err != nil {
			return "", err
		}
	}
	for _, l := range links {
		if l.Rel == "next" {
			return l.Href, nil
		}
	}
	return "", nil
}

func resolve(at, next string) (string, error) {
	if next == "" {
		return "", nil
	}
	base, err := url.Parse(at)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(next)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// do sends one request and decodes the answer into v.
func (s *session) do(ctx context.Context, method, at string, body []byte, v any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", "compute 2.79, volume 3.60")
	if s.token != "" {
		req.Header.Set("X-Auth-Token", s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %s", method, at, resp.Status, bytes.TrimSpace(data))
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, at, err)
	}
	return resp.Header, nil
}
