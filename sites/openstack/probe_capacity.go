package openstack

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// maxProviders bounds the hosts whose inventories a probe reads one by one;
// of more hosts the sum is scaled by what these showed.
const maxProviders = 64

// limitPair names a limit and its use in the "absolute" limits of Nova and Cinder, and the quota's own name.
type limitPair struct{ quota, max, used string }

var (
	computeLimits = []limitPair{
		{"instances", "maxTotalInstances", "totalInstancesUsed"},
		{"cores", "maxTotalCores", "totalCoresUsed"},
		{"ram", "maxTotalRAMSize", "totalRAMUsed"},
		{"server_groups", "maxServerGroups", "totalServerGroupsUsed"},
		{"server_group_members", "maxServerGroupMembers", ""},
		{"key_pairs", "maxTotalKeypairs", ""}, // per user; Nova does not tell how many there are
		{"metadata_items", "maxServerMeta", ""},
	}
	volumeLimits = []limitPair{
		{"volumes", "maxTotalVolumes", "totalVolumesUsed"},
		{"gigabytes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"},
		{"snapshots", "maxTotalSnapshots", "totalSnapshotsUsed"},
		{"backups", "maxTotalBackups", "totalBackupsUsed"},
		{"backup_gigabytes", "maxTotalBackupGigabytes", "totalBackupGigabytesUsed"},
	}
)

// absolute reads a service's limits and notes what remains of them.
func (p *probe) absolute(ctx context.Context, service sites.Service, pairs []limitPair) (sites.Body, error) {
	body, err := p.ask(ctx, service, "limits", nil)
	if err != nil {
		return nil, p.skip(err, "the limits of "+string(service))
	}
	limits, _ := body["limits"].(map[string]any)
	values, _ := limits["absolute"].(map[string]any)
	remaining := map[string]int64{}
	for _, pair := range pairs {
		if most, ok := values[pair.max]; ok {
			remaining[pair.quota] = remains(whole(most), whole(values[pair.used]))
		}
	}
	p.with(func(c *sites.Capabilities) { c.Quota[service] = remaining })
	return values, nil
}

// remains is what is left of a limit: -1 for unlimited, never less than 0 otherwise.
func remains(limit, used int64) int64 {
	if limit < 0 {
		return -1
	}
	return max(limit-used, 0)
}

func (p *probe) computeQuota(ctx context.Context) error {
	values, err := p.absolute(ctx, sites.Compute, computeLimits)
	if values != nil {
		// Until capacity knows better: the project's limits, -1 for unlimited.
		p.with(func(c *sites.Capabilities) {
			c.Capacity.VCPUs, c.Capacity.VCPUsUsed = whole(values["maxTotalCores"]), whole(values["totalCoresUsed"])
			c.Capacity.RAM, c.Capacity.RAMUsed = whole(values["maxTotalRAMSize"]), whole(values["totalRAMUsed"])
			c.Capacity.Running = whole(values["totalInstancesUsed"])
		})
	}
	return err
}

func (p *probe) volumeQuota(ctx context.Context) error {
	if !p.has(sites.BlockStorage) {
		return nil
	}
	values, err := p.absolute(ctx, sites.BlockStorage, volumeLimits)
	if values != nil {
		p.with(func(c *sites.Capabilities) {
			c.Capacity.Volumes, c.Capacity.VolumesMax = whole(values["totalGigabytesUsed"]), whole(values["maxTotalVolumeGigabytes"])
		})
	}
	return err
}

func (p *probe) networkQuota(ctx context.Context) error {
	body, err := p.ask(ctx, sites.NetworkSvc, "quotas/"+url.PathEscape(p.grant.account.ProjectID)+"/details.json", nil)
	if err != nil {
		return p.skip(err, "the network limits")
	}
	return p.details(sites.NetworkSvc, body["quota"], "used")
}

// imageQuota reads Glance's usage, which is empty where no unified limits are set.
func (p *probe) imageQuota(ctx context.Context) error {
	body, err := p.ask(ctx, sites.ImageService, "info/usage", nil)
	if err != nil && fault.Is(err, fault.NotFound) { // before 2.15
		return nil
	}
	if err != nil {
		return p.skip(err, "the image limits")
	}
	return p.details(sites.ImageService, body["usage"], "usage")
}

func (p *probe) details(service sites.Service, v any, used string) error {
	values, _ := v.(map[string]any)
	remaining := map[string]int64{}
	for name, value := range values {
		if row, ok := value.(map[string]any); ok {
			remaining[name] = remains(whole(row["limit"]), whole(row[used])+whole(row["reserved"]))
		}
	}
	p.with(func(c *sites.Capabilities) { c.Quota[service] = remaining })
	return nil
}

// withSizes is the last microversion in which a hypervisor shows its sizes (2.88 took them away).
var withSizes = version{2, 87}

// capacity sums up the hosts, where the account may see them.
func (p *probe) capacity(ctx context.Context) error {
	if !p.caps.Admin {
		return nil
	}
	hosts, err := p.hypervisors(ctx)
	if err != nil {
		return p.skip(err, "the hypervisors")
	}
	var sum sites.Capacity
	sum.Known, sum.Hosts = true, len(hosts)
	for _, h := range hosts {
		sum.VCPUs += whole(h["vcpus"])
		sum.VCPUsUsed += whole(h["vcpus_used"])
		sum.RAM += whole(h["memory_mb"])
		sum.RAMUsed += whole(h["memory_mb_used"])
		sum.Disk += whole(h["local_gb"])
		sum.DiskUsed += whole(h["local_gb_used"])
		sum.Running += whole(h["running_vms"])
	}
	if err := p.inventories(ctx, hosts, &sum); err != nil {
		return err
	}
	sum.Volumes, sum.VolumesMax = p.caps.Capacity.Volumes, p.caps.Capacity.VolumesMax
	if err := p.pools(ctx, &sum); err != nil {
		return err
	}
	p.caps.Capacity = sum
	return nil
}

