// Package placement chooses the site of a resource (cascade/README.md: Late placement; sites/README.md: Zones). Choose
// is pure: the same input gives the same answer, with the reason for every site,
// so that what placement would do can be asked and explained by the code that does it.
package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Health is a site's state as the prober says.
type Health string

// The states of health. An unknown site is one that was not probed yet; it is used when nothing better is there.
const (
	Up       Health = "up"
	Degraded Health = "degraded"
	Down     Health = "down"
	Unknown  Health = "unknown"
)

// Site is a candidate.
type Site struct {
	Name     ident.SiteID
	Enabled  bool
	Draining bool
	Health   Health
	Reason   string // of the health
	Capable  *sites.Capabilities
	// Zones maps the site's top zones ("east/az1") to the zone of the asked service there.
	Zones map[string]string
	// Flavor says whether the wanted flavor is there or can be made; ImageThere whether the image's bytes are.
	FlavorOK   bool
	FlavorWhy  string
	ImageThere bool
	// Pending is what Top has accepted for the site and the site does not count yet.
	Pending Load
	// Closed says why the project cannot be there at all, in words for the tenant; "" when it can.
	Closed string
	// Quota is what the site's own quota left, when it was probed last, to the account as which all projects act there,
	// by Nova's names; nil where each project has an account of its own. -1 is unlimited.
	Quota map[string]int64
}

// Load is an amount of what a site has.
type Load struct {
	Servers, VCPUs, RAMMiB, DiskGiB int64
}

// Tie is an existing resource that the new one must be with.
type Tie struct {
	ID   ident.TopID
	Kind sites.Kind
	Site ident.SiteID
	// Any, when not empty, are the sites that have it, each as good as the other; Site is then "".
	Any []ident.SiteID
}

// at reports whether the tie leaves a site open.
func (t Tie) at(site ident.SiteID) bool { return len(t.Any) == 0 || slices.Contains(t.Any, site) }

// Ask is what Choose decides on.
type Ask struct {
	Pin     ident.SiteID // of the region, "" when none
	Zone    string       // as the tenant gave it: "", "east" or "east/az1"
	Service sites.Service
	Ties    []Tie
	Home    ident.SiteID // the project's, "" when it has none yet
	Need    Load
	Spread  bool // prefer the emptiest site over the project's home
	Image   bool // an image is wanted: sites that have it are preferred
	Flavor  bool
}

// Verdict is what was decided on one site.
type Verdict struct {
	Site    ident.SiteID       `json:"site"`
	Fit     bool               `json:"fit"`
	Reasons []string           `json:"reasons"`           // why not, or what speaks for it
	Score   float64            `json:"score"`             // higher is better; only among fits
	Weights map[string]float64 `json:"weights,omitempty"` // what the score is the sum of
}

// Decision is where a resource goes and why.
type Decision struct {
	Site       ident.SiteID `json:"site"`
	BottomZone string       `json:"bottom_zone,omitempty"` // "" lets the site choose
	Rule       string       `json:"rule"`                  // zone | region | reference | home | score
	Verdicts   []Verdict    `json:"verdicts"`
}

const op = "cascade/placement.Choose"

// Choose picks the best site. Its errors: BadRequest for a zone that is not
// there, Conflict when references or pins name two sites, Unavailable (with
// the site's name and reason) when the only possible site is down, disabled or
// full, Conflict when the project has no account at the only possible site. Forbidden-free: who may use what was decided before.
// With a Conflict or Unavailable the decision still has the verdicts.
func Choose(ask Ask, all []Site) (Decision, error) {
	target, rule, err := ask.target(all)
	if err != nil {
		return Decision{Verdicts: ask.torn(all, err)}, err
	}
	d := Decision{Rule: rule}
	for _, s := range all {
		d.Verdicts = append(d.Verdicts, judge(ask, s, target))
	}
	slices.SortStableFunc(d.Verdicts, func(a, b Verdict) int {
		if a.Fit != b.Fit {
			return map[bool]int{true: -1, false: 1}[a.Fit]
		}
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Site, b.Site))
	})
	if len(d.Verdicts) == 0 {
		return d, &fault.Error{Op: op, Kind: fault.Unavailable, RetryAfter: 60, Msg: "No site is registered yet. The operator adds one with: headwater site add."}
	}
	if !d.Verdicts[0].Fit {
		for _, s := range all {
			if s.Name == target && s.Closed != "" && s.Enabled { // waiting does not help: no 503
				return d, &fault.Error{Op: op, Site: string(target), Kind: fault.Conflict, Msg: fmt.Sprintf("Site %s cannot take the request: %s.", target, s.Closed)}
			}
		}
		return d, refusal(target, d.Verdicts)
	}
	d.Site = d.Verdicts[0].Site
	if d.Rule == "" {
		d.Rule = "score"
		if d.Site == ask.Home {
			d.Rule = "home"
		}
	}
	for _, s := range all {
		if s.Name == d.Site && strings.Contains(ask.Zone, "/") {
			d.BottomZone = s.Zones[ask.Zone]
		}
	}
	return d, nil
}

