package openstack

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/headwater-cloud/headwater/sites"
)

// serviceTypes are the names under which catalogs list a service, best first (service-types-authority, with the old ones).
var serviceTypes = map[sites.Service][]string{
	sites.Identity:     {"identity"},
	sites.Compute:      {"compute"},
	sites.ImageService: {"image"},
	sites.NetworkSvc:   {"network"},
	sites.BlockStorage: {"block-storage", "volumev3", "block-store", "volume"},
	sites.Placement:    {"placement"},
}

var (
	versionPart = regexp.MustCompile(`^v\d+(\.\d+)?$`)
	oldVolume   = regexp.MustCompile(`/v[12](/|$)`)
)

// endpoints picks each service's URL from a catalog by region and interface
// and brings it into the form that paths are appended to: versioned, with a
// slash at its end.
func endpoints(catalog []tokens.CatalogEntry, region, iface, project string) map[sites.Service]string {
	if iface == "" {
		iface = "public"
	}
	found := map[sites.Service]string{}
	for service, types := range serviceTypes {
		for _, name := range types {
			if u := pick(catalog, name, region, iface); u != "" && !(service == sites.BlockStorage && oldVolume.MatchString(u)) {
				found[service] = versioned(service, u, project)
				break
			}
		}
	}
	return found
}

func pick(catalog []tokens.CatalogEntry, name, region, iface string) string {
	for _, entry := range catalog {
		if entry.Type != name {
			continue
		}
		for _, e := range entry.Endpoints {
			if e.Interface == iface && e.URL != "" && (region == "" || e.Region == region || e.RegionID == region) {
				return e.URL
			}
		}
	}
	return ""
}

// versioned adds the version that a catalog leaves out.
func versioned(service sites.Service, raw, project string) string {
	base := strings.TrimRight(raw, "/") + "/"
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	has := slices.ContainsFunc(strings.Split(u.Path, "/"), versionPart.MatchString)
	switch {
	case service == sites.Identity:
		id, err := identityBase(base)
		if err != nil {
			return ""
		}
		return id + "v3/"
	case has:
	case service == sites.Compute:
		base += "v2.1/"
	case service == sites.ImageService:
		base += "v2/"
	case service == sites.NetworkSvc:
		base += "v2.0/"
	case service == sites.BlockStorage:
		base += "v3/" + project + "/"
	}
	return base
}

// versionsURL is where a service tells its versions. Nova and Cinder tell the
// window of microversions below the version, Keystone too; Glance and Neutron
// list their versions above it.
func versionsURL(service sites.Service, endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	parts := strings.Split(u.Path, "/")
	for i, part := range parts {
		if versionPart.MatchString(part) {
			if service != sites.ImageService && service != sites.NetworkSvc {
				i++
			}
			u.Path, u.RawPath = strings.Join(parts[:i], "/")+"/", ""
			return u.String()
		}
	}
	return endpoint
}

// regions lists the regions of a catalog that offer a compute service, or all when none does.
func regions(catalog []tokens.CatalogEntry) []string {
	var all, compute []string
	for _, entry := range catalog {
		for _, e := range entry.Endpoints {
			name := e.Region
			if name == "" {
				name = e.RegionID
			}
			if name == "" {
				continue
			}
			all = append(all, name)
			if entry.Type == "compute" {
				compute = append(compute, name)
			}
		}
	}
	if len(compute) > 0 {
		all = compute
	}
	slices.Sort(all)
	return slices.Compact(all)
}
