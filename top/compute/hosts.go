package compute

import (
	"strings"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/registry"
	"github.com/headwater-cloud/headwater/top/wire"
)

// A site looks like one compute host in a zone of its own name (top/README.md: Hosts).

func listZones(detail bool) func(*call) error {
	return func(k *call) error {
		zones, err := k.h.service.Zones(k.ctx(), k.caller)
		if err != nil {
			return err
		}
		hosts := map[string]object{}
		if detail {
			all, err := k.h.service.Hosts(k.ctx(), k.caller)
			if err != nil {
				return err
			}
			for i := range all {
				hosts[string(all[i].Name)] = object{string(all[i].Name): object{"nova-compute": object{
					"available": all[i].Usable(), "active": all[i].Enabled, "updated_at": wire.Micros(all[i].Health.CheckedAt),
				}}}
			}
		}
		out := []object{}
		for _, z := range zones {
			o := object{"zoneName": z.Name, "zoneState": object{"available": z.Available}, "hosts": nil}
			if detail {
				o["hosts"] = object{}
				if h, ok := hosts[z.Name]; ok {
					o["hosts"] = h
				}
			}
			out = append(out, o)
		}
		return k.ok(object{"availabilityZoneInfo": out})
	}
}

func (k *call) hypervisorID(s *registry.Site) any {
	if k.v.AtLeast(53) {
		return siteUUID(string(s.Name))
	}
	return smallID(string(s.Name))
}

// siteUUID is a UUID that stays with a site's name.
func siteUUID(name string) string {
	hex := strings.Builder{}
	for _, salt := range []string{"0", "1", "2", "3"} {
		const digits = "0123456789abcdef"
		n := smallID(salt + name)
		for range 8 {
			hex.WriteByte(digits[n&15])
			n >>= 4
		}
	}
	h := hex.String()
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}

func (k *call) hypervisor(s *registry.Site, detail bool) object {
	state, status := "up", "enabled"
	if s.Health.State == registry.Down {
		state = "down"
	}
	if ok, _ := s.Placeable(); !ok && state == "up" {
		status = "disabled"
	}
	o := object{"id": k.hypervisorID(s), "hypervisor_hostname": s.Name, "state": state, "status": status}
	if !detail {
		return o
	}
	c := s.Capabilities.Capacity
	o["hypervisor_type"], o["hypervisor_version"], o["host_ip"] = "headwater-site", 1000, nil
	o["service"] = object{"id": k.hypervisorID(s), "host": s.Name, "disabled_reason": orNull(reasonOf(s))}
	if k.v.AtLeast(88) {
		o["uptime"] = nil
	} else {
		o["vcpus"], o["vcpus_used"], o["memory_mb"], o["memory_mb_used"], o["free_ram_mb"] = c.VCPUs, c.VCPUsUsed, c.RAM, c.RAMUsed, c.RAM-c.RAMUsed
		o["local_gb"], o["local_gb_used"], o["free_disk_gb"], o["disk_available_least"] = c.Disk, c.DiskUsed, c.Disk-c.DiskUsed, c.Disk-c.DiskUsed
		o["running_vms"], o["current_workload"] = c.Running, 0
		o["cpu_info"] = any(object{})
		if !k.v.AtLeast(28) {
			o["cpu_info"] = "{}"
		}
	}
	return o
}

func reasonOf(s *registry.Site) string {
	if ok, why := s.Placeable(); !ok {
		return why
	}
	return ""
}

func (k *call) hosts() ([]registry.Site, error) { return k.h.service.Hosts(k.ctx(), k.caller) }

func listHypervisors(detail bool) func(*call) error {
	return func(k *call) error {
		p, err := k.page()
		if err != nil {
			return err
		}
		all, err := k.hosts()
		if err != nil {
			return err
		}
		out, skip := []object{}, p.Marker != ""
		for i := range all {
			if skip {
				skip = siteUUID(string(all[i].Name)) != p.Marker
				continue
			}
			if pattern := k.QueryParam("hypervisor_hostname_pattern"); len(out) < p.Limit && strings.Contains(string(all[i].Name), pattern) {
				o := k.hypervisor(&all[i], detail)
				if err := k.withServers(o, &all[i]); err != nil {
					return err
				}
				out = append(out, o)
			}
		}
		return k.ok(object{"hypervisors": out})
	}
}

func (k *call) withServers(o object, s *registry.Site) error {
	var want wire.Bool
	if !k.v.AtLeast(53) || k.QueryParam("with_servers") == "" || want.UnmarshalJSON([]byte(k.QueryParam("with_servers"))) != nil || !bool(want) {
		return nil
	}
	list, err := k.serversAt(s)
	o["servers"] = list
	return err
}

func (k *call) serversAt(s *registry.Site) ([]object, error) {
	rows, err := k.h.service.ServersAt(k.ctx(), s.Name)
	out := []object{}
	for _, r := range rows {
		out = append(out, object{"uuid": r.ID, "name": r.Name})
	}
	return out, err
}

