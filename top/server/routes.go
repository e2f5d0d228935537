package server

import (
	"cmp"
	"slices"

	"github.com/labstack/echo/v4"
)

// Route is one line of a service's route table, parameters as ":name".
type Route struct{ Method, Path string }

// Routes returns the route tables of mounts, by path and then method, each line once. Nothing is asked of their handlers, so
// that services made without stores will do: it is for what must know every route, such as the tests of isolation.
func Routes(mounts ...Mount) []Route {
	e := echo.New()
	for _, m := range mounts {
		m.Routes(e.Group(m.Prefix))
	}
	var out []Route
	for _, r := range e.Routes() {
		if r.Method != echo.RouteNotFound {
			out = append(out, Route{r.Method, r.Path})
		}
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return slices.Compact(out)
}
