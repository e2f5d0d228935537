package sitetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// recipe says how one resource of a kind is made, changed and recognised.
type recipe struct {
	kind   sites.Kind
	body   func(s *suite, t *testing.T) sites.Body // makes what the resource needs, too
	status string                                  // the one it comes to rest in; "" when it has none
	change sites.Body                              // nil: the kind cannot be changed
	shows  []string                                // members that Headwater has no use for but must keep
}

// publicKey is an ed25519 key whose private half nobody kept.
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVwLnQKvDHQhQTvB5oLSkBBhKHJDk0PcLtQ0VZ9k8gM hwtest"

var recipes = []recipe{
	{kind: sites.Keypair, shows: []string{"fingerprint", "public_key"}, body: func(*suite, *testing.T) sites.Body {
		return sites.Body{"public_key": publicKey}
	}},
	{kind: sites.ServerGroup, shows: []string{"members"}, body: func(*suite, *testing.T) sites.Body {
		return sites.Body{"policy": "anti-affinity"}
	}},
	{kind: sites.Image, status: "queued", change: sites.Body{"name": "changed", "note": "new"}, shows: []string{"custom", "file", "schema"},
		body: func(s *suite, _ *testing.T) sites.Body {
			return sites.Body{"name": s.prefix, "disk_format": "raw", "container_format": "bare", "custom": "kept"}
		}},
	{kind: sites.Network, status: "ACTIVE", change: sites.Body{"name": "changed"}, shows: []string{"mtu", "port_security_enabled"},
		body: func(s *suite, _ *testing.T) sites.Body { return sites.Body{"name": s.prefix} }},
	{kind: sites.Subnet, change: sites.Body{"name": "changed"}, shows: []string{"allocation_pools", "host_routes"},
		body: func(s *suite, t *testing.T) sites.Body { return s.subnetBody(t, s.network(t)) }},
	{kind: sites.Port, change: sites.Body{"name": "changed"}, shows: []string{"mac_address", "allowed_address_pairs"},
		body: func(s *suite, t *testing.T) sites.Body {
			network, _ := s.subnet(t)
			return sites.Body{"network_id": network, "name": s.prefix, "mac_address": "fa:16:3e:00:5e:01"}
		}},
	{kind: sites.Router, status: "ACTIVE", change: sites.Body{"name": "changed"}, shows: []string{"routes", "admin_state_up"},
		body: func(s *suite, _ *testing.T) sites.Body { return sites.Body{"name": s.prefix} }},
	{kind: sites.FloatingIP, shows: []string{"floating_ip_address", "status"},
		body: func(s *suite, _ *testing.T) sites.Body {
			return sites.Body{"floating_network_id": string(s.caps.ExternalNetworks[0].ID)}
		}},
	{kind: sites.SecurityGroup, change: sites.Body{"name": "changed"}, shows: []string{"security_group_rules"},
		body: func(s *suite, _ *testing.T) sites.Body { return sites.Body{"name": s.prefix} }},
	{kind: sites.SecurityGroupRule, shows: []string{"ethertype", "port_range_min"},
		body: func(s *suite, t *testing.T) sites.Body {
			group, _ := s.create(t, sites.SecurityGroup, sites.Body{"name": s.prefix})
			return sites.Body{"security_group_id": string(group.ID), "direction": "ingress", "protocol": "tcp",
				"port_range_min": 22, "port_range_max": 22, "ethertype": "IPv4"}
		}},
	{kind: sites.Volume, status: "available", change: sites.Body{"name": "changed"}, shows: []string{"bootable", "attachments"},
		body: func(s *suite, _ *testing.T) sites.Body {
			return sites.Body{"name": s.prefix, "size": 1, "metadata": map[string]any{"mine": "kept"}}
		}},
	{kind: sites.Snapshot, status: "available", change: sites.Body{"name": "changed"}, shows: []string{"volume_id", "size"},
		body: func(s *suite, t *testing.T) sites.Body {
			return sites.Body{"name": s.prefix, "volume_id": string(s.volume(t)), "metadata": map[string]any{"mine": "kept"}}
		}},
	{kind: sites.Backup, status: "available", change: sites.Body{"description": "changed"}, shows: []string{"volume_id", "container"},
		body: func(s *suite, t *testing.T) sites.Body { return sites.Body{"volume_id": string(s.volume(t))} }},
}

// network, subnet and volume make what other kinds need.
func (s *suite) network(t *testing.T) string {
	t.Helper()
	made, _ := s.create(t, sites.Network, sites.Body{"name": s.prefix})
	return string(made.ID)
}

