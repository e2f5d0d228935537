package compute

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// networkFields and networkAdminFields are the members of Nova's networks, nearly all of them null since nova-network is
// gone (nova/api/openstack/compute/networks.py).
var (
	networkFields      = []string{"cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6"}
	networkAdminFields = []string{
		"created_at", "updated_at", "deleted_at", "deleted", "injected", "bridge", "vlan", "vpn_public_address", "vpn_public_port",
		"vpn_private_address", "dhcp_start", "project_id", "host", "bridge_interface", "multi_host", "priority", "rxtx_base", "mtu",
		"dhcp_server", "enable_dhcp", "share_address",
	}
)

func (k *call) oldNetwork(n object) object {
	out := object{"id": n["id"], "label": n["name"]}
	for _, name := range networkFields {
		out[name] = nil
	}
	if k.caller.Admin() {
		for _, name := range networkAdminFields {
			out[name] = nil
		}
	}
	return out
}

// tenantNetwork has the text "None" for its range, as Nova's has.
func tenantNetwork(n object) object {
	return object{"id": n["id"], "label": n["name"], "cidr": "None"}
}

func (k *call) networks(show func(object) object) error {
	list, err := k.many("/network/v2.0/networks", "networks", nil)
	if err != nil {
		return err
	}
	return k.ok(object{"networks": each(list, show)})
}

func (k *call) network(show func(object) object) error {
	n, err := k.one(http.MethodGet, "/network/v2.0/networks/"+url.PathEscape(k.id()), "network", nil)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "top/compute", "Network not found")
	}
	if err != nil {
		return err
	}
	return k.ok(object{"network": show(n)})
}

func listOldNetworks(k *call) error    { return k.networks(k.oldNetwork) }
func showOldNetwork(k *call) error     { return k.network(k.oldNetwork) }
func listTenantNetworks(k *call) error { return k.networks(tenantNetwork) }
func showTenantNetwork(k *call) error  { return k.network(tenantNetwork) }

// pools are the external networks.
func (k *call) pools() ([]object, error) {
	return k.many("/network/v2.0/networks", "networks", url.Values{"router:external": {"true"}})
}

func listPools(k *call) error {
	list, err := k.pools()
	if err != nil {
		return err
	}
	return k.ok(object{"floating_ip_pools": each(list, func(n object) object { return object{"name": poolName(n)} })})
}

func poolName(n object) string {
	if name, _ := n["name"].(string); name != "" {
		return name
	}
	id, _ := n["id"].(string)
	return id
}

// floatingViews shows floating IPs with the names of their pools and the servers that they lead to.
func (k *call) floatingViews(list []object) ([]object, error) {
	pools, err := k.pools()
	if err != nil {
		return nil, err
	}
	names := map[any]string{}
	for _, n := range pools {
		names[n["id"]] = poolName(n)
	}
	return each(list, func(f object) object {
		var server any
		if port, _ := f["port_id"].(string); port != "" {
			if p, err := k.one(http.MethodGet, "/network/v2.0/ports/"+port, "port", nil); err == nil {
				server = p["device_id"]
			}
		}
		return object{"id": f["id"], "ip": f["floating_ip_address"], "pool": names[f["floating_network_id"]], "fixed_ip": f["fixed_ip_address"], "instance_id": server}
	}), nil
}

func (k *call) answerFloating(f object) error {
	views, err := k.floatingViews([]object{f})
	if err != nil {
		return err
	}
	return k.ok(object{"floating_ip": views[0]})
}

func listFloatingIPs(k *call) error {
	list, err := k.many("/network/v2.0/floatingips", "floatingips", url.Values{"project_id": {k.caller.ProjectID}})
	if err != nil {
		return err
	}
	views, err := k.floatingViews(list)
	if err != nil {
		return err
	}
	return k.ok(object{"floating_ips": views})
}

func (k *call) floatingIP() (object, error) {
	f, err := k.one(http.MethodGet, "/network/v2.0/floatingips/"+url.PathEscape(k.id()), "floatingip", nil)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "top/compute", "Floating IP not found for ID %s", k.id())
	}
	return f, err
}

func showFloatingIP(k *call) error {
	f, err := k.floatingIP()
	if err != nil {
		return err
	}
	return k.answerFloating(f)
}

