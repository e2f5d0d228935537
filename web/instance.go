package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// instancePage is the page of one instance.
type instancePage struct {
	live
	server
	History []event
}

// event is what was done with a server.
type event struct {
	Action    string    `json:"action"`
	Start     eventTime `json:"start_time"`
	Message   *string   `json:"message"`
	RequestID string    `json:"request_id"`
}

// eventTime is a time as Nova writes it here: UTC without a zone.
type eventTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *eventTime) UnmarshalJSON(data []byte) (err error) {
	text := strings.TrimSuffix(strings.Trim(string(data), `"`), "Z")
	t.Time, err = time.Parse("2006-01-02T15:04:05", text) // a fraction may follow
	return err
}

func serverPath(id string) string { return "/compute/v2.1/servers/" + url.PathEscape(id) }

func (d *dashboard) server(ctx context.Context, v *visit, id string) (server, error) {
	var got struct {
		Server server `json:"server"`
	}
	err := d.get(ctx, v, serverPath(id), &got)
	return got.Server, err
}

func (d *dashboard) showInstance(w http.ResponseWriter, v *visit) error {
	data, err := d.instance(v.Context(), v, v.PathValue("id"))
	if statusOf(err) == http.StatusNotFound && v.live() { // it was deleted while somebody looked
		goTo(w, v, Base+"/instances")
		return nil
	}
	if err != nil {
		return err
	}
	p := page{Title: data.Name, Tab: "instances", Data: data}
	if v.live() {
		return d.render(w, v, http.StatusOK, "instance", "live", p)
	}
	return d.show(w, v, http.StatusOK, "instance", p)
}

func (d *dashboard) instance(ctx context.Context, v *visit, id string) (instancePage, error) {
	out := instancePage{}
	var names map[string]string
	var history struct {
		Actions []event `json:"instanceActions"`
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		out.server, err = d.server(ctx, v, id)
		return err
	})
	g.Go(func() (err error) {
		names, err = d.imageNames(ctx, v)
		return err
	})
	g.Go(func() error { return d.get(ctx, v, serverPath(id)+"/os-instance-actions", &history) })
	if err := g.Wait(); err != nil {
		return out, err
	}
	out.ImageName = cmp.Or(names[out.Image.ID], out.Image.ID)
	out.History = history.Actions
	out.live = live{Base + "/instances/" + url.PathEscape(id), pace(out.server)}
	return out, nil
}

// console is the end of a console's log.
type console struct {
	ID      string
	Output  string
	Problem string
}

const consoleLines = 200

// consoleLog asks the site for the console's log. That may take a while or fail, which hurts nothing else of the page.
func (d *dashboard) consoleLog(w http.ResponseWriter, v *visit) error {
	id := v.PathValue("id")
	var got struct {
		Output string `json:"output"`
	}
	data := console{ID: id}
	_, err := d.api.call(v.Context(), v.session.Token, http.MethodPost, serverPath(id)+"/action",
		object{"os-getConsoleOutput": object{"length": consoleLines}}, &got)
	if code := statusOf(err); err != nil && (code == 0 || code == http.StatusUnauthorized) {
		return err
	} else if err != nil {
		data.Problem = d.problem(v, err).Message
	}
	data.Output = got.Output
	p := page{Title: "Console log", Tab: "instances", Data: data}
	if v.live() {
		return d.render(w, v, http.StatusOK, "console", "log", p)
	}
	return d.show(w, v, http.StatusOK, "console", p)
}

// confirmation is the dialog that asks before a verb.
type confirmation struct {
	action
	ID       string
	Question string
	Back     string
	Problem  string
}

func (d *dashboard) confirmAction(w http.ResponseWriter, v *visit) error {
	a, ok := actionOf(v)
	if !ok {
		return errNoPage
	}
	s, err := d.server(v.Context(), v, v.PathValue("id"))
	if err != nil {
		return err
	}
	data := confirmation{action: a, ID: s.ID, Question: fmt.Sprintf(a.Asks, cmp.Or(s.Name, s.ID)), Back: Base + "/instances"}
	return d.confirmPage(w, v, http.StatusOK, data)
}

func (d *dashboard) confirmPage(w http.ResponseWriter, v *visit, status int, data confirmation) error {
	p := page{Title: data.Label, Tab: "instances", Data: data}
	if v.live() {
		return d.render(w, v, status, "confirm", "dialog", p)
	}
	return d.show(w, v, status, "confirm", p)
}

func actionOf(v *visit) (action, bool) {
	i := slices.IndexFunc(actions, func(a action) bool { return a.Name == v.PathValue("action") })
	if i < 0 {
		return action{}, false
	}
	return actions[i], true
}

// doAction applies a verb. The page stays; its live parts look again at once.
func (d *dashboard) doAction(w http.ResponseWriter, v *visit) error {
	a, ok := actionOf(v)
	if !ok {
		return errNoPage
	}
	id := v.PathValue("id")
	s, err := d.server(v.Context(), v, id)
	if err == nil {
		err = d.apply(v, a, id)
	}
	if code := statusOf(err); code == http.StatusConflict || code == http.StatusNotFound || code == http.StatusForbidden || code == http.StatusServiceUnavailable {
		w.Header().Set("HX-Retarget", "#dialog-body")
		w.Header().Set("HX-Reswap", "innerHTML")
		data := confirmation{action: a, ID: id, Question: fmt.Sprintf(a.Asks, cmp.Or(s.Name, id)), Back: Base + "/instances", Problem: d.problem(v, err).Message}
		return d.confirmPage(w, v, code, data)
	}
	if err != nil {
		return err
	}
	if !v.live() {
		http.Redirect(w, v.Request, Base+"/instances", http.StatusSeeOther)
		return nil
	}
	w.Header().Set("HX-Trigger", "headwater-changed")
	return d.render(w, v, http.StatusOK, "confirm", "done", page{Data: fmt.Sprintf(a.Done, cmp.Or(s.Name, id))})
}

func (d *dashboard) apply(v *visit, a action, id string) error {
	if a.body == nil {
		_, err := d.api.call(v.Context(), v.session.Token, http.MethodDelete, serverPath(id), nil, nil)
		return err
	}
	_, err := d.api.call(v.Context(), v.session.Token, http.MethodPost, serverPath(id)+"/action", a.body, nil)
	return err
}
