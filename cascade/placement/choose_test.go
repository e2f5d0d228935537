package placement

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func site(name ident.SiteID, change func(*Site)) Site {
	s := Site{
		Name: name, Enabled: true, Health: Up, FlavorOK: true,
		Zones: map[string]string{string(name): "", string(name) + "/az1": "az1"},
		Capable: &sites.Capabilities{
			Services: map[sites.Service]sites.ServiceInfo{sites.Compute: {}},
			Capacity: sites.Capacity{Known: true, VCPUs: 10, RAM: 1000, Disk: 100},
		},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func noRoom(s *Site) { s.Quota = map[string]int64{"instances": 0, "cores": 20, "ram": 51200} }

func TestChoose(t *testing.T) {
	t.Parallel()
	east, west := site("east", nil), site("west", nil)
	for _, tt := range []struct {
		name string
		ask  Ask
		all  []Site
		want ident.SiteID
		zone string
		rule string
	}{
		{"zone of a site", Ask{Zone: "west"}, []Site{east, west}, "west", "", "zone"},
		{"inner zone", Ask{Zone: "west/az1"}, []Site{east, west}, "west", "az1", "zone"},
		{"region", Ask{Pin: "west"}, []Site{east, west}, "west", "", "region"},
		{"reference", Ask{Ties: []Tie{{ID: "v", Kind: sites.Volume, Site: "west"}}}, []Site{east, west}, "west", "", "reference"},
		{"unplaced reference binds nothing", Ask{Ties: []Tie{{ID: "n", Kind: sites.Network}}, Home: "west"}, []Site{east, west}, "west", "", "home"},
		{"one of the sites that have it", Ask{Ties: []Tie{{ID: "n", Kind: sites.Network, Any: []ident.SiteID{"north", "west"}}}, Home: "east"}, []Site{east, west}, "west", "", "score"},
		{"home before space", Ask{Home: "west"}, []Site{east, site("west", func(s *Site) { s.Capable.Capacity.VCPUsUsed = 8 })}, "west", "", "home"},
		{"spread ignores home", Ask{Home: "west", Spread: true}, []Site{east, site("west", func(s *Site) { s.Capable.Capacity.VCPUsUsed = 8 })}, "east", "", "score"},
		{"home that is down", Ask{Home: "west"}, []Site{east, site("west", func(s *Site) { s.Health = Down })}, "east", "", "score"},
		{"home that is full", Ask{Home: "west", Need: Load{VCPUs: 4}}, []Site{east, site("west", func(s *Site) { s.Capable.Capacity.VCPUsUsed = 8 })}, "east", "", "score"},
		{"accepted but not yet counted", Ask{Home: "west", Need: Load{VCPUs: 4}}, []Site{east, site("west", func(s *Site) { s.Pending.VCPUs = 8 })}, "east", "", "score"},
		{"healthy before degraded", Ask{}, []Site{site("east", func(s *Site) { s.Health = Degraded }), west}, "west", "", "score"},
		{"where the image is", Ask{Image: true}, []Site{east, site("west", func(s *Site) { s.ImageThere = true })}, "west", "", "score"},
		{"draining", Ask{}, []Site{site("east", func(s *Site) { s.Draining = true }), west}, "west", "", "score"},
		{"a site that does not tell is believed", Ask{Need: Load{VCPUs: 99}}, []Site{east, site("west", func(s *Site) { s.Capable.Capacity.Known = false })}, "west", "", "score"},
		{"no account there", Ask{Home: "east"}, []Site{site("east", func(s *Site) { s.Closed = "project p has no account there" }), west}, "west", "", "score"},
		{"the site's own quota is used up", Ask{Home: "east", Need: Load{Servers: 1, VCPUs: 1}}, []Site{site("east", noRoom), west}, "west", "", "score"},
		{"what is promised takes of the site's own quota", Ask{Home: "east", Need: Load{Servers: 1, VCPUs: 1}}, []Site{site("east", func(s *Site) {
			s.Quota, s.Pending = map[string]int64{"instances": -1, "cores": 4}, Load{Servers: 2, VCPUs: 4}
		}), west}, "west", "", "score"},
		{"the site's own quota has room", Ask{Home: "east", Need: Load{Servers: 1, VCPUs: 1}}, []Site{site("east", func(s *Site) {
			s.Quota = map[string]int64{"instances": 1, "cores": -1, "ram": -1}
		}), west}, "east", "", "home"},
		{"no quota anywhere: the site itself decides", Ask{Need: Load{Servers: 1, VCPUs: 1}}, []Site{site("east", noRoom)}, "east", "", "score"},
		{"equal sites by name", Ask{}, []Site{west, east}, "east", "", "score"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.ask.Service = sites.Compute
			got, err := Choose(tt.ask, tt.all)
			if err != nil {
				t.Fatal(err)
			}
			if got.Site != tt.want || got.BottomZone != tt.zone || got.Rule != tt.rule {
				t.Errorf("Choose = %s zone %q by %s, want %s zone %q by %s", got.Site, got.BottomZone, got.Rule, tt.want, tt.zone, tt.rule)
			}
			for _, v := range got.Verdicts {
				// "the request asks for site west" did not say which part of it does
				if why := strings.Join(v.Reasons, ""); tt.rule == "reference" && !v.Fit && why != "volume v asks for site west" {
					t.Errorf("site %s is refused with %q", v.Site, why)
				}
			}
			if len(got.Verdicts) != len(tt.all) {
				t.Errorf("%d verdicts on %d sites: each site must be told of", len(got.Verdicts), len(tt.all))
			}
		})
	}
}

func TestChooseRefuses(t *testing.T) {
	t.Parallel()
	east, west := site("east", nil), site("west", nil)
	down := site("west", func(s *Site) { s.Health, s.Reason = Down, "connection refused" })
	for _, tt := range []struct {
		name string
		ask  Ask
		all  []Site
		kind fault.Kind
		say  []string
	}{
		{"no site", Ask{}, nil, fault.Unavailable, []string{"site add"}},
		{"unknown zone", Ask{Zone: "north"}, []Site{east}, fault.BadRequest, []string{"north"}},
		{"unknown inner zone", Ask{Zone: "east/az9"}, []Site{east}, fault.BadRequest, []string{"east/az9"}},
		{"zone against region", Ask{Zone: "east", Pin: "west"}, []Site{east, west}, fault.Conflict, []string{"east", "west"}},
		{"volume of east on a server of west", Ask{Zone: "west", Ties: []Tie{{ID: "v1", Kind: sites.Volume, Site: "east"}}}, []Site{east, west}, fault.Conflict, []string{"east", "west", "v1"}},
		{"a network of other sites", Ask{Zone: "west", Ties: []Tie{{ID: "n1", Kind: sites.Network, Any: []ident.SiteID{"east", "north"}}}}, []Site{east, west}, fault.Conflict, []string{"west", "n1", "east, north"}},
		{"no site that has it", Ask{Ties: []Tie{{ID: "n1", Kind: sites.Network, Any: []ident.SiteID{"north", "south"}}}}, []Site{east, west}, fault.Unavailable, []string{"n1"}},
		{"two references", Ask{Ties: []Tie{{ID: "v1", Kind: sites.Volume, Site: "east"}, {ID: "p1", Kind: sites.Port, Site: "west"}}}, []Site{east, west}, fault.Conflict, []string{"v1", "p1"}},
		{"pinned to a dead site", Ask{Zone: "west"}, []Site{east, down}, fault.Unavailable, []string{"west", "connection refused"}},
		{"tied to a dead site", Ask{Ties: []Tie{{ID: "v1", Kind: sites.Volume, Site: "west"}}}, []Site{east, down}, fault.Unavailable, []string{"west", "down"}},
		{"full everywhere", Ask{Need: Load{RAMMiB: 5000}}, []Site{east, west}, fault.Unavailable, []string{"east", "west", "memory"}},
		{"flavor nowhere", Ask{Flavor: true}, []Site{site("east", func(s *Site) { s.FlavorOK, s.FlavorWhy = false, "no such size" })}, fault.Unavailable, []string{"no such size"}},
		{"pinned where it has no account", Ask{Pin: "east"}, []Site{site("east", func(s *Site) { s.Closed = "project p has no account there" }), west}, fault.Conflict, []string{"east", "no account"}},
		{"disabled", Ask{Pin: "east"}, []Site{site("east", func(s *Site) { s.Enabled = false })}, fault.Unavailable, []string{"disabled"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.ask.Service = sites.Compute
			d, err := Choose(tt.ask, tt.all)
			if !fault.Is(err, tt.kind) {
				t.Fatalf("Choose = %v, want %v", err, tt.kind)
			}
			explains(t, d, err, tt.all)
			for _, word := range tt.say {
				if !strings.Contains(fault.Message(err), word) {
					t.Errorf("message %q does not name %q", fault.Message(err), word)
				}
			}
		})
	}
}

// explains holds an explanation to the refusal that it is made of. It had no word on the sites: whoever was told that
// nothing fits had to guess what would.
func explains(t *testing.T, d Decision, refusal error, all []Site) {
	t.Helper()
	e, err := Explained(d, refusal)
	if fault.Is(refusal, fault.BadRequest) {
		if err == nil {
			t.Errorf("a wrong request is explained: %+v", e)
		}
		return
	}
	if err != nil || e.Site != "" || e.Refused == nil || e.Refused.Message != fault.Message(refusal) || e.Refused.Kind != fault.KindOf(refusal).String() {
		t.Errorf("Explained = %+v, %v", e, err)
	}
	if e.Verdicts == nil || len(e.Verdicts) != len(all) {
		t.Fatalf("%d verdicts on %d sites: each site must be told of", len(e.Verdicts), len(all))
	}
	for _, v := range e.Verdicts {
		if v.Fit || len(v.Reasons) == 0 {
			t.Errorf("verdict %+v of a refusal", v)
		}
	}
}
