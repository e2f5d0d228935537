package registry

import (
	"slices"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
)

// The table tells of each site what is not as on one cloud, and of no site what is.
func TestVerbs(t *testing.T) {
	t.Parallel()
	whole := sites.Body{"id": "s1", "cidr": "10.0.0.0/24"}
	full := func(change func(*sites.Capabilities)) *sites.Capabilities {
		c := &sites.Capabilities{
			Services:         map[sites.Service]sites.ServiceInfo{sites.Compute: {}, sites.BlockStorage: {}},
			ExternalNetworks: []sites.ExternalNetwork{{Name: "public", Subnets: []sites.Body{whole}}},
		}
		if change != nil {
			change(c)
		}
		return c
	}
	for _, tt := range []struct {
		name    string
		tenancy sites.Tenancy
		caps    *sites.Capabilities
		verb    string
		want    Fidelity // "" when the table must not name it
	}{
		{"an administrator makes flavors", sites.TenancyProject, full(nil), "flavor create", Exact},
		{"a given account does not", sites.TenancyStatic, full(nil), "flavor create", Refused},
		{"nor a shared one", sites.TenancyShared, full(nil), "flavor create", Refused},
		{"a shared account's images", sites.TenancyShared, full(nil), "image visibility private", Mapped},
		{"no volumes", sites.TenancyShared, full(func(c *sites.Capabilities) { delete(c.Services, sites.BlockStorage) }), "volume create, attach, snapshot", Refused},
		{"no external network", sites.TenancyShared, full(func(c *sites.Capabilities) { c.ExternalNetworks = nil }), "floating ip create", Refused},
		{"external subnets are seen", sites.TenancyProject, full(nil), "subnet list, show of an external network", ""},
		{"external subnets are not seen", sites.TenancyShared, full(func(c *sites.Capabilities) {
			c.ExternalNetworks[0].Subnets = []sites.Body{whole, {"id": "s2", "network_id": "n"}}
		}), "subnet list, show of an external network", Mapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			verbs := Verbs(tt.tenancy, tt.caps)
			i := slices.IndexFunc(verbs, func(v Verb) bool { return v.Verb == tt.verb })
			switch {
			case i < 0 && tt.want != "":
				t.Errorf("the table does not name %q", tt.verb)
			case i >= 0 && (verbs[i].How != tt.want || verbs[i].Why == "" && verbs[i].How != Exact):
				t.Errorf("%q is %s (%s), want %q", tt.verb, verbs[i].How, verbs[i].Why, tt.want)
			}
		})
	}
}
