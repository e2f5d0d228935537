package inventory

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Gone drops the series of a site that was removed.
func (inv *Inventory) Gone(site ident.SiteID) {
	at := prometheus.Labels{"site": string(site)}
	inv.polls.DeletePartialMatch(at)
	inv.alarms.DeletePartialMatch(at)
	inv.swept.DeletePartialMatch(at)
}
