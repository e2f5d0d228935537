package web

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// What the form offers, as the API lists it.
type (
	image struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Status  string `json:"status"`
		Size    *int64 `json:"size"` // bytes
		MinDisk int    `json:"min_disk"`
		MinRAM  int64  `json:"min_ram"`
		Sites   string `json:"headwater:sites"`

		Owner      string `json:"owner"`
		Visibility string `json:"visibility"`
	}
	flavor struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		VCPUs int    `json:"vcpus"`
		RAM   int64  `json:"ram"`
		Disk  int    `json:"disk"`
	}
	network struct {
		ID       string   `json:"id"`
		Name     string   `json:"name"`
		External bool     `json:"router:external"`
		Shared   bool     `json:"shared"`
		Subnets  []string `json:"subnets"`
		Zones    []string `json:"availability_zones"`
		Project  string   `json:"project_id"`

		Ranges []string `json:"-"` // of its subnets
	}
	subnet struct {
		ID   string `json:"id"`
		CIDR string `json:"cidr"`
	}
	keypair struct {
		Keypair struct {
			Name string `json:"name"`
		} `json:"keypair"`
	}
	group struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}
)

// offer is everything that can be chosen.
type offer struct {
	Images   []image
	Flavors  []flavor
	Networks []network
	Keys     []keypair
	Groups   []group
	Sites    []site
}

// choice is what was chosen and typed.
type choice struct {
	Name, Image, Flavor, Key, UserData, Site, Zone string
	Networks, Groups                               []string
	NoNetwork                                      bool // said on purpose
}

// At lists the sites that have the image's bytes.
func (i image) At() string { return strings.ReplaceAll(i.Sites, ",", ", ") }

// Has reports whether a network or a group is chosen.
func (c choice) Has(list []string, id string) bool { return slices.Contains(list, id) }

// launchPage is the form.
type launchPage struct {
	Offer   offer
	Choice  choice
	Picker  picker
	Problem string
}

// offer reads everything at once.
func (d *dashboard) offer(ctx context.Context, v *visit) (offer, error) {
	var o offer
	var images struct{ Images []image }
	var flavors struct{ Flavors []flavor }
	var networks struct{ Networks []network }
	var subnets struct{ Subnets []subnet }
	var keys struct{ Keypairs []keypair }
	var groups struct {
		Groups []group `json:"security_groups"`
	}
	g, ctx := errgroup.WithContext(ctx)
	for path, into := range map[string]any{
		"/image/v2/images?status=active&limit=1000": &images,
		"/compute/v2.1/flavors/detail":              &flavors,
		"/network/v2.0/networks":                    &networks,
		"/network/v2.0/subnets":                     &subnets,
		"/compute/v2.1/os-keypairs":                 &keys,
		"/network/v2.0/security-groups?project_id=" + url.QueryEscape(v.session.ProjectID): &groups,
	} {
		g.Go(func() error { return d.get(ctx, v, path, into) })
	}
	g.Go(func() (err error) {
		o.Sites, err = d.sites(ctx, v)
		return err
	})
	if err := g.Wait(); err != nil {
		return o, err
	}
	o.Flavors, o.Keys, o.Groups = flavors.Flavors, keys.Keypairs, groups.Groups
	o.Images = slices.DeleteFunc(images.Images, func(i image) bool { return i.Visibility == "private" && i.Owner != v.session.ProjectID })
	o.Networks = withRanges(usable(networks.Networks, v.session.ProjectID), subnets.Subnets)
	o.sort()
	return o, nil
}

// usable drops external networks, to which servers are not attached, and those of
// other projects, which the API lists for an operator.
func usable(list []network, project string) []network {
	return slices.DeleteFunc(list, func(n network) bool { return n.External || n.Project != project && !n.Shared })
}

// withRanges adds the networks' address ranges.
func withRanges(list []network, subnets []subnet) []network {
	ranges := map[string]string{}
	for _, s := range subnets {
		ranges[s.ID] = s.CIDR
	}
	for i := range list {
		for _, s := range list[i].Subnets {
			if r := ranges[s]; r != "" {
				list[i].Ranges = append(list[i].Ranges, r)
			}
		}
	}
	return list
}

