package web

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// server is a server as the API shows it.
type server struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Status    string    `json:"status"`
	Task      *string   `json:"OS-EXT-STS:task_state"`
	Zone      string    `json:"OS-EXT-AZ:availability_zone"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Image     imageRef  `json:"image"`
	KeyName   *string   `json:"key_name"`
	Locked    bool      `json:"locked"`
	Progress  int       `json:"progress"`
	Addresses addresses `json:"addresses"`
	Flavor    struct {
		Name  string `json:"original_name"`
		VCPUs int    `json:"vcpus"`
		RAM   int64  `json:"ram"`
		Disk  int    `json:"disk"`
	} `json:"flavor"`
	Fault *struct {
		Message string    `json:"message"`
		Details string    `json:"details"`
		Created time.Time `json:"created"`
	} `json:"fault"`
	Groups []struct {
		Name string `json:"name"`
	} `json:"security_groups"`
	Tags []string `json:"tags"`

	ImageName string `json:"-"`
}

// imageRef is a server's image: an object, or "" for a server that boots from a volume.
type imageRef struct {
	ID string `json:"id"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *imageRef) UnmarshalJSON(data []byte) error {
	type plain imageRef
	if string(data) == `""` {
		return nil
	}
	return json.Unmarshal(data, (*plain)(r))
}

type addresses map[string][]struct {
	Addr string `json:"addr"`
	Type string `json:"OS-EXT-IPS:type"`
	MAC  string `json:"OS-EXT-IPS-MAC:mac_addr"`
}

// All lists the networks' addresses in the order of the networks' names.
func (a addresses) All() []address {
	var out []address
	for _, network := range slices.Sorted(maps.Keys(a)) {
		for _, one := range a[network] {
			out = append(out, address{network, one.Addr, one.MAC, one.Type == "floating"})
		}
	}
	return out
}

type address struct {
	Network, IP, MAC string
	Floating         bool
}

// Site is the part of the zone that names the site.
func (s server) Site() string {
	site, _, _ := strings.Cut(s.Zone, "/")
	return site
}

// InnerZone is the zone at the site, "" when the server asked for any.
func (s server) InnerZone() string {
	_, zone, _ := strings.Cut(s.Zone, "/")
	return zone
}

// TaskState is what is being done with the server, in words.
func (s server) TaskState() string {
	if s.Task == nil {
		return ""
	}
	return strings.ReplaceAll(strings.ReplaceAll(*s.Task, "_", " "), "-", " ")
}

