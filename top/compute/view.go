package compute

import (
	"maps"
	"slices"
	"strings"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/wire"
)

type object = map[string]any

// seen is what a server's view needs besides its row.
type seen struct {
	ports  map[ident.TopID][]engine.Interface
	groups map[ident.TopID]string
	ages   map[ident.SiteID]engine.Age
	admin  bool
	// single says that one server is shown: some members are not in lists.
	single bool
	// brief leaves out what PUT and rebuild did not show before 2.75.
	brief bool
}

// look reads what the views of servers need, in a few queries for all of them.
func (k *call) look(list []*engine.Server) (*seen, error) {
	s := &seen{admin: k.caller.Admin()}
	ids := make([]ident.TopID, len(list))
	var groups []ident.TopID
	for i, one := range list {
		ids[i] = one.ID
		for _, g := range one.Spec.Groups {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
	}
	var err error
	if s.ports, err = k.h.service.Addresses(k.ctx(), ids...); err != nil {
		return nil, err
	}
	if s.groups, err = k.h.service.GroupNames(k.ctx(), groups); err != nil {
		return nil, err
	}
	s.ages, err = k.h.service.Freshness(k.ctx())
	return s, err
}

// progressing and faulty are the statuses that show progress and fault (nova/api/openstack/compute/views/servers.py).
var (
	progressing = []string{"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"}
	faulty      = []string{"ERROR", "DELETED"}
)

func (k *call) basic(one *engine.Server) object {
	return object{"id": one.ID, "name": one.Name, "links": k.links("servers", string(one.ID))}
}

// stub is what Nova shows of a server in a cell that does not answer (2.69).
func (k *call) stub(one *engine.Server, detail, single bool) object {
	o := object{"id": one.ID, "status": "UNKNOWN", "links": k.links("servers", string(one.ID))}
	if !detail {
		return o
	}
	o["tenant_id"], o["created"] = one.ProjectID, wire.Time(one.CreatedAt)
	if !single {
		return o
	}
	o["image"], o["flavor"], o["user_id"] = k.image(one), k.flavorOf(one), one.UserID
	o["OS-EXT-STS:power_state"] = 0
	o["OS-EXT-AZ:availability_zone"] = "UNKNOWN"
	if one.Zone != "" {
		o["OS-EXT-AZ:availability_zone"] = one.Zone
	}
	if k.v.AtLeast(71) {
		o["server_groups"] = groupList(one)
	}
	return o
}

func (k *call) server(one *engine.Server, s *seen) object {
	if k.v.AtLeast(69) && s.ages[one.Site].Unknown && one.State == index.Live {
		return k.stub(one, true, s.single)
	}
	o := object{
		"id": one.ID, "name": one.Name, "status": statusOf(one), "tenant_id": one.ProjectID, "user_id": one.UserID,
		"metadata": orEmpty(one.Spec.Metadata), "hostId": observed(one, "hostId", ""), "image": k.image(one), "flavor": k.flavorOf(one),
		"created": wire.Time(one.CreatedAt), "updated": wire.Time(one.UpdatedAt), "addresses": addresses(one, s.ports[one.ID], !s.brief),
		"accessIPv4": one.Spec.AccessIPv4, "accessIPv6": one.Spec.AccessIPv6, "links": k.links("servers", string(one.ID)),
		"OS-DCF:diskConfig": one.Spec.DiskConfig,
	}
	if slices.Contains(faulty, o["status"].(string)) && one.Fault != nil {
		o["fault"] = faultView(one, s.admin)
	}
	if slices.Contains(progressing, o["status"].(string)) {
		o["progress"] = observed(one, "progress", 0)
	}
	if !s.brief {
		k.extended(one, s, o)
	}
	k.newer(one, s, o)
	for key, v := range one.Observed {
		if _, taken := o[key]; !taken && !known[key] {
			o[key] = v // a member that Headwater does not know
		}
	}
	return o
}

// known are members of an observation that views show by their own rules.
var known = map[string]bool{
	"OS-EXT-SRV-ATTR:hostname": true, "OS-EXT-STS:vm_state": true, "OS-EXT-STS:power_state": true, "config_drive": true, "progress": true,
	"OS-SRV-USG:launched_at": true, "OS-SRV-USG:terminated_at": true, "OS-EXT-AZ:availability_zone": true, "hostId": true,
	"locked_reason": true, "host_status": true,
}

// extended adds the members of what were extensions once.
func (k *call) extended(one *engine.Server, s *seen, o object) {
	o["OS-EXT-AZ:availability_zone"] = one.Zone
	if one.Zone == "" {
		o["OS-EXT-AZ:availability_zone"] = observed(one, "OS-EXT-AZ:availability_zone", "")
	}
	o["config_drive"] = observed(one, "config_drive", configDrive(one))
	o["key_name"] = orNull(one.KeyName)
	o["OS-SRV-USG:launched_at"], o["OS-SRV-USG:terminated_at"] = wire.Micros(one.LaunchedAt), wire.Micros(one.DeletedAt)
	if names := s.groupNames(one); len(names) > 0 {
		o["security_groups"] = names
	}
	o["OS-EXT-STS:task_state"] = orNull(one.TaskState)
	o["OS-EXT-STS:vm_state"] = engine.VMState(one.Resource)
	if one.State == index.Deleted {
		o["OS-EXT-STS:vm_state"] = "deleted"
	}
	o["OS-EXT-STS:power_state"] = observed(one, "OS-EXT-STS:power_state", 0)
	volumes := make([]object, 0, len(one.Spec.Volumes))
	for _, v := range one.Spec.Volumes {
		item := object{"id": v.ID}
		if k.v.AtLeast(3) {
			item["delete_on_termination"] = v.Delete
		}
		volumes = append(volumes, item)
	}
	o["os-extended-volumes:volumes_attached"] = volumes
	if s.admin {
		k.attributes(one, o)
	}
}

// attributes adds what administrators see: a site is one host (top/README.md: Hosts).
func (k *call) attributes(one *engine.Server, o object) {
	const prefix = "OS-EXT-SRV-ATTR:"
	o[prefix+"host"], o[prefix+"hypervisor_hostname"] = orNull(string(one.Site)), orNull(string(one.Site))
	o[prefix+"instance_name"] = adminOnly(one, prefix+"instance_name", "")
	if k.v.AtLeast(3) {
		o[prefix+"reservation_id"], o[prefix+"launch_index"] = one.Spec.Reservation, one.Spec.LaunchIndex
		o[prefix+"hostname"] = observed(one, prefix+"hostname", one.Spec.Hostname)
		o[prefix+"user_data"] = orNull(one.Spec.UserData)
		for _, key := range []string{"kernel_id", "ramdisk_id", "root_device_name"} {
			o[prefix+key] = adminOnly(one, prefix+key, "")
		}
	}
	if k.v.AtLeast(16) {
		o["host_status"] = adminOnly(one, "host_status", "UP")
	}
}

// newer adds what microversions brought.
func (k *call) newer(one *engine.Server, s *seen, o object) {
	if k.v.AtLeast(9) {
		o["locked"] = one.Spec.Locked
	}
	if k.v.AtLeast(19) {
		o["description"] = one.Spec.Description
	}
	if k.v.AtLeast(26) {
		o["tags"] = append([]string{}, one.Spec.Tags...)
	}
	if k.v.AtLeast(63) {
		o["trusted_image_certificates"] = one.Spec.TrustedCerts
	}
	if k.v.AtLeast(71) && s.single {
		o["server_groups"] = groupList(one)
	}
	if k.v.AtLeast(73) {
		o["locked_reason"] = one.Spec.LockedReason
	}
	if k.v.AtLeast(90) {
		o["OS-EXT-SRV-ATTR:hostname"] = observed(one, "OS-EXT-SRV-ATTR:hostname", one.Spec.Hostname)
	}
}

func statusOf(one *engine.Server) string {
	if one.State == index.Deleted {
		return "DELETED"
	}
	return one.Status
}

func groupList(one *engine.Server) []ident.TopID {
	if one.Spec.ServerGroup == "" {
		return []ident.TopID{}
	}
	return []ident.TopID{one.Spec.ServerGroup}
}

func (s *seen) groupNames(one *engine.Server) []object {
	var out []object
	for _, g := range one.Spec.Groups {
		if name, ok := s.groups[g]; ok {
			out = append(out, object{"name": name})
		}
	}
	return out
}

func observed(one *engine.Server, key string, otherwise any) any {
	if v, ok := one.Observed[key]; ok && v != nil {
		return v
	}
	return otherwise
}

func adminOnly(one *engine.Server, key string, otherwise any) any {
	if v, ok := one.ObservedAdmin[key]; ok {
		return v
	}
	return otherwise
}

func configDrive(one *engine.Server) string {
	if one.Spec.ConfigDrive {
		return "True"
	}
	return ""
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (k *call) image(one *engine.Server) any {
	if one.ImageID == "" {
		return ""
	}
	return object{"id": one.ImageID, "links": k.bookmark("images", string(one.ImageID))}
}

func (k *call) flavorOf(one *engine.Server) object {
	if !k.v.AtLeast(47) {
		return object{"id": one.FlavorID, "links": k.bookmark("flavors", string(one.FlavorID))}
	}
	return object{
		"vcpus": one.Spec.VCPUs, "ram": one.Spec.RAM, "disk": one.Spec.Disk, "ephemeral": one.Spec.Ephemeral, "swap": one.Spec.Swap,
		"original_name": one.Spec.FlavorName, "extra_specs": orEmpty(one.Spec.FlavorSpecs),
	}
}

// addresses are a server's, by the names of its networks at Top. Nova hides them while a server is built.
func addresses(one *engine.Server, ports []engine.Interface, extended bool) map[string][]object {
	out := map[string][]object{}
	if engine.VMState(one.Resource) == "building" {
		return out
	}
	for _, p := range ports {
		for _, f := range p.Fixed {
			out[p.NetworkName] = append(out[p.NetworkName], address(f.IP, p.MAC, "fixed", extended))
			if f.Floating != "" {
				out[p.NetworkName] = append(out[p.NetworkName], address(f.Floating, p.MAC, "floating", extended))
			}
		}
	}
	return out
}

func address(ip, mac, kind string, extended bool) object {
	o := object{"version": 4, "addr": ip}
	if strings.Contains(ip, ":") {
		o["version"] = 6
	}
	if extended {
		o["OS-EXT-IPS:type"], o["OS-EXT-IPS-MAC:mac_addr"] = kind, mac
	}
	return o
}

func faultView(one *engine.Server, admin bool) object {
	f := object{"code": one.Fault.Code, "created": wire.Time(one.Fault.At), "message": one.Fault.Message}
	if one.Fault.At.IsZero() {
		f["created"] = wire.Time(one.UpdatedAt)
	}
	if one.Fault.Site != "" && (admin || one.Fault.Code != 500) {
		f["details"] = "site " + string(one.Fault.Site)
		if one.Fault.RequestID != "" {
			f["details"] = "site " + string(one.Fault.Site) + ", request " + one.Fault.RequestID
		}
	}
	return f
}

// fresh sets the header that tells how old the answer's knowledge of each site is.
func (k *call) fresh(s *seen, list []*engine.Server) {
	shown := map[ident.SiteID]bool{}
	for _, one := range list {
		shown[one.Site] = true
	}
	var parts []string
	for _, site := range slices.Sorted(maps.Keys(shown)) {
		if a, ok := s.ages[site]; ok {
			parts = append(parts, string(site)+"="+a.Age.Truncate(1e9).String())
		}
	}
	if len(parts) > 0 {
		k.Response().Header().Set("X-Headwater-Freshness", strings.Join(parts, ", "))
	}
}
