package members

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want []string // in the error; none: it is valid
	}{
		{"as it is", func(*Config) {}, nil},
		{"seeds of all forms", func(c *Config) {
			c.Seeds = []string{"10.0.0.1", "10.0.0.1:7000", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:7000", "seeds", "seeds.example.org:7000"}
		}, nil},
		{"everywhere, with an address to advertise", func(c *Config) {
			c.Bind, c.Advertise = netip.MustParseAddrPort("[::]:7946"), netip.MustParseAddrPort("10.0.0.1:7946")
		}, nil},
		{"nothing", func(c *Config) { *c = Config{} }, []string{"site", "host id", "bind address", "no key", "probe of 0s", "suspicion", "rejoin", "forget"}},
		{"names", func(c *Config) { c.Site, c.Host = "East", "a b" }, []string{`site "East"`, `host id "a b"`}},
		{"everywhere", func(c *Config) { c.Bind = netip.MustParseAddrPort("0.0.0.0:7946") }, []string{"set an address to advertise"}},
		{"seeds", func(c *Config) { c.Seeds = []string{"", "a:b", "a:0", "a/b", "x:70000"} }, []string{`seed ""`, `seed "a:b"`, `seed "a:0"`, `seed "a/b"`, `seed "x:70000"`}},
		{"keys", func(c *Config) { c.Keys = []ident.Secret{key(1), "QUJD", "?"} }, []string{"key 2: want 16, 24 or 32 bytes", "key 3: want base64"}},
		{"times", func(c *Config) { c.ProbeTimeout, c.Farewell = c.Probe, -time.Second }, []string{"is not shorter than probe", "farewell"}},
		{"meta", func(c *Config) { c.Meta.Ends = []state.TunnelEnd{{}} }, []string{"tunnel end"}},
		{"scope", func(c *Config) { c.Scope = 7 }, []string{"scope 7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := settings(1)
			tt.edit(&c)
			err := c.Validate()
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("Validate() = %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v, want %q", err, want)
				}
			}
			if _, fails := New(c); (fails == nil) != (err == nil) {
				t.Errorf("New returns %v, Validate %v", fails, err)
			}
		})
	}
}

func TestSeedForms(t *testing.T) {
	t.Parallel()
	c := settings(1)
	for seed, want := range map[string]string{
		"10.0.0.1": "10.0.0.1 7946", "10.0.0.1:7000": "10.0.0.1 7000", "[2001:db8::1]:7000": "2001:db8::1 7000", "2001:db8::1": "2001:db8::1 7946", "seeds:1": "seeds 1",
	} {
		host, port, err := c.seed(seed)
		if got := host + " " + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]; got != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", seed, got, err, want)
		}
	}
}

func TestDefaultTimes(t *testing.T) {
	t.Parallel()
	site, wan := Default(Site), Default(WAN)
	if site.Probe >= wan.Probe || site.Gossip >= wan.Gossip || site.Scope != Site || wan.Scope != WAN {
		t.Errorf("site %+v, wan %+v", site, wan)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"east/host-1": true, "east/rack/host:1": true, "east/": false, "east": false, "/host": false, "": false, "EAST/host": false, "east/ho st": false,
		"east/" + strings.Repeat("x", 65): false,
	} {
		id, ok := parseID(text)
		if ok != want || ok && id.String() != text {
			t.Errorf("parseID(%q) = %v, %v, want %v", text, id, ok, want)
		}
	}
	ids := []ID{{"west", "a"}, {"east", "b"}, {"east", "a"}}
	slices.SortFunc(ids, ID.Compare)
	if ids[0] != (ID{"east", "a"}) || ids[2] != (ID{"west", "a"}) {
		t.Errorf("sorted: %v", ids)
	}
}