// target is the one site that the request allows, or "" when it leaves the choice.
func (ask Ask) target(all []Site) (ident.SiteID, string, error) {
	target, rule, why := ident.SiteID(""), "", ""
	settle := func(site ident.SiteID, r, because string) error {
		if target != "" && target != site {
			return fault.New(fault.Conflict, op, "%s asks for site %s, but %s is at site %s. Both must be at one site.", upperFirst(why), target, because, site)
		}
		if target == "" {
			target, rule, why = site, r, because
		}
		return nil
	}
	if ask.Zone != "" && !zoneExists(ask.Zone, all) {
		return "", "", fault.New(fault.BadRequest, op, "The requested availability zone is not available: %s", ask.Zone)
	}
	for _, d := range ask.demands() {
		if err := settle(d.site, d.rule, d.because); err != nil {
			return "", "", err
		}
	}
	for _, t := range ask.Ties {
		if target != "" && !t.at(target) {
			return "", "", fault.New(fault.Conflict, op, "%s asks for site %s, but %s %s is not there (it is at: %s).", upperFirst(why), target, t.Kind, t.ID, names(t.Any))
		}
	}
	return target, rule, nil
}

// demands are what in the request names a site.
func (ask Ask) demands() []demand {
	var out []demand
	if ask.Zone != "" {
		site, _, _ := strings.Cut(ask.Zone, "/")
		out = append(out, demand{ident.SiteID(site), "zone", "availability zone " + ask.Zone})
	}
	if ask.Pin != "" {
		out = append(out, demand{ask.Pin, "region", "region " + string(ask.Pin)})
	}
	for _, t := range ask.Ties {
		if t.Site != "" {
			out = append(out, demand{t.Site, "reference", fmt.Sprintf("%s %s", t.Kind, t.ID)})
		}
	}
	return out
}

func names(list []ident.SiteID) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func zoneExists(zone string, all []Site) bool {
	for _, s := range all {
		if string(s.Name) == zone {
			return true
		}
		if _, ok := s.Zones[zone]; ok {
			return true
		}
	}
	return false
}

// judge decides on one site: filters first, each with its reason; then the weights.
func judge(ask Ask, s Site, target ident.SiteID) Verdict {
	v := Verdict{Site: s.Name}
	no := func(format string, args ...any) { v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...)) }
	switch {
	case target != "" && s.Name != target:
		no("%s", ask.elsewhere(target))
	case !s.Enabled:
		no("the site is disabled")
	case s.Closed != "":
		no("%s", s.Closed)
	case s.Draining && target == "":
		no("the site is being drained: it takes no new resources")
	case s.Draining:
		no("the site is being drained: it takes no new resources, also when asked for by name")
	case s.Health == Down:
		no("the site is down: %s", cmp.Or(s.Reason, "it does not answer"))
	case s.Capable == nil:
		no("the site was not probed yet")
	}
	for _, t := range ask.Ties {
		if !t.at(s.Name) {
			no("%s %s is not at the site", t.Kind, t.ID)
		}
	}
	if len(v.Reasons) == 0 {
		if _, ok := s.Capable.Services[ask.Service]; !ok {
			no("the site has no %s service", ask.Service)
		}
		if ask.Flavor && !s.FlavorOK {
			no("%s", s.FlavorWhy)
		}
		fits(ask.Need, s, no)
	}
	if v.Fit = len(v.Reasons) == 0; v.Fit {
		weigh(ask, s, &v)
	}
	return v
}