// createFloatingIP takes an address of the named pool, or of the first one.
func createFloatingIP(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	var want *string
	if err := m.TakeAll(wire.Field{Key: "pool", Into: &want}); err != nil {
		return err
	}
	pools, err := k.pools()
	if err != nil {
		return err
	}
	for _, n := range pools {
		if want == nil || *want == n["name"] || *want == n["id"] {
			f, err := k.one(http.MethodPost, "/network/v2.0/floatingips", "floatingip", object{"floatingip": object{"floating_network_id": n["id"]}})
			if err != nil {
				return err
			}
			return k.answerFloating(f)
		}
	}
	return fault.New(fault.NotFound, "top/compute", "Floating IP pool not found.")
}

func deleteFloatingIP(k *call) error {
	f, err := k.floatingIP()
	if err != nil {
		return err
	}
	if _, err := k.elsewhere(http.MethodDelete, "/network/v2.0/floatingips/"+f["id"].(string), nil, nil); err != nil {
		return err
	}
	return k.NoContent(http.StatusAccepted)
}

// byAddress finds the project's floating IP with an address.
func (k *call) byAddress(address string) (object, error) {
	list, err := k.many("/network/v2.0/floatingips", "floatingips", url.Values{"project_id": {k.caller.ProjectID}, "floating_ip_address": {address}})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.NotFound, "top/compute", "floating IP not found")
	}
	return list[0], nil
}

// associate is the action addFloatingIp: it leads to the named fixed address, else to the server's first one of IPv4.
func (k *call) associate(server, address, fixed string) error {
	f, err := k.byAddress(address)
	if err != nil {
		return err
	}
	ports, err := k.many("/network/v2.0/ports", "ports", url.Values{"device_id": {server}})
	if err != nil {
		return err
	}
	for _, p := range ports {
		ips, _ := p["fixed_ips"].([]any)
		for _, ip := range ips {
			one, _ := ip.(object)
			text, _ := one["ip_address"].(string)
			addr, err := netip.ParseAddr(text)
			if err != nil || fixed != "" && text != fixed || fixed == "" && !addr.Is4() {
				continue
			}
			body := object{"floatingip": object{"port_id": p["id"], "fixed_ip_address": text}}
			_, err = k.elsewhere(http.MethodPut, "/network/v2.0/floatingips/"+f["id"].(string), nil, body)
			return err
		}
	}
	if fixed != "" {
		return wire.BadRequest("Specified fixed address not assigned to instance")
	}
	return wire.BadRequest("No fixed IPs associated to instance")
}

// dissociate is the action removeFloatingIp.
func (k *call) dissociate(server, address string) error {
	f, err := k.byAddress(address)
	if err != nil {
		return err
	}
	views, err := k.floatingViews([]object{f})
	if err != nil {
		return err
	}
	if views[0]["instance_id"] != server {
		return fault.New(fault.Conflict, "top/compute", "Floating IP %s is not associated with instance %s.", address, server)
	}
	_, err = k.elsewhere(http.MethodPut, "/network/v2.0/floatingips/"+f["id"].(string), nil, object{"floatingip": object{"port_id": nil}})
	return err
}

// addFloatingIP is the action addFloatingIp.
func addFloatingIP(k *call, raw json.RawMessage) error {
	m, err := arguments("addFloatingIp", raw)
	if err != nil {
		return err
	}
	var address, fixed string
	if err := m.TakeAll(wire.Field{Key: "address", Into: &address}, wire.Field{Key: "fixed_address", Into: &fixed}); err != nil {
		return err
	}
	one, err := k.h.service.Server(k.ctx(), k.caller, k.id())
	if err != nil {
		return err
	}
	if err := k.associate(string(one.ID), address, fixed); err != nil {
		return err
	}
	return k.accepted()
}

// removeFloatingIP is the action removeFloatingIp.
func removeFloatingIP(k *call, raw json.RawMessage) error {
	m, err := arguments("removeFloatingIp", raw)
	if err != nil {
		return err
	}
	var address string
	if err := m.Take("address", &address); err != nil {
		return err
	}
	one, err := k.h.service.Server(k.ctx(), k.caller, k.id())
	if err != nil {
		return err
	}
	if err := k.dissociate(string(one.ID), address); err != nil {
		return err
	}
	return k.accepted()
}