func (o *offer) sort() {
	slices.SortFunc(o.Images, func(a, b image) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(o.Flavors, func(a, b flavor) int {
		return cmp.Or(cmp.Compare(a.RAM, b.RAM), cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(o.Networks, func(a, b network) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(o.Groups, func(a, b group) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
}

// fresh is the form as it opens: what most people take is chosen.
func (o offer) fresh() choice {
	c := choice{Groups: []string{}, Networks: []string{}}
	if len(o.Images) > 0 {
		c.Image = o.Images[0].ID
	}
	if len(o.Flavors) > 0 {
		c.Flavor = o.Flavors[0].ID
	}
	if len(o.Networks) == 1 {
		c.Networks = []string{o.Networks[0].ID}
	}
	for _, g := range o.Groups {
		if g.Name == "default" {
			c.Groups = []string{g.ID}
		}
	}
	return c
}

// typed reads the form.
func typed(v *visit) choice {
	c := choice{
		Name: strings.TrimSpace(v.PostFormValue("name")), Image: v.PostFormValue("image"), Flavor: v.PostFormValue("flavor"), Key: v.PostFormValue("key"),
		UserData: v.PostFormValue("user_data"), Site: v.PostFormValue("site"), Zone: v.PostFormValue("zone"),
		Networks: v.PostForm["network"], Groups: v.PostForm["group"], NoNetwork: v.PostFormValue("no_network") != "",
	}
	if site, _, _ := strings.Cut(c.Zone, "/"); site != c.Site {
		c.Zone = "" // it was chosen for another site
	}
	return c
}

// zone is the availability zone to ask for: "" leaves the choice to Headwater.
func (c choice) zone() string { return cmp.Or(c.Zone, c.Site) }

// body is the request that makes the server: the same for POST /servers and for asking placement.
func (c choice) body(zone string) object {
	s := object{"name": cmp.Or(c.Name, "unnamed"), "flavorRef": c.Flavor, "imageRef": c.Image}
	networks := make([]object, len(c.Networks))
	for i, id := range c.Networks {
		networks[i] = object{"uuid": id}
	}
	s["networks"] = networks
	if len(networks) == 0 {
		s["networks"] = "none"
	}
	if zone != "" {
		s["availability_zone"] = zone
	}
	if c.Key != "" {
		s["key_name"] = c.Key
	}
	if len(c.Groups) > 0 && len(networks) > 0 {
		groups := make([]object, len(c.Groups))
		for i, id := range c.Groups {
			groups[i] = object{"name": id} // Nova takes an id here as well
		}
		s["security_groups"] = groups
	}
	if c.UserData != "" {
		// Browsers send CRLF; a script whose first line ends so does not start.
		text := strings.ReplaceAll(c.UserData, "\r\n", "\n")
		s["user_data"] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	return object{"server": s}
}

func (d *dashboard) showLaunch(w http.ResponseWriter, v *visit) error {
	o, err := d.offer(v.Context(), v)
	if err != nil {
		return err
	}
	c := o.fresh()
	if name := v.FormValue("site"); slices.ContainsFunc(o.Sites, func(s site) bool { return s.Name == name }) {
		c.Site = name // a link of the sites' page
	}
	return d.launchForm(w, v, http.StatusOK, o, c, "")
}

func (d *dashboard) launchForm(w http.ResponseWriter, v *visit, status int, o offer, c choice, problem string) error {
	pick, err := d.picker(v, o.Sites, c)
	if err != nil {
		return err
	}
	return d.show(w, v, status, "launch", page{Title: "Launch an instance", Tab: "launch", Data: launchPage{o, c, pick, problem}})
}

// launch makes the server. What the API refuses is said at the form, which keeps what was typed.
func (d *dashboard) launch(w http.ResponseWriter, v *visit) error {
	c := typed(v)
	var err error
	switch {
	case v.PostFormValue("preview") != "": // without scripts: only look at placement
	case c.Name == "":
		err = &apiError{Status: http.StatusBadRequest, Message: "The instance needs a name."}
	case len(c.Networks) == 0 && !c.NoNetwork:
		err = &apiError{Status: http.StatusBadRequest, Message: "Choose a network, or say that the instance has none."}
	default:
		_, err = d.api.call(v.Context(), v.session.Token, http.MethodPost, "/compute/v2.1/servers", c.body(c.zone()), nil)
		if err == nil {
			http.Redirect(w, v.Request, Base+"/instances", http.StatusSeeOther)
			return nil
		}
	}
	problem, status := "", http.StatusOK
	if code := statusOf(err); err != nil && (code == 0 || code == http.StatusUnauthorized) {
		return err
	} else if err != nil {
		problem, status = d.named(v, c, d.problem(v, err).Message), http.StatusUnprocessableEntity
	}
	o, err := d.offer(v.Context(), v)
	if err != nil {
		return err
	}
	return d.launchForm(w, v, status, o, c, problem)
}

// number is a count with its thousands apart.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
