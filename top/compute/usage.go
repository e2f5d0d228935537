package compute

import (
	"cmp"
	"slices"
	"time"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// usedSince is the minor version from which os-simple-tenant-usage answers page by page.
const usedSince = 40

// span is a server's part of the period that is asked for.
type span struct {
	one   *engine.Server
	hours float64
}

// spanned says how long a server ran within the period; ok is false for one that was not there then.
func spanned(one *engine.Server, start, stop time.Time) (s span, ok bool) {
	from, to := one.CreatedAt, stop
	if !one.LaunchedAt.IsZero() {
		from = one.LaunchedAt
	}
	if !from.Before(stop) || !one.DeletedAt.IsZero() && !one.DeletedAt.After(start) {
		return span{}, false
	}
	if from.Before(start) {
		from = start
	}
	if !one.DeletedAt.IsZero() && one.DeletedAt.Before(stop) {
		to = one.DeletedAt
	}
	return span{one, max(0, to.Sub(from).Hours())}, true
}

// usagePage is the servers of one answer, by project and id, which is Nova's order here. Before 2.40 it is all.
func (k *call) usagePage(project string, start, stop time.Time) (list []span, p wire.Page, err error) {
	if p, err = k.page(); err != nil {
		return nil, p, err
	}
	all, err := k.h.service.Census(k.ctx(), project)
	if err != nil {
		return nil, p, err
	}
	for _, one := range all {
		if s, ok := spanned(one, start, stop); ok {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.one.ProjectID, b.one.ProjectID), cmp.Compare(a.one.ID, b.one.ID))
	})
	if !k.v.AtLeast(usedSince) {
		return list, p, nil
	}
	if p.Marker != "" {
		at := slices.IndexFunc(list, func(s span) bool { return string(s.one.ID) == p.Marker })
		if at < 0 {
			return nil, p, wire.BadRequest("Marker %.64s could not be found.", p.Marker)
		}
		list = list[at+1:]
	}
	return list[:min(p.Limit, len(list))], p, nil
}

// usage is what one project's servers used in a period.
func (k *call) usage(list []span, start, stop time.Time, detailed bool) object {
	var hours, cores, ram, disk float64
	items := make([]object, 0, len(list))
	for _, s := range list {
		spec := s.one.Spec
		size := spec.Disk + spec.Ephemeral
		hours, cores, ram, disk = hours+s.hours, cores+s.hours*float64(spec.VCPUs), ram+s.hours*float64(spec.RAM), disk+s.hours*float64(size)
		items = append(items, k.serverUsage(s))
	}
	o := object{
		"tenant_id": list[0].one.ProjectID, "start": wire.Micros(start), "stop": wire.Micros(stop), "total_hours": hours, "total_vcpus_usage": cores,
		"total_memory_mb_usage": ram, "total_local_gb_usage": disk,
	}
	if detailed {
		o["server_usages"] = items
	}
	return o
}

func (k *call) serverUsage(s span) object {
	one, state, until := s.one, engine.VMState(s.one.Resource), k.h.now()
	started := one.CreatedAt
	if !one.LaunchedAt.IsZero() {
		started = one.LaunchedAt
	}
	if !one.DeletedAt.IsZero() {
		state, until = "terminated", one.DeletedAt
	}
	return object{
		"instance_id": one.ID, "name": one.Name, "hours": s.hours, "tenant_id": one.ProjectID, "flavor": one.Spec.FlavorName, "vcpus": one.Spec.VCPUs,
		"memory_mb": one.Spec.RAM, "local_gb": one.Spec.Disk + one.Spec.Ephemeral, "started_at": wire.Micros(started), "ended_at": wire.Micros(one.DeletedAt),
		"state": state, "uptime": int64(until.Sub(started).Seconds()),
	}
}

// period reads start and end, by default the last four weeks as clients show them. What has not come yet is not used.
func (k *call) period() (start, stop time.Time, err error) {
	now := k.h.now().UTC()
	stop, start = now, now.AddDate(0, 0, -28)
	for key, to := range map[string]*time.Time{"start": &start, "end": &stop} {
		if text := k.QueryParam(key); text != "" {
			if *to, err = parseTime(text); err != nil {
				return start, stop, wire.BadRequest("Invalid %s time: %.50s", key, text)
			}
		}
	}
	if stop.Before(start) {
		err = wire.BadRequest("Invalid start time. The start time cannot occur after the end time.")
	}
	if stop.After(now) {
		stop = now
	}
	return start, stop, err
}

func showUsage(k *call) error {
	project := k.Param("id")
	if err := k.who.Require("get_usage", project); err != nil {
		return err
	}
	start, stop, err := k.period()
	if err != nil {
		return err
	}
	list, p, err := k.usagePage(project, start, stop)
	if err != nil {
		return err
	}
	body := object{"tenant_usage": object{}}
	if len(list) > 0 {
		body["tenant_usage"] = k.usage(list, start, stop, true)
		k.nextUsage(body, "tenant_usage", "os-simple-tenant-usage/"+project, p, list)
	}
	return k.ok(body)
}

func (k *call) nextUsage(body object, name, path string, p wire.Page, list []span) {
	if k.v.AtLeast(usedSince) {
		k.next(body, name, path, p, len(list), string(list[len(list)-1].one.ID))
	}
}

func listUsage(k *call) error {
	if !k.caller.Admin() {
		return fault.New(fault.Forbidden, "top/compute", "Policy doesn't allow os_compute_api:os-simple-tenant-usage:list to be performed.")
	}
	start, stop, err := k.period()
	if err != nil {
		return err
	}
	list, p, err := k.usagePage("", start, stop)
	if err != nil {
		return err
	}
	out := []object{}
	for i, j := 0, 0; i < len(list); i = j {
		for j = i; j < len(list) && list[j].one.ProjectID == list[i].one.ProjectID; {
			j++
		}
		out = append(out, k.usage(list[i:j], start, stop, k.QueryParam("detailed") == "1"))
	}
	body := object{"tenant_usages": out}
	if len(list) > 0 {
		k.nextUsage(body, "tenant_usages", "os-simple-tenant-usage", p, list)
	}
	return k.ok(body)
}
