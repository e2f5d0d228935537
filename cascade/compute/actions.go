package compute

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/cascade/audit"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Action is one entry of a server's history.
type Action struct {
	Name      string
	RequestID string // Top's, or the site's of what did not come through Top
	UserID    string // "" for what did not come through Top: the site's users are not Top's
	ProjectID string
	Start     time.Time
	Updated   time.Time
	Message   string
	Events    []Event // Top's; those of the site come with ActionOf
	// SiteRequest is the site's own request id; "" when the site has no such action, or did not answer.
	SiteRequest string
}

// Event is one step of an action. Fields that the site does not show are "".
type Event struct {
	Name                             string
	Start, Finish                    time.Time // Finish is zero while it runs
	Result                           string    // Success or Error
	HostID, Host, Traceback, Details string    // Host and Traceback of the site's are for administrators
}

const (
	// historyTime bounds what a site may take to tell its part of a history: a dead site costs no more, and Top's part is told.
	historyTime = 5 * time.Second
	// historySkew is how much earlier than Top's a site's record of the same request may be: the difference of their clocks.
	historySkew = 2 * time.Minute
)

// Actions returns what was done with a server, newest first: what Top recorded,
// joined with what its site shows in one bounded call. With deleted set, servers that are gone have a history too.
func (s *Service) Actions(ctx context.Context, caller sites.Caller, id string, deleted bool) (*Server, []Action, error) {
	one, err := s.everServer(ctx, caller, id, deleted)
	if err != nil {
		return nil, nil, err
	}
	ours, err := s.recorded(ctx, one)
	if err != nil {
		return nil, nil, err
	}
	return one, join(one, ours, s.siteActions(ctx, caller, one)), nil
}

// ActionOf returns one action with all of its events, by Top's request id or by the site's; fault.NotFound when there is none.
func (s *Service) ActionOf(ctx context.Context, caller sites.Caller, id, request string, deleted bool) (*Server, Action, error) {
	one, all, err := s.Actions(ctx, caller, id, deleted)
	if err != nil {
		return nil, Action{}, err
	}
	at := slices.IndexFunc(all, func(a Action) bool { return a.RequestID == request })
	if at < 0 {
		at = slices.IndexFunc(all, func(a Action) bool { return a.SiteRequest != "" && a.SiteRequest == request })
	}
	if at < 0 {
		return nil, Action{}, fault.New(fault.NotFound, "cascade/compute.ActionOf", "Action for request_id %s on instance %s not found", request, one.ID)
	}
	a := all[at]
	if a.SiteRequest != "" {
		a.Events = append(a.Events, s.siteEvents(ctx, caller, one, a.SiteRequest)...)
	}
	return one, a, nil
}

// everServer is Server, also of one that is gone.
func (s *Service) everServer(ctx context.Context, caller sites.Caller, id string, deleted bool) (*Server, error) {
	one, err := s.Server(ctx, caller, id)
	if err == nil || !deleted || !fault.Is(err, fault.NotFound) {
		return one, err
	}
	r, gone := s.core.Index.Get(ctx, ident.TopID(id))
	if gone != nil || r.Kind != sites.Server || r.State != index.Deleted || r.ProjectID != caller.ProjectID && !caller.Admin() {
		return nil, err
	}
	return decodeServer(r)
}

