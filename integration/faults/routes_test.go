package faults

import (
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/top/admin"
	topcompute "github.com/headwater-cloud/headwater/top/compute"
	topidentity "github.com/headwater-cloud/headwater/top/identity"
	topimage "github.com/headwater-cloud/headwater/top/image"
	topnetwork "github.com/headwater-cloud/headwater/top/network"
	"github.com/headwater-cloud/headwater/top/server"
	topvolume "github.com/headwater-cloud/headwater/top/volume"
)

// routes reads the route tables of all services.
func routes() []server.Route {
	all := server.Routes(
		server.Mount{Prefix: "/identity", Routes: topidentity.New(topidentity.Config{}).Routes},
		server.Mount{Prefix: "/compute", Routes: topcompute.New(topcompute.Config{}).Routes},
		server.Mount{Prefix: "/network", Routes: topnetwork.New(topnetwork.Config{}).Routes},
		server.Mount{Prefix: "/image", Routes: topimage.New(topimage.Config{}).Routes},
		server.Mount{Prefix: "/volume", Routes: topvolume.New(topvolume.Config{}).Routes},
		server.Mount{Prefix: "/v1", Routes: admin.New(admin.Config{}).Routes},
	)
	// The project in Nova's paths is another spelling of the same routes.
	return slices.DeleteFunc(all, func(r server.Route) bool { return strings.HasPrefix(r.Path, "/compute/v2.1/:project_id/") })
}