// hypervisors lists the hosts that are up and enabled.
func (p *probe) hypervisors(ctx context.Context) ([]sites.Body, error) {
	v, err := p.adaptor.chosen(ctx, sites.Compute)
	if err != nil {
		return nil, err
	}
	text := ""
	if withSizes.less(v) {
		text = withSizes.String()
	}
	var hosts []sites.Body
	query := url.Values{}
	for seen := map[string]bool{}; !seen[query.Encode()]; {
		seen[query.Encode()] = true
		reply, err := p.adaptor.doJSON(ctx, &call{op: "sites/openstack.Probe", service: sites.Compute, method: http.MethodGet,
			path: "os-hypervisors/detail", query: query, microversion: text})
		if err != nil {
			return nil, err
		}
		for _, h := range objects(reply.Body["hypervisors"]) {
			if str(h["state"]) != "down" && str(h["status"]) != "disabled" {
				hosts = append(hosts, h)
			}
		}
		link, err := url.Parse(nextLink(reply.Body))
		if err != nil || link.Query().Get("marker") == "" {
			break
		}
		query = url.Values{"marker": {link.Query().Get("marker")}}
	}
	return hosts, nil
}

// inventory is what placement says of one resource class at one host.
type inventory struct{ schedulable, raw, used int64 }

// inventories replaces the hypervisors' figures by placement's, which know
// allocation ratios and reserves. A site whose placement is closed to us keeps the hypervisors' own.
func (p *probe) inventories(ctx context.Context, hosts []sites.Body, sum *sites.Capacity) error {
	if !p.has(sites.Placement) || len(hosts) == 0 {
		return nil
	}
	asked := min(len(hosts), maxProviders)
	found := make([]map[string]inventory, asked)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeParallel)
	for i := range asked {
		g.Go(func() (err error) {
			found[i], err = p.provider(gctx, idText(hosts[i]["id"]))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return p.skip(err, "placement's inventories")
	}
	total := map[string]inventory{}
	for _, classes := range found {
		for class, inv := range classes {
			t := total[class]
			total[class] = inventory{t.schedulable + inv.schedulable, t.raw + inv.raw, t.used + inv.used}
		}
	}
	for class, member := range map[string]struct{ size, used *int64 }{
		"VCPU": {&sum.VCPUs, &sum.VCPUsUsed}, "MEMORY_MB": {&sum.RAM, &sum.RAMUsed}, "DISK_GB": {&sum.Disk, &sum.DiskUsed},
	} {
		switch t := total[class]; {
		case t.raw == 0: // not tracked there
		case asked == len(hosts):
			*member.size, *member.used = t.schedulable, t.used
		default:
			*member.size = int64(float64(*member.size) * float64(t.schedulable) / float64(t.raw))
		}
	}
	return nil
}

// idText is an id that may be a number (hypervisors before 2.53).
func idText(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return str(v)
}

// provider reads one host's inventory and use.
func (p *probe) provider(ctx context.Context, id string) (map[string]inventory, error) {
	if !strings.Contains(id, "-") {
		return nil, nil // a number: the site is older than the link between hypervisors and providers
	}
	body, err := p.ask(ctx, sites.Placement, "resource_providers/"+url.PathEscape(id)+"/inventories", nil)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	usage, err := p.ask(ctx, sites.Placement, "resource_providers/"+url.PathEscape(id)+"/usages", nil)
	if err != nil {
		return nil, err
	}
	used, _ := usage["usages"].(map[string]any)
	classes, _ := body["inventories"].(map[string]any)
	found := map[string]inventory{}
	for class, value := range classes {
		row, _ := value.(map[string]any)
		ratio := 1.0
		if n, ok := row["allocation_ratio"].(json.Number); ok {
			if f, err := n.Float64(); err == nil && f > 0 {
				ratio = f
			}
		}
		raw := whole(row["total"])
		found[class] = inventory{int64(float64(raw-whole(row["reserved"])) * ratio), raw, whole(used[class])}
	}
	return found, nil
}

// pools sums up the volume back ends. Back ends that do not know their size say "infinite" or "unknown".
func (p *probe) pools(ctx context.Context, sum *sites.Capacity) error {
	if !p.has(sites.BlockStorage) {
		return nil
	}
	body, err := p.ask(ctx, sites.BlockStorage, "scheduler-stats/get_pools", url.Values{"detail": {"true"}})
	if err != nil {
		return p.skip(err, "the volume back ends")
	}
	var total, allocated int64
	for _, pool := range objects(body["pools"]) {
		caps, _ := pool["capabilities"].(map[string]any)
		size := whole(caps["total_capacity_gb"])
		if size <= 0 {
			return nil
		}
		total += size
		allocated += whole(caps["allocated_capacity_gb"])
	}
	if total > 0 {
		sum.Volumes, sum.VolumesMax = allocated, total
	}
	return nil
}