// moving are the statuses that change by themselves.
var moving = []string{"BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "RESIZE", "REVERT_RESIZE", "MIGRATING", "PASSWORD"}

// Moving reports whether the server's status is about to change.
func (s server) Moving() bool { return s.TaskState() != "" || slices.Contains(moving, s.Status) }

// action is a verb that a person can apply to a server.
type action struct {
	Name   string // in the address
	Label  string // on the button
	Asks   string // what the dialog asks
	Warns  string // what it means
	Danger bool
	Done   string // what is said afterwards

	from []string // the statuses in which the API takes it; nil is any
	body object   // nil is DELETE
}

// actions are the buttons of a server, in their order.
var actions = []action{
	{Name: "start", Label: "Start", Asks: "Start %s?", Warns: "It boots from its disk as it was left.", Done: "Starting %s.", from: []string{"SHUTOFF"}, body: object{"os-start": nil}},
	{Name: "stop", Label: "Stop", Asks: "Stop %s?", Warns: "It is shut down and keeps its disk and its addresses.", Done: "Stopping %s.",
		from: []string{"ACTIVE", "ERROR"}, body: object{"os-stop": nil}},
	{Name: "reboot", Label: "Reboot", Asks: "Reboot %s?", Warns: "Its operating system is asked to restart. What runs in it is interrupted.", Done: "Rebooting %s.",
		from: []string{"ACTIVE"}, body: object{"reboot": object{"type": "SOFT"}}},
	{Name: "delete", Label: "Delete", Asks: "Delete %s for ever?", Warns: "The instance and its own disk are gone at once. This cannot be undone.", Done: "Deleting %s.", Danger: true},
}

// Actions are those that make sense now.
func (s server) Actions() []action {
	var out []action
	for _, a := range actions {
		if a.from == nil || slices.Contains(a.from, s.Status) && s.TaskState() == "" {
			out = append(out, a)
		}
	}
	return out
}

// live is the part of a page that renews itself.
type live struct {
	URL   string
	Every string // how long until the next look
}

// The pace of live parts: fast while something is about to change.
const (
	paceMoving = "2s"
	paceCalm   = "10s"
)

func pace(list ...server) string {
	if slices.ContainsFunc(list, server.Moving) {
		return paceMoving
	}
	return paceCalm
}

// instanceList is the page of instances.
type instanceList struct {
	live
	Servers []server
	Next    string // the address of the next page, "" for none
	First   bool   // this is the first page
	Counts  string
	Name    string // the filter
}

const perPage = 100

func (d *dashboard) listInstances(w http.ResponseWriter, v *visit) error {
	marker, name := v.FormValue("after"), strings.TrimSpace(v.FormValue("name"))
	list, more, err := d.servers(v.Context(), v, marker, name)
	if statusOf(err) == http.StatusBadRequest && marker != "" { // the instance that the page began after is gone
		goTo(w, v, Base+"/instances")
		return nil
	}
	if err != nil {
		return err
	}
	data := instanceList{Servers: list, First: marker == "", Counts: counts(list), Name: name}
	data.live = live{listURL(marker, name), pace(list...)}
	if more {
		data.Next = listURL(list[len(list)-1].ID, name)
	}
	p := page{Title: "Instances", Tab: "instances", Data: data}
	if v.live() {
		return d.render(w, v, http.StatusOK, "instances", "live", p)
	}
	return d.show(w, v, http.StatusOK, "instances", p)
}

func listURL(marker, name string) string {
	q := url.Values{}
	for key, value := range map[string]string{"after": marker, "name": name} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if len(q) == 0 {
		return Base + "/instances"
	}
	return Base + "/instances?" + q.Encode()
}

// counts sums a list up: "2 instances: 1 active, 1 build".
func counts(list []server) string {
	by := map[string]int{}
	for _, s := range list {
		by[strings.ToLower(s.Status)]++
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, strconv.Itoa(by[status])+" "+status)
	}
	return plural(len(list), "instance") + ": " + strings.Join(parts, ", ")
}

// servers reads a page of the project's servers with the names of their images.
func (d *dashboard) servers(ctx context.Context, v *visit, marker, name string) ([]server, bool, error) {
	q := url.Values{"limit": {strconv.Itoa(perPage)}, "sort_key": {"created_at"}, "sort_dir": {"desc"}}
	if marker != "" {
		q.Set("marker", marker)
	}
	if name != "" {
		q.Set("name", regexp.QuoteMeta(name)) // the API takes an expression, a person types a part of the name
	}
	var got struct {
		Servers []server `json:"servers"`
		Links   []any    `json:"servers_links"`
	}
	var names map[string]string
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.get(ctx, v, "/compute/v2.1/servers/detail?"+q.Encode(), &got) })
	g.Go(func() (err error) {
		names, err = d.imageNames(ctx, v)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, false, err
	}
	for i := range got.Servers {
		s := &got.Servers[i]
		s.ImageName = cmp.Or(names[s.Image.ID], s.Image.ID)
	}
	return got.Servers, len(got.Links) > 0 && len(got.Servers) > 0, nil
}

// imageNames are those of the newest thousand images; of others the id is shown.
func (d *dashboard) imageNames(ctx context.Context, v *visit) (map[string]string, error) {
	var got struct {
		Images []image `json:"images"`
	}
	if err := d.get(ctx, v, "/image/v2/images?limit=1000", &got); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, i := range got.Images {
		names[i.ID] = i.Name
	}
	return names, nil
}
