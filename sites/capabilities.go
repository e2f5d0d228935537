package sites

import (
	"time"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Tenancy says how a Top project appears at a site (sites/README.md: Tenancies).
type Tenancy string

// The tenancies.
const (
	// TenancyProject: Top's administrator account makes a project and an ordinary member there for each Top project.
	TenancyProject Tenancy = "project"
	// TenancyStatic: the operator gives a credential per Top project.
	TenancyStatic Tenancy = "static"
	// TenancyShared: one ordinary account for all; names and markers keep projects apart.
	TenancyShared Tenancy = "shared"
)

// Credential is an account at a site, in the words of clouds.yaml.
type Credential struct {
	AuthURL           string       `json:"auth_url"`
	Region            string       `json:"region_name,omitempty"`
	Interface         string       `json:"interface,omitempty"` // public (default), internal or admin
	Username          string       `json:"username,omitempty"`
	UserID            string       `json:"user_id,omitempty"`
	Password          ident.Secret `json:"password,omitempty"`
	UserDomainName    string       `json:"user_domain_name,omitempty"`
	UserDomainID      string       `json:"user_domain_id,omitempty"`
	ProjectName       string       `json:"project_name,omitempty"`
	ProjectID         string       `json:"project_id,omitempty"`
	ProjectDomainName string       `json:"project_domain_name,omitempty"`
	ProjectDomainID   string       `json:"project_domain_id,omitempty"`
	AppCredID         string       `json:"application_credential_id,omitempty"`
	AppCredName       string       `json:"application_credential_name,omitempty"`
	AppCredSecret     ident.Secret `json:"application_credential_secret,omitempty"`
	CACert            string       `json:"cacert,omitempty"` // PEM text, not a path
	Insecure          bool         `json:"insecure,omitempty"`
}

// ServiceInfo is what a probe learned of one service.
type ServiceInfo struct {
	URL             string `json:"url"`
	Version         string `json:"version,omitempty"`          // the current API version's id: "v2.1", "v3.14"
	MinMicroversion string `json:"min_microversion,omitempty"` // "2.1"; "" when the service has none
	MaxMicroversion string `json:"max_microversion,omitempty"`
}

// FlavorInfo is a flavor of a site.
type FlavorInfo struct {
	ID         ident.BottomID    `json:"id"`
	Name       string            `json:"name"`
	VCPUs      int               `json:"vcpus"`
	RAM        int               `json:"ram"`  // MiB
	Disk       int               `json:"disk"` // GiB
	Ephemeral  int               `json:"ephemeral"`
	Swap       int               `json:"swap"` // MiB
	RxTxFactor float64           `json:"rxtx_factor"`
	Public     bool              `json:"public"`
	Extra      map[string]string `json:"extra_specs,omitempty"`
}

// ExternalNetwork is a network of a site on which floating IPs can be had.
type ExternalNetwork struct {
	ID      ident.BottomID `json:"id"`
	Name    string         `json:"name"`
	Subnets []Body         `json:"subnets,omitempty"` // those that the account may not see have id and network_id only, no cidr
	Body    Body           `json:"body,omitempty"`    // as the site showed it
}

// SharedNetwork is a network of a site that is not external and that others than its owner use: a provider network.
type SharedNetwork struct {
	ExternalNetwork
	// ToAll says that every project of the site may use it, which the account could prove: some networks are shared with it alone.
	ToAll bool `json:"to_all"`
}

// Capacity is a site's own summary of what it has and what is used.
type Capacity struct {
	// Known says that the figures come from hypervisors or placement; without it only the project's limits are known.
	Known      bool  `json:"known"`
	Hosts      int   `json:"hosts"`
	VCPUs      int64 `json:"vcpus"` // as schedulable: multiplied by the allocation ratio where known
	VCPUsUsed  int64 `json:"vcpus_used"`
	RAM        int64 `json:"ram"` // MiB
	RAMUsed    int64 `json:"ram_used"`
	Disk       int64 `json:"disk"` // GiB
	DiskUsed   int64 `json:"disk_used"`
	Running    int64 `json:"running"` // servers
	Volumes    int64 `json:"volumes_gib"`
	VolumesMax int64 `json:"volumes_max_gib"`
}

// Capabilities is the vector that a probe stores of a site.
type Capabilities struct {
	ProbedAt   time.Time               `json:"probed_at"`
	Services   map[Service]ServiceInfo `json:"services"`
	Extensions []string                `json:"extensions"` // Neutron's aliases
	// Zones are the site's availability zones by service (compute, network, block-storage), available ones only.
	Zones map[Service][]string `json:"zones"`
	// DefaultZones name the zone that a service uses when none is asked for; "" means that it picks.
	DefaultZones     map[Service]string           `json:"default_zones,omitempty"`
	Flavors          []FlavorInfo                 `json:"flavors"`
	VolumeTypes      []string                     `json:"volume_types"`
	ExternalNetworks []ExternalNetwork            `json:"external_networks"`
	SharedNetworks   []SharedNetwork              `json:"shared_networks,omitempty"`
	ImportMethods    []string                     `json:"import_methods"` // Glance's
	Quota            map[Service]map[string]int64 `json:"quota"`          // the account's own project, remaining limits; -1 unlimited
	// Admin says that administrators' verbs work: projects can be made, hypervisors seen, flavors made.
	Admin       bool   `json:"admin"`
	AdminReason string `json:"admin_reason,omitempty"` // why not
	// Roles are the account's at the probe, from a token issued for it.
	Roles []string `json:"roles,omitempty"`
	// NetworksListed says that external and shared networks were all listed: only then does one that is not there mean anything.
	NetworksListed bool     `json:"networks_listed,omitempty"`
	Capacity       Capacity `json:"capacity"`
	// ClockSkew is the site's clock minus ours, from the Date headers, with the precision of a second.
	ClockSkew time.Duration `json:"clock_skew"`
	// Warnings are sentences on what will not work there, for the operator.
	Warnings []string `json:"warnings,omitempty"`
}

// HasExtension reports whether Neutron at the site has the extension with the given alias.
func (c *Capabilities) HasExtension(alias string) bool {
	for _, a := range c.Extensions {
		if a == alias {
			return true
		}
	}
	return false
}
