package compute

import (
	"slices"
	"time"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/top/wire"
)

// instanceAction renders one action of a server's history (nova/api/openstack/compute/instance_actions.py).
func (k *call) instanceAction(one *engine.Server, a engine.Action) object {
	o := object{
		"action": a.Name, "instance_uuid": one.ID, "request_id": a.RequestID, "user_id": orNull(a.UserID), "project_id": orNull(a.ProjectID),
		"start_time": wire.Micros(a.Start), "message": orNull(a.Message),
	}
	if k.v.AtLeast(58) {
		o["updated_at"] = wire.Micros(a.Updated)
	}
	return o
}

// instanceEvents renders the events: since 2.51 for everybody, tracebacks, hosts and details for administrators only.
func (k *call) instanceEvents(one *engine.Server, events []engine.Event) []object {
	list := []object{}
	for _, e := range events {
		item := object{"event": e.Name, "start_time": orNullTime(e.Start), "finish_time": orNullTime(e.Finish), "result": orNull(e.Result)}
		if k.v.AtLeast(62) {
			item["hostId"] = e.HostID
			if e.HostID == "" {
				item["hostId"] = observed(one, "hostId", "")
			}
		}
		if k.caller.Admin() {
			item["traceback"] = orNull(e.Traceback)
			if k.v.AtLeast(62) {
				host := e.Host
				if host == "" {
					host = string(one.Site)
				}
				item["host"] = orNull(host)
			}
			if k.v.AtLeast(84) {
				item["details"] = orNull(e.Details)
			}
		}
		list = append(list, item)
	}
	return list
}

func orNullTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return wire.Micros(t)
}

// actionFilter is what the query asks of a history: pages and times since 2.58, an end since 2.66.
type actionFilter struct {
	page          wire.Page
	since, before time.Time
}

func (k *call) actionFilter() (actionFilter, error) {
	var f actionFilter
	if !k.v.AtLeast(58) {
		f.page.Limit = wire.MaxLimit // older versions read no query
		return f, nil
	}
	var err error
	if f.page, err = k.page(); err != nil {
		return f, err
	}
	for key, to := range map[string]*time.Time{"changes-since": &f.since, "changes-before": &f.before} {
		text := k.QueryParam(key)
		if text == "" {
			continue
		}
		if key == "changes-before" && !k.v.AtLeast(66) {
			return f, wire.BadRequest("Additional properties are not allowed ('changes-before' was unexpected)")
		}
		if *to, err = parseTime(text); err != nil {
			return f, wire.BadRequest("Invalid input for query parameters %s. Value: %s. '%s' is not a 'date-time'", key, text, text)
		}
	}
	if !f.since.IsZero() && !f.before.IsZero() && f.before.Before(f.since) {
		return f, wire.BadRequest("The value of changes-since must be less than or equal to changes-before.")
	}
	return f, nil
}

func (f actionFilter) choose(all []engine.Action) ([]engine.Action, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(a engine.Action) bool {
		return !f.since.IsZero() && a.Updated.Before(f.since) || !f.before.IsZero() && a.Updated.After(f.before)
	})
	if f.page.Marker != "" {
		at := slices.IndexFunc(all, func(a engine.Action) bool { return a.RequestID == f.page.Marker })
		if at < 0 {
			return nil, wire.BadRequest("Marker %s could not be found.", f.page.Marker)
		}
		all = all[at+1:]
	}
	return all[:min(len(all), f.page.Limit)], nil
}

// listActions handles GET /servers/ID/os-instance-actions.
func listActions(k *call) error {
	f, err := k.actionFilter()
	if err != nil {
		return err
	}
	one, all, err := k.h.service.Actions(k.ctx(), k.caller, k.id(), k.v.AtLeast(21))
	if err != nil {
		return err
	}
	if all, err = f.choose(all); err != nil {
		return err
	}
	out := []object{}
	for _, a := range all {
		out = append(out, k.instanceAction(one, a))
	}
	body := object{"instanceActions": out}
	if n := len(all); n > 0 && n == f.page.Limit && k.v.AtLeast(58) {
		body["links"] = wire.NextLink(k.Context, k.versioned()+"/servers/"+string(one.ID)+"/os-instance-actions", all[n-1].RequestID)
	}
	return k.ok(body)
}

// showAction handles GET /servers/ID/os-instance-actions/REQUEST.
func showAction(k *call) error {
	one, a, err := k.h.service.ActionOf(k.ctx(), k.caller, k.id(), k.Param("request"), k.v.AtLeast(21))
	if err != nil {
		return err
	}
	o := k.instanceAction(one, a)
	if k.caller.Admin() || k.v.AtLeast(51) {
		o["events"] = k.instanceEvents(one, a.Events)
	}
	return k.ok(object{"instanceAction": o})
}