// host finds a site by what a path calls it: its number, UUID or name.
func (k *call) host(id string) (*registry.Site, error) {
	all, err := k.hosts()
	if err != nil {
		return nil, err
	}
	for i := range all {
		name := string(all[i].Name)
		if id == name || id == siteUUID(name) || id == wireNumber(smallID(name)) {
			return &all[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "top/compute", "Hypervisor with ID '%s' could not be found.", id)
}

func showHypervisor(k *call) error {
	s, err := k.host(k.Param("id"))
	if err != nil {
		return err
	}
	o := k.hypervisor(s, true)
	if err := k.withServers(o, s); err != nil {
		return err
	}
	return k.ok(object{"hypervisor": o})
}

func searchHypervisors(servers bool) func(*call) error {
	return func(k *call) error {
		all, err := k.hosts()
		if err != nil {
			return err
		}
		out := []object{}
		for i := range all {
			if !strings.Contains(string(all[i].Name), k.Param("id")) {
				continue
			}
			o := k.hypervisor(&all[i], false)
			if servers {
				if o["servers"], err = k.serversAt(&all[i]); err != nil {
					return err
				}
			}
			out = append(out, o)
		}
		if len(out) == 0 {
			return fault.New(fault.NotFound, "top/compute", "No hypervisor matching '%s' could be found.", k.Param("id"))
		}
		return k.ok(object{"hypervisors": out})
	}
}

func uptime(k *call) error {
	s, err := k.host(k.Param("id"))
	if err != nil {
		return err
	}
	o := k.hypervisor(s, false)
	o["uptime"] = "up since " + wire.Time(s.Health.Since)
	return k.ok(object{"hypervisor": o})
}

func hypervisorStatistics(k *call) error {
	all, err := k.hosts()
	if err != nil {
		return err
	}
	var sum sites.Capacity
	for i := range all {
		c := all[i].Capabilities.Capacity
		sum.VCPUs, sum.VCPUsUsed, sum.RAM, sum.RAMUsed = sum.VCPUs+c.VCPUs, sum.VCPUsUsed+c.VCPUsUsed, sum.RAM+c.RAM, sum.RAMUsed+c.RAMUsed
		sum.Disk, sum.DiskUsed, sum.Running = sum.Disk+c.Disk, sum.DiskUsed+c.DiskUsed, sum.Running+c.Running
	}
	return k.ok(object{"hypervisor_statistics": object{
		"count": len(all), "vcpus": sum.VCPUs, "vcpus_used": sum.VCPUsUsed, "memory_mb": sum.RAM, "memory_mb_used": sum.RAMUsed,
		"free_ram_mb": sum.RAM - sum.RAMUsed, "local_gb": sum.Disk, "local_gb_used": sum.DiskUsed, "free_disk_gb": sum.Disk - sum.DiskUsed,
		"disk_available_least": sum.Disk - sum.DiskUsed, "running_vms": sum.Running, "current_workload": 0,
	}})
}

func listServices(k *call) error {
	all, err := k.hosts()
	if err != nil {
		return err
	}
	out := []object{}
	for i := range all {
		s := &all[i]
		if h, b := k.QueryParam("host"), k.QueryParam("binary"); h != "" && h != string(s.Name) || b != "" && b != "nova-compute" {
			continue
		}
		state, status := "up", "enabled"
		if s.Health.State == registry.Down {
			state = "down"
		}
		if !s.Enabled || s.Draining {
			status = "disabled"
		}
		o := object{
			"id": k.hypervisorID(s), "binary": "nova-compute", "host": s.Name, "zone": s.Name, "state": state, "status": status,
			"updated_at": wire.Micros(s.Health.CheckedAt), "disabled_reason": orNull(reasonOf(s)),
		}
		if k.v.AtLeast(11) {
			o["forced_down"] = false
		}
		out = append(out, o)
	}
	return k.ok(object{"services": out})
}

func (k *call) aggregate(s *registry.Site) object {
	o := object{
		"id": smallID(string(s.Name)), "name": s.Name, "availability_zone": s.Name, "hosts": []any{s.Name}, "metadata": object{"availability_zone": s.Name},
		"created_at": wire.Micros(s.Created), "updated_at": wire.Micros(s.Updated), "deleted": false, "deleted_at": nil,
	}
	if k.v.AtLeast(41) {
		o["uuid"] = siteUUID(string(s.Name))
	}
	return o
}

func listAggregates(k *call) error {
	all, err := k.hosts()
	if err != nil {
		return err
	}
	out := []object{}
	for i := range all {
		out = append(out, k.aggregate(&all[i]))
	}
	return k.ok(object{"aggregates": out})
}

func showAggregate(k *call) error {
	s, err := k.host(k.Param("id"))
	if err != nil {
		return fault.New(fault.NotFound, "top/compute", "Aggregate %s could not be found.", k.Param("id"))
	}
	return k.ok(object{"aggregate": k.aggregate(s)})
}

// fixedHosts refuses what would change hosts, services or aggregates: they are the sites, and the operator's API manages
// those. What is not there is not found first. Before 2.53 a service was named in the body.
func fixedHosts(k *call) error {
	if id := k.id(); id != "" && id != "enable" && id != "disable" && id != "disable-log-reason" && id != "force-down" {
		if _, err := k.host(id); err != nil {
			return fault.New(fault.NotFound, "top/compute", "%s could not be found.", id)
		}
	}
	return fault.New(fault.Conflict, "top/compute", "Hosts, services and aggregates are Top's sites: manage them with headwater site.")
}