// recorded is Top's part of a history, newest first.
func (s *Service) recorded(ctx context.Context, one *Server) ([]Action, error) {
	events, err := s.core.Audit.List(ctx, audit.Filter{Target: string(one.ID), Limit: 1000})
	if err != nil {
		return nil, err
	}
	out := make([]Action, 0, len(events))
	for _, e := range events {
		name, ok := actionNames[e.Action]
		if !ok {
			continue
		}
		a := Action{Name: name, RequestID: e.RequestID, UserID: e.UserID, ProjectID: e.ProjectID, Start: e.At, Updated: e.At}
		a.Events = []Event{{Name: "top_" + name, Start: e.At, Finish: e.At, Result: "Success"}}
		if name == "create" {
			a.Events = append(a.Events, bootEvent(one))
			if one.State == index.Failed && one.Fault != nil {
				a.Message = "Error"
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// bootEvent is the site's part of a create, as Top saw it.
func bootEvent(one *Server) Event {
	e := Event{Name: "site_" + string(one.Site), Start: one.CreatedAt, Finish: one.LaunchedAt}
	switch {
	case one.State == index.Failed:
		e.Result, e.Finish = "Error", one.UpdatedAt
	case !one.LaunchedAt.IsZero():
		e.Result = "Success"
	}
	return e
}

// join puts a site's actions to Top's: each belongs to the last of the same name, not joined yet, that Top had recorded when it began. What
// is left did not come through Top (the site's operator, or the site itself) and stands by itself.
func join(one *Server, ours, theirs []Action) []Action {
	out := slices.Clone(ours)
	for _, t := range theirs { // the newest first, as Top's are
		at := slices.IndexFunc(out, func(a Action) bool {
			return a.SiteRequest == "" && a.Name == t.Name && !a.Start.After(t.Start.Add(historySkew))
		})
		if at < 0 {
			t.UserID, t.ProjectID, t.Events = "", one.ProjectID, nil
			out = append(out, t)
			continue
		}
		a := &out[at]
		a.SiteRequest = t.SiteRequest
		if t.Message != "" {
			a.Message = t.Message
		}
		if t.Updated.After(a.Updated) {
			a.Updated = t.Updated
		}
	}
	slices.SortStableFunc(out, func(a, b Action) int { return b.Start.Compare(a.Start) })
	return out
}

// siteActions asks the site for its part, newest first; nothing when it does not answer in time: Top's part is told all the same.
func (s *Service) siteActions(ctx context.Context, caller sites.Caller, one *Server) []Action {
	reply, ok := s.askHistory(ctx, caller, one, "")
	list, _ := reply.Body["instanceActions"].([]any)
	if !ok {
		return nil
	}
	var out []Action
	for _, v := range list {
		m, isObject := v.(map[string]any)
		if !isObject {
			continue
		}
		start := moment(m["start_time"])
		a := Action{Name: text(m["action"]), RequestID: text(m["request_id"]), SiteRequest: text(m["request_id"]), Message: text(m["message"]), Start: start, Updated: start}
		if at := moment(m["updated_at"]); !at.IsZero() {
			a.Updated = at
		}
		out = append(out, a)
	}
	return out
}

// siteEvents asks the site for the events of one of its actions.
func (s *Service) siteEvents(ctx context.Context, caller sites.Caller, one *Server, request string) []Event {
	reply, _ := s.askHistory(ctx, caller, one, request)
	shown, _ := reply.Body["instanceAction"].(map[string]any)
	list, _ := shown["events"].([]any)
	var out []Event
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			continue
		}
		out = append(out, Event{
			Name: text(m["event"]), Start: moment(m["start_time"]), Finish: moment(m["finish_time"]), Result: text(m["result"]),
			HostID: text(m["hostId"]), Host: text(m["host"]), Traceback: text(m["traceback"]), Details: text(m["details"]),
		})
	}
	return out
}

// askHistory makes one bounded call, as an ordinary user of the project; an administrator sees what the site's account sees.
func (s *Service) askHistory(ctx context.Context, caller sites.Caller, one *Server, request string) (sites.Reply, bool) {
	ctx, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	at, err := s.core.At(ctx, one.Resource, one.Site)
	if err != nil {
		return sites.Reply{}, false
	}
	bottom, err := at.Bottom(ctx, one.ID)
	if err != nil {
		return sites.Reply{}, false // nothing is there, yet or any more
	}
	adaptor := at.Adaptor
	if caller.Admin() {
		if adaptor, err = at.Admin(ctx); err != nil {
			return sites.Reply{}, false
		}
	}
	path := "servers/" + string(bottom) + "/os-instance-actions"
	if request != "" {
		path += "/" + url.PathEscape(request)
	}
	reply, err := adaptor.Do(ctx, sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: path, Idempotent: true})
	if err != nil {
		s.core.Log().DebugContext(ctx, "site did not tell its part of a history", "site", one.Site, "top_id", one.ID, "err", err)
	}
	return reply, err == nil
}

// moment reads Nova's time stamps; zero for null.
func moment(v any) time.Time {
	t, err := time.Parse("2006-01-02T15:04:05.999999", text(v))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// actionNames are Nova's names (nova/compute/instance_actions.py) of the verbs that the audit log has.
var actionNames = map[string]string{
	"server.create": "create", "server.delete": "delete", "server.os-start": "start", "server.os-stop": "stop", "server.reboot": "reboot",
	"server.pause": "pause", "server.unpause": "unpause", "server.suspend": "suspend", "server.resume": "resume", "server.shelve": "shelve",
	"server.shelveOffload": "shelveOffload", "server.unshelve": "unshelve", "server.resize": "resize", "server.confirmResize": "confirmResize",
	"server.revertResize": "revertResize", "server.rebuild": "rebuild", "server.rescue": "rescue", "server.unrescue": "unrescue",
	"server.createImage": "createImage", "server.changePassword": "changePassword", "server.lock": "lock", "server.unlock": "unlock",
	"server.attach_volume": "attach_volume", "server.detach_volume": "detach_volume", "server.attach_interface": "attach_interface",
	"server.detach_interface": "detach_interface", "server.restore": "restore", "server.trigger_crash_dump": "trigger_crash_dump",
}
