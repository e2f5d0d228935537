package sites

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ChangedSince returns the query by which the site lists only the resources of
// a kind that changed at or after t, by the site's clock, and reports whether
// it has one. Where it has none, the params are nil and everything must be listed:
//
//   - Neutron knows changed_since, but its extension filter-validation, on by
//     default since Rocky, refuses it (400), as it refuses to sort by updated_at.
//   - Cinder filters volumes by updated_at from microversion 3.60 on; snapshots
//     and backups it refuses to filter by time (400).
//
// A server that is deleted appears once more with the status DELETED; other
// kinds just go.
func (c *Capabilities) ChangedSince(kind Kind, t time.Time) (url.Values, bool) {
	t = t.UTC()
	switch {
	case kind == Server:
		return url.Values{"changes-since": {t.Format(time.RFC3339)}}, true
	case kind == Volume && atLeast(c.Services[BlockStorage].MaxMicroversion, 3, 60):
		return url.Values{"updated_at": {"gte:" + t.Format("2006-01-02T15:04:05")}}, true
	case kind.Service() == NetworkSvc && c.HasExtension("standard-attr-timestamp") && !c.HasExtension("filter-validation"):
		return url.Values{"changed_since": {t.Format("2006-01-02T15:04:05")}}, true
	}
	return nil, false
}

// atLeast compares a microversion.
func atLeast(text string, major, minor int) bool {
	a, b, _ := strings.Cut(text, ".")
	m, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	return err1 == nil && err2 == nil && (m > major || m == major && n >= minor)
}

// ByID returns the query by which a site lists a kind in the order of the
// resources' ids, so that a listing can be compared piece by piece and go on
// where it stopped; nil where no service sorts the kind so.
func ByID(kind Kind) url.Values {
	switch kind {
	case Server:
		return url.Values{"sort_key": {"uuid"}, "sort_dir": {"asc"}}
	case Volume, Snapshot, Backup:
		return url.Values{"sort": {"id:asc"}}
	case Image, Network, Subnet, Port, Router, FloatingIP, SecurityGroup:
		return url.Values{"sort_key": {"id"}, "sort_dir": {"asc"}}
	}
	return nil
}
