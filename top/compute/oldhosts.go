package compute

import (
	"slices"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/wire"
)

// lastHosts is the last microversion of os-hosts (nova/api/openstack/compute/hosts.py); hypervisors and services took over.
const lastHosts = 42

// listHosts shows each site as one compute host in the zone of its name.
func listHosts(k *call) error {
	all, err := k.hosts()
	if err != nil {
		return err
	}
	out := []object{}
	for i := range all {
		name := string(all[i].Name)
		if zone := k.QueryParam("zone"); zone == "" || zone == name {
			out = append(out, object{"host_name": name, "service": "compute", "zone": name})
		}
	}
	return k.ok(object{"hosts": out})
}

// hostNamed finds a site by name alone, as hosts have no other id.
func (k *call) hostNamed() (*registry.Site, error) {
	all, err := k.hosts()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s registry.Site) bool { return string(s.Name) == k.id() })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "top/compute", "Compute host %s could not be found.", k.id())
	}
	return &all[i], nil
}

// showHost handles GET /os-hosts/NAME: what the host has, and what of it is in use.
func showHost(k *call) error {
	s, err := k.hostNamed()
	if err != nil {
		return err
	}
	c := s.Capabilities.Capacity
	resource := func(project string, cpu, ram, disk any) object {
		return object{"resource": object{"host": s.Name, "project": project, "cpu": cpu, "memory_mb": ram, "disk_gb": disk}}
	}
	return k.ok(object{"host": []object{resource("(total)", c.VCPUs, c.RAM, c.Disk), resource("(used_now)", c.VCPUsUsed, c.RAMUsed, c.DiskUsed)}})
}

// updateHost checks as Nova does, and then refuses: hosts are sites.
func updateHost(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	var status, maintenance *string
	if err := m.TakeAll(wire.Field{Key: "status", Into: &status}, wire.Field{Key: "maintenance_mode", Into: &maintenance}); err != nil {
		return err
	}
	if status == nil && maintenance == nil {
		return wire.BadRequest("Invalid input for field/attribute. Either status or maintenance_mode is required")
	}
	for name, value := range map[string]*string{"status": status, "maintenance_mode": maintenance} {
		if value != nil && *value != "enable" && *value != "disable" {
			return wire.BadRequest("Invalid input for field/attribute %s. Value: %.60s. It must be enable or disable", name, *value)
		}
	}
	if err := closed(m); err != nil {
		return err
	}
	return powerHost(k)
}

// powerHost refuses to start, stop or change a host that is there.
func powerHost(k *call) error {
	if _, err := k.hostNamed(); err != nil {
		return err
	}
	return fixedHosts(k)
}