// fits compares the need with the site's own figures; a site that does not tell its capacity is believed.
func fits(need Load, s Site, no func(string, ...any)) {
	c := s.Capable.Capacity
	if !c.Known {
		return
	}
	for _, r := range []struct {
		name              string
		need, total, used int64
	}{
		{"vCPUs", need.VCPUs, c.VCPUs, c.VCPUsUsed + s.Pending.VCPUs},
		{"MiB of memory", need.RAMMiB, c.RAM, c.RAMUsed + s.Pending.RAMMiB},
		{"GiB of disk", need.DiskGiB, c.Disk, c.DiskUsed + s.Pending.DiskGiB},
	} {
		if r.need > 0 && r.total > 0 && r.used+r.need > r.total {
			no("not enough %s: %d asked, %d of %d free", r.name, r.need, max(r.total-r.used, 0), r.total)
		}
	}
}

// The weights: home outweighs all others together, so that a project's things
// stay together unless spreading is asked for; then comes the free share of the site.
const (
	weightHome     = 10
	weightImage    = 2
	weightHealthy  = 4
	weightFree     = 1
	weightFreeWide = 8 // when spreading
	// weightNoQuota outweighs home: where the site's own quota has no room the site comes last, but it is asked before the tenant is
	// refused, since it may have more room than it had when it was probed.
	weightNoQuota = -20
)

func weigh(ask Ask, s Site, v *Verdict) {
	v.Weights = map[string]float64{"free": weightFree * freeShare(s)}
	if ask.Spread {
		v.Weights["free"] = weightFreeWide * freeShare(s)
	} else if s.Name == ask.Home {
		v.Weights["home"] = weightHome
		v.Reasons = append(v.Reasons, "it is the project's home site")
	}
	if s.Health == Up {
		v.Weights["health"] = weightHealthy
	} else {
		v.Reasons = append(v.Reasons, fmt.Sprintf("its health is %s: %s", s.Health, cmp.Or(s.Reason, "no reason known")))
	}
	if ask.Image && s.ImageThere {
		v.Weights["image"] = weightImage
		v.Reasons = append(v.Reasons, "the image is there already")
	}
	if why := lacksQuota(ask.Need, s); why != "" {
		v.Weights["quota"] = weightNoQuota
		v.Reasons = append(v.Reasons, why)
	}
	for _, w := range v.Weights {
		v.Score += w
	}
	v.Score = math.Round(v.Score*1000) / 1000
}

// lacksQuota says what the site's own quota does not leave room for.
func lacksQuota(need Load, s Site) string {
	for _, r := range []struct {
		name          string
		need, pending int64
	}{{"instances", need.Servers, s.Pending.Servers}, {"cores", need.VCPUs, s.Pending.VCPUs}, {"ram", need.RAMMiB, s.Pending.RAMMiB}} {
		if left, ok := s.Quota[r.name]; ok && left >= 0 && r.need > 0 && r.need+r.pending > left {
			return fmt.Sprintf("the site's own quota leaves %d %s, and %d are asked", max(left-r.pending, 0), r.name, r.need)
		}
	}
	return ""
}

// freeShare is the free part of the scarcest resource, in [0, 1]; 0.5 where the site does not tell.
func freeShare(s Site) float64 {
	c := s.Capable.Capacity
	if !c.Known {
		return 0.5
	}
	share := 1.0
	for _, r := range [][2]int64{{c.VCPUsUsed + s.Pending.VCPUs, c.VCPUs}, {c.RAMUsed + s.Pending.RAMMiB, c.RAM}, {c.DiskUsed + s.Pending.DiskGiB, c.Disk}} {
		if r[1] > 0 {
			share = min(share, max(0, 1-float64(r[0])/float64(r[1])))
		}
	}
	return share
}

// refusal says why no site is fit: for one site its reasons, else each site's first.
func refusal(target ident.SiteID, verdicts []Verdict) error {
	for _, v := range verdicts {
		if v.Site == target {
			return &fault.Error{Op: op, Site: string(target), Kind: fault.Unavailable, RetryAfter: 30,
				Msg: fmt.Sprintf("Site %s cannot take the request: %s.", target, strings.Join(v.Reasons, "; "))}
		}
	}
	var each []string
	for _, v := range verdicts {
		each = append(each, fmt.Sprintf("%s: %s", v.Site, strings.Join(v.Reasons, "; ")))
	}
	return &fault.Error{Op: op, Kind: fault.Unavailable, RetryAfter: 30, Msg: "No valid host was found: no site can take the request. " + strings.Join(each, ". ") + "."}
}
