package registry

import (
	"slices"

	"github.com/headwater-cloud/headwater/sites"
)

// Fidelity says how true a verb is at a site.
type Fidelity string

// The fidelities.
const (
	Exact   Fidelity = "exact"   // as on one cloud
	Mapped  Fidelity = "mapped"  // the same for the tenant, made differently at the site
	Refused Fidelity = "refused" // answered with 409
)

// Verb says how true one verb of the tenant APIs is at a site.
type Verb struct {
	Verb string   `json:"verb"`
	How  Fidelity `json:"how"`
	Why  string   `json:"why,omitempty"` // "" when exact
}

// verbRow is a line of the table verb x tenancy (sites/README.md: Tenancies).
type verbRow struct {
	verb                    string
	project, static, shared Fidelity
	why                     string // of what is not exact
}

// verbTable is the table verb x tenancy. What is not in it is exact everywhere.
func verbTable() []verbRow {
	return []verbRow{
		{"server create, show, list, delete and actions", Exact, Exact, Exact, ""},
		{"keypair create, import", Mapped, Mapped, Mapped, "Top keeps the key and pushes its public half under the name hw-ID"},
		{"security group default", Mapped, Mapped, Mapped, "a group of Top's own; the site's group default is never used"},
		{"flavor list", Mapped, Mapped, Mapped, "flavors of equal size and specs are one flavor at Top"},
		{"flavor create", Exact, Refused, Refused, "making flavors needs an administrator at the site"},
		{"quota set", Exact, Mapped, Mapped, "Top enforces it; the site's own limits stay. Placement minds what those of a shared account leave, and does not read those of a project's own"},
		{"image visibility private", Exact, Exact, Mapped, "all projects share the site's account; Top alone keeps them apart"},
		{"image member add", Mapped, Mapped, Mapped, "kept at Top, and made at a site when the member first uses the image there"},
		{"isolation from other projects by the site itself", Exact, Exact, Refused, "all projects share one project of the site; names and markers keep them apart at Top"},
		{"hypervisor list, compute service list", Mapped, Mapped, Mapped, "a site is shown as one compute host"},
		{"server migrate, server create on a named host", Refused, Refused, Refused, "projects act as ordinary members at a site"},
		{"network create --share (by an administrator of Top)", Mapped, Refused, Mapped, "the network is shared, at the one site where it lives, with each project that uses it; ports of others there are made by an administrator of the site"},
		{"network create --external, provider attributes", Refused, Refused, Refused, "external and provider networks are made at a site, by its operator; Top takes over those that are for all"},
		{"router gateway without SNAT or with a fixed address, router distributed or ha", Exact, Refused, Refused, "only administrators of the site may, and Top's account is none"},
		{"floating ip address, port binding, address or MAC on another's network", Exact, Refused, Refused, "only administrators of the site may, and Top's account is none"},
	}
}

// Verbs returns what a tenancy makes exact, mapped or refused at a site with these capabilities.
func Verbs(tenancy sites.Tenancy, caps *sites.Capabilities) []Verb {
	var verbs []Verb
	for _, row := range verbTable() {
		how := map[sites.Tenancy]Fidelity{
			sites.TenancyProject: row.project, sites.TenancyStatic: row.static, sites.TenancyShared: row.shared,
		}[tenancy]
		v := Verb{Verb: row.verb, How: how}
		if how != Exact {
			v.Why = row.why
		}
		verbs = append(verbs, v)
	}
	if _, ok := caps.Services[sites.BlockStorage]; !ok {
		verbs = append(verbs, Verb{Verb: "volume create, attach, snapshot", How: Refused, Why: "the site has no block-storage service"})
	}
	if slices.ContainsFunc(caps.ExternalNetworks, hidden) {
		verbs = append(verbs, Verb{Verb: "subnet list, show of an external network", How: Mapped,
			Why: "the site tells this account the subnets' ids alone: gateways, floating IPs and the network name them, list and show do not find them, as for an ordinary user of one cloud"})
	}
	if len(caps.ExternalNetworks) == 0 {
		verbs = append(verbs, Verb{Verb: "floating ip create", How: Refused, Why: "the site shows this account no external network"})
	}
	return verbs
}

// hidden reports whether the account sees a network without its subnets.
func hidden(n sites.ExternalNetwork) bool {
	return slices.ContainsFunc(n.Subnets, func(s sites.Body) bool { return s["cidr"] == nil })
}
