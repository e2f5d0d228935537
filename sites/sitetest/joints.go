package sitetest

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// do makes one call that must be accepted.
func (s *suite) do(t *testing.T, r sites.Request) sites.Reply {
	t.Helper()
	reply, err := s.member.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	return reply
}

// joints ties resources together by Do, the way the cascade does, and takes them apart.
func (s *suite) joints(t *testing.T) {
	t.Parallel()
	network, subnet := s.subnet(t)
	router, _ := s.create(t, sites.Router, sites.Body{"name": s.prefix,
		"external_gateway_info": map[string]any{"network_id": string(s.caps.ExternalNetworks[0].ID)}})
	leg, marker := s.create(t, sites.Port, sites.Body{"network_id": network,
		"fixed_ips": []any{map[string]any{"subnet_id": subnet, "ip_address": "10.87.0.1"}}})
	path := "routers/" + string(router.ID)
	s.do(t, sites.Request{Service: sites.NetworkSvc, Method: http.MethodPut, Path: path + "/add_router_interface", Body: sites.Body{"port_id": string(leg.ID)}})
	// A router's leg has no marker of its own: the port made for it keeps it.
	s.found(t, sites.Port, marker, leg.ID)
	shown, err := s.member.Show(t.Context(), sites.Port, leg.ID)
	if err != nil || shown.Text("device_id") != string(router.ID) || shown.Text("device_owner") != "network:router_interface" {
		t.Errorf("the leg belongs to %q as %q, error %v; want the router", shown.Text("device_id"), shown.Text("device_owner"), err)
	}
	port, _ := s.create(t, sites.Port, sites.Body{"network_id": network})
	address, fipMarker := s.create(t, sites.FloatingIP, sites.Body{"floating_network_id": string(s.caps.ExternalNetworks[0].ID), "port_id": string(port.ID)})
	s.found(t, sites.FloatingIP, fipMarker, address.ID)
	if address.Text("port_id") != string(port.ID) || address.Text("router_id") != string(router.ID) {
		t.Errorf("the floating IP is at port %q by router %q", address.Text("port_id"), address.Text("router_id"))
	}
	at := list(t, s.member, sites.FloatingIP, sites.Query{Params: url.Values{"port_id": {string(port.ID)}}})
	if len(at) != 1 || at[0].ID != address.ID {
		t.Errorf("%d floating IPs at the port, want the one", len(at))
	}
	if freed, err := s.member.Update(t.Context(), sites.FloatingIP, address.ID, sites.Body{"port_id": nil}); err != nil || freed.Body["port_id"] != nil {
		t.Errorf("take the floating IP off: port %v, error %v", freed.Body["port_id"], err)
	}
	s.do(t, sites.Request{Service: sites.NetworkSvc, Method: http.MethodPut, Path: path + "/remove_router_interface", Body: sites.Body{"port_id": string(leg.ID)}})
	if got, err := s.member.FindMarked(t.Context(), sites.Port, marker); err != nil || len(got) != 0 {
		t.Errorf("after the leg was removed its port is found %d times, error %v; Neutron deletes it with the leg", len(got), err)
	}
}

// attach puts a volume on a server and takes it off again.
func (s *suite) attach(t *testing.T, server ident.BottomID) {
	t.Helper()
	if _, ok := s.target.Without[sites.Volume]; ok {
		return
	}
	volume := s.volume(t)
	path := "servers/" + string(server) + "/os-volume_attachments"
	s.do(t, sites.Request{Service: sites.Compute, Method: http.MethodPost, Path: path, Body: sites.Body{"volumeAttachment": map[string]any{"volumeId": string(volume)}}})
	shown := s.until(t, sites.Volume, volume, "in-use")
	if held, _ := shown.Body["attachments"].([]any); len(held) != 1 {
		t.Errorf("the volume's attachments are %v, want one", shown.Body["attachments"])
	}
	if err := s.member.Delete(t.Context(), sites.Volume, volume); err == nil {
		t.Error("a volume in use could be deleted")
	}
	s.do(t, sites.Request{Service: sites.Compute, Method: http.MethodDelete, Path: path + "/" + string(volume)})
	s.until(t, sites.Volume, volume, "available")
}

// resize makes a server larger and keeps it so.
func (s *suite) resize(t *testing.T, id ident.BottomID) {
	t.Helper()
	small, large := s.flavor(t), ident.BottomID("")
	for _, f := range s.caps.Flavors {
		if f.Public && f.Disk >= 1 && f.ID != small && f.RAM <= 4096 {
			large = f.ID
		}
	}
	if large == "" {
		return
	}
	s.act(t, id, sites.Body{"resize": map[string]any{"flavorRef": string(large)}})
	s.until(t, sites.Server, id, "VERIFY_RESIZE")
	s.act(t, id, sites.Body{"confirmResize": nil})
	ctx, cancel := context.WithTimeout(t.Context(), s.target.Wait)
	defer cancel()
	if err := s.poll(ctx, func() (bool, error) {
		shown, err := s.member.Show(ctx, sites.Server, id)
		return shown.Text("status") == "ACTIVE" && shown.Body["OS-EXT-STS:task_state"] == nil, err
	}); err != nil {
		t.Errorf("the resized server to become ACTIVE: %v", err)
	}
}
