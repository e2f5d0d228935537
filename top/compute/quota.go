package compute

import (
	"strconv"

	"github.com/headwater-cloud/headwater/cascade/quota"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

func wireNumber(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// quotaItems are Nova's, with the minor version after which each was gone; 0 is none. The limits without a figure
// of ours (own is "") are what Nova shows of a deployment with Neutron.
var quotaItems = []struct {
	name, own string
	last      int
}{
	{"instances", "instances", 0}, {"cores", "cores", 0}, {"ram", "ram", 0}, {"metadata_items", "metadata_items", 0}, {"key_pairs", "key_pairs", 0},
	{"server_groups", "server_groups", 0}, {"server_group_members", "server_group_members", 0},
	{"injected_files", "injected_files", 56}, {"injected_file_content_bytes", "injected_file_content_bytes", 56}, {"injected_file_path_bytes", "injected_file_path_bytes", 56},
	{"fixed_ips", "", 35}, {"floating_ips", "", 35}, {"security_groups", "", 35}, {"security_group_rules", "", 35},
}

func (k *call) quotaSet(id string, show func(quota.Figure) any, figures map[string]quota.Figure) object {
	o := object{"id": id}
	for _, item := range quotaItems {
		if item.last > 0 && k.v.AtLeast(item.last+1) {
			continue
		}
		f := quota.Figure{Limit: -1}
		if item.own != "" {
			f = figures[item.own]
		}
		o[item.name] = show(f)
	}
	return o
}

func limitOf(f quota.Figure) any { return f.Limit }

func detailOf(f quota.Figure) any {
	return object{"limit": f.Limit, "in_use": f.Used, "reserved": 0}
}

// ownQuota refuses another project's quota to all but administrators.
func (k *call) ownQuota(project string) error { return k.who.Require("get_quota", project) }

func showQuota(show func(quota.Figure) any) func(*call) error {
	return func(k *call) error {
		project := k.Param("id")
		if err := k.ownQuota(project); err != nil {
			return err
		}
		figures, err := k.h.service.Quota(k.ctx(), project)
		if err != nil {
			return err
		}
		return k.ok(object{"quota_set": k.quotaSet(project, show, figures)})
	}
}

func defaultQuota(k *call) error {
	figures := map[string]quota.Figure{}
	for _, item := range quotaItems {
		n, _ := quota.Default(item.own)
		figures[item.own] = quota.Figure{Limit: n}
	}
	return k.ok(object{"quota_set": k.quotaSet(k.Param("id"), limitOf, figures)})
}

func updateQuota(k *call) error {
	m, err := k.object("quota_set")
	if err != nil {
		return err
	}
	var force wire.Bool
	var tenant any
	if err := m.TakeAll(wire.Field{Key: "force", Into: &force}, wire.Field{Key: "tenant_id", Into: &tenant}); err != nil {
		return err
	}
	limits := map[string]int64{}
	for _, item := range quotaItems {
		if item.last > 0 && k.v.AtLeast(item.last+1) {
			continue
		}
		var n *wire.Int
		if err := m.Take(item.name, &n); err != nil {
			return err
		}
		if n != nil && item.own != "" {
			limits[item.own] = int64(*n)
		}
	}
	if err := closed(m); err != nil {
		return err
	}
	if err := k.h.service.SetQuota(k.ctx(), k.caller, k.Param("id"), limits, bool(force)); err != nil {
		return err
	}
	figures, err := k.h.service.Quota(k.ctx(), k.Param("id"))
	if err != nil {
		return err
	}
	set := k.quotaSet(k.Param("id"), limitOf, figures)
	delete(set, "id")
	return k.ok(object{"quota_set": set})
}

func deleteQuota(k *call) error {
	var own []string
	for _, item := range quotaItems {
		if item.own != "" {
			own = append(own, item.own)
		}
	}
	if err := k.h.service.ResetQuota(k.ctx(), k.caller, k.Param("id"), own); err != nil {
		return err
	}
	return k.accepted()
}

func quotaClass(k *call) error {
	if err := defaultsOnly(k); err != nil {
		return err
	}
	figures := map[string]quota.Figure{}
	for _, item := range quotaItems {
		n, _ := quota.Default(item.own)
		figures[item.own] = quota.Figure{Limit: n}
	}
	return k.ok(object{"quota_class_set": k.quotaSet("default", limitOf, figures)})
}

// fixedDefaults refuses other limits for projects that have none of their own: a 404 told Horizon's operator nothing.
func fixedDefaults(*call) error {
	return fault.New(fault.Conflict, "top/compute", "The default limits are Top's own: set a project's limits with openstack quota set PROJECT.")
}

func defaultsOnly(k *call) error {
	if k.Param("id") != "default" {
		return errNoRoute
	}
	return nil
}

// limitItems are what "limits" shows: the maximum's name, the use's name, our resource, and the last minor version with it.
var limitItems = []struct {
	most, used, own string
	last            int
}{
	{"maxTotalInstances", "totalInstancesUsed", "instances", 0}, {"maxTotalCores", "totalCoresUsed", "cores", 0}, {"maxTotalRAMSize", "totalRAMUsed", "ram", 0},
	{"maxServerMeta", "", "metadata_items", 0}, {"maxTotalKeypairs", "", "key_pairs", 0}, {"maxServerGroups", "totalServerGroupsUsed", "server_groups", 0},
	{"maxServerGroupMembers", "", "server_group_members", 0}, {"maxImageMeta", "", "metadata_items", 38}, {"maxPersonality", "", "injected_files", 56},
	{"maxPersonalitySize", "", "injected_file_content_bytes", 56}, {"maxTotalFloatingIps", "totalFloatingIpsUsed", "floatingip", 35},
	{"maxSecurityGroups", "totalSecurityGroupsUsed", "security_group", 35}, {"maxSecurityGroupRules", "", "security_group_rule", 35},
}

func showLimits(k *call) error {
	project := k.caller.ProjectID
	if asked := k.QueryParam("tenant_id"); asked != "" && asked != project {
		if err := k.who.Require("get_quota", asked); err != nil {
			return err
		}
		project = asked
	}
	figures, err := k.h.service.Quota(k.ctx(), project)
	if err != nil {
		return err
	}
	abs := object{}
	for _, item := range limitItems {
		if item.last > 0 && k.v.AtLeast(item.last+1) {
			continue
		}
		f := figures[item.own]
		abs[item.most] = f.Limit
		if item.used != "" {
			abs[item.used] = f.Used
		}
	}
	return k.ok(object{"limits": object{"rate": []object{}, "absolute": abs}})
}
