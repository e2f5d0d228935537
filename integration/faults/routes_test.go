package faults

import (
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/top/admin"
	topcompute "github.com/headwater-cloud/headwater/top/compute"
	topidentity "github.com/headwater-cloud/headwater/top/identity"
	topimage "github.com/headwater-cloud/headwater/top/image"
	topnetwork "github.com/headwater-cloud/headwater/top/network"
	topvolume "github.com/headwater-cloud/headwater/top/volume"
)

// route is one line of a service's route table.
type route struct{ method, path string }

// routes reads the route tables of the services; nothing is asked of the handlers.
func routes() []route {
	e := echo.New()
	topidentity.New(topidentity.Config{}).Routes(e.Group("/identity"))
	topcompute.New(topcompute.Config{}).Routes(e.Group("/compute"))
	topnetwork.New(topnetwork.Config{}).Routes(e.Group("/network"))
	topimage.New(topimage.Config{}).Routes(e.Group("/image"))
	topvolume.New(topvolume.Config{}).Routes(e.Group("/volume"))
	admin.New(admin.Config{}).Routes(e.Group("/v1"))
	var out []route
	for _, r := range e.Routes() {
		// The project in the path is another spelling of the same route.
		if r.Method == "echo_route_not_found" || strings.HasPrefix(r.Path, "/compute/v2.1/:project_id/") {
			continue
		}
		out = append(out, route{r.Method, r.Path})
	}
	slices.SortFunc(out, func(a, b route) int {
		return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
	})
	return slices.Compact(out)
}