func (s *suite) subnetBody(_ *testing.T, network string) sites.Body {
	return sites.Body{"network_id": network, "name": s.prefix, "cidr": "10.87.0.0/24", "ip_version": 4}
}

func (s *suite) subnet(t *testing.T) (network, subnet string) {
	t.Helper()
	network = s.network(t)
	made, _ := s.create(t, sites.Subnet, s.subnetBody(t, network))
	return network, string(made.ID)
}

func (s *suite) volume(t *testing.T) ident.BottomID {
	t.Helper()
	made, _ := s.create(t, sites.Volume, sites.Body{"name": s.prefix, "size": 1})
	s.until(t, sites.Volume, made.ID, "available")
	return made.ID
}

// life takes a resource from its creation to its end.
func (s *suite) life(t *testing.T, r recipe) {
	t.Parallel()
	s.without(t, r.kind)
	body := r.body(s, t)
	made, marker := s.create(t, r.kind, body)
	s.found(t, r.kind, marker, made.ID)
	if r.status != "" {
		s.until(t, r.kind, made.ID, r.status)
	}
	shown, err := s.member.Show(t.Context(), r.kind, made.ID)
	if err != nil {
		t.Fatalf("show %s: %v", r.kind, err)
	}
	if id, ok := sites.MarkerOf(shown.Body); !ok || id != marker {
		t.Errorf("the shown %s carries the marker %q, want %q", r.kind, id, marker)
	}
	for _, key := range r.shows {
		if _, ok := shown.Body[key]; !ok {
			t.Errorf("the shown %s lacks %q; it has %v", r.kind, key, keys(shown.Body))
		}
	}
	if n := with(list(t, s.member, r.kind, sites.Query{PageSize: 2}), made.ID); n != 1 {
		t.Errorf("a listing with pages of 2 has the %s %d times, want once", r.kind, n)
	}
	if r.change != nil {
		s.changed(t, r, made.ID)
		s.found(t, r.kind, marker, made.ID)
	}
	s.end(t, r.kind, made.ID, marker)
}

func keys(b sites.Body) []string {
	var names []string
	for k := range b {
		names = append(names, k)
	}
	return names
}

// found asserts that the marker, and no other, leads an ordinary user to the one resource.
func (s *suite) found(t *testing.T, kind sites.Kind, marker ident.TopID, id ident.BottomID) {
	t.Helper()
	got, err := s.member.FindMarked(t.Context(), kind, marker)
	if err != nil || len(got) != 1 || got[0].ID != id {
		t.Errorf("find %s by its marker: %d found, error %v; want %s", kind, len(got), err, id)
	}
	if got, err := s.member.FindMarked(t.Context(), kind, ident.NewTopID()); err != nil || len(got) != 0 {
		t.Errorf("find %s by a marker that nothing carries: %d found, error %v; want none", kind, len(got), err)
	}
}

func (s *suite) changed(t *testing.T, r recipe, id ident.BottomID) {
	t.Helper()
	if _, err := s.member.Update(t.Context(), r.kind, id, r.change); err != nil {
		t.Fatalf("update %s: %v", r.kind, err)
	}
	shown, err := s.member.Show(t.Context(), r.kind, id)
	if err != nil {
		t.Fatalf("show the changed %s: %v", r.kind, err)
	}
	for key, value := range r.change {
		if fmt.Sprint(shown.Body[key]) != fmt.Sprint(value) {
			t.Errorf("%s of the changed %s is %v, want %v", key, r.kind, shown.Body[key], value)
		}
	}
}

// end deletes a resource and asserts that nothing finds it any more.
func (s *suite) end(t *testing.T, kind sites.Kind, id ident.BottomID, marker ident.TopID) {
	t.Helper()
	if err := s.member.Delete(t.Context(), kind, id); err != nil {
		t.Fatalf("delete %s: %v", kind, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), s.target.Wait)
	defer cancel()
	err := s.poll(ctx, func() (bool, error) {
		shown, err := s.member.Show(ctx, kind, id)
		if fault.Is(err, fault.NotFound) {
			return true, nil
		}
		return shown.Text("status") == "deleted", err
	})
	if err != nil {
		t.Fatalf("the deleted %s to be gone: %v", kind, err)
	}
	want(t, "delete what is gone: "+string(kind), s.member.Delete(t.Context(), kind, id), fault.NotFound)
	if got, err := s.member.FindMarked(t.Context(), kind, marker); err != nil || len(got) != 0 {
		t.Errorf("find the deleted %s: %d found, error %v; want none", kind, len(got), err)
	}
}
