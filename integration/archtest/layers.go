package archtest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// row is a package with its sub-packages, less those that have a row of their own.
type row struct {
	dir   string
	layer int
}

// rows is the table of layers, upper first. A package imports lower rows and its
// own row, never another row of its layer.
var rows = []row{
	{"integration", 6},
	{"cmd", 5},
	{"top", 4},
	{"sync", 3},
	{"crosssite", 3},
	{"scheduler/plans", 3},
	{"cascade", 2},
	{"crosssite/ipam", 1},
	{"crosssite/netstate", 1},
	{"scheduler/bank", 1},
	{"scheduler/jobs", 1},
	{"sites", 1},
	{"agents", 1},
	{"agents/api", 0},
	{"sites/fault", 0},
	{"sites/ident", 0},
	{"dbschema", 0},
	{"web", 0},
}

// alone names the rows that import no other package of ours, and standard those
// that import nothing but the standard library. The latter are the project's
// words; dbschema speaks them too, although it stands in their layer: what a
// database refuses must be told in fault's kinds, and told once.
var (
	alone    = []string{"web", "agents/api", "dbschema", "sites/fault", "sites/ident"}
	standard = []string{"sites/fault", "sites/ident"}
	speaks   = []string{"dbschema"}
)

// rowOf returns the row of a package: the longest that contains it.
func rowOf(dir string) (row, bool) {
	var best row
	found := false
	for _, r := range rows {
		if within(dir, r.dir) && (!found || len(r.dir) > len(best.dir)) {
			best, found = r, true
		}
	}
	return best, found
}

// checkLayers holds every import against the table of layers.
func checkLayers(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		from, ok := rowOf(p.dir)
		if !ok {
			if slices.Contains(topFolders, strings.SplitN(p.dir, "/", 2)[0]) {
				out = append(out, Violation{p.dir, 0, "layer", "has no row in the table of layers: put the code where the table has a place for it, or add a row to integration/archtest/layers.go with its reason"})
			}
			continue
		}
		for _, f := range p.files {
			for _, i := range t.imports(f) {
				if what := layerFault(from, i); what != "" {
					out = append(out, Violation{f.path, i.line, "layer", what})
				}
			}
		}
	}
	return out
}

func layerFault(from row, i imported) string {
	if i.ours == "" {
		first, _, _ := strings.Cut(i.path, "/")
		if slices.Contains(standard, from.dir) && strings.Contains(first, ".") {
			return fmt.Sprintf("%s imports %s: it uses the standard library only", from.dir, i.path)
		}
		return ""
	}
	to, ok := rowOf(i.ours)
	switch {
	case !ok:
		return fmt.Sprintf("imports %s, which has no row in the table of layers", i.ours)
	case to == from, slices.Contains(speaks, from.dir) && slices.Contains(standard, to.dir):
		return ""
	case slices.Contains(alone, from.dir):
		return fmt.Sprintf("%s imports %s: it imports no other package of ours; hand the value in from above", from.dir, i.ours)
	case to.layer > from.layer:
		return fmt.Sprintf("%s (layer %d) imports %s (layer %d), which is above it: declare the interface here and let cmd hand the value in", from.dir, from.layer, i.ours, to.layer)
	case to.layer == from.layer:
		return fmt.Sprintf("%s imports %s, another row of its layer %d: move what both need down a layer, or let the layer above connect them", from.dir, i.ours, from.layer)
	}
	return ""
}

// checkTop holds the rules inside top: only server imports the services, a
// service imports auth, faultjson and wire beside itself, and nobody there imports
// dbschema directly. Tests may: they put a whole server together.
func checkTop(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		if !within(p.dir, "top") {
			continue
		}
		for _, f := range p.files {
			if f.test || p.support() {
				continue
			}
			for _, i := range t.imports(f) {
				if what := topFault(p.dir, i.ours); what != "" {
					out = append(out, Violation{f.path, i.line, "top", what})
				}
			}
		}
	}
	return out
}

// shared are the sub-packages of top that every service may import: who asks,
// how failures look, and the form of requests and answers.
var shared = []string{"auth", "faultjson", "wire"}

// topPart returns the sub-package of top that dir belongs to: "compute" of "top/compute/console".
func topPart(dir string) string {
	part, _, _ := strings.Cut(strings.TrimPrefix(dir, "top/"), "/")
	return part
}

func topFault(dir, ours string) string {
	if within(ours, "dbschema") {
		return fmt.Sprintf("imports %s: top owns no state; ask cascade for it", ours)
	}
	if !within(ours, "top") || topPart(dir) == "server" || topPart(ours) == topPart(dir) {
		return ""
	}
	if slices.Contains(shared, topPart(ours)) {
		return ""
	}
	return fmt.Sprintf("imports %s: only top/server imports the services; what two of them need belongs to cascade, or to top/%s", ours, strings.Join(shared, ", top/"))
}

// agentForbidden is what the host agent does not reach, even indirectly.
var agentForbidden = []string{
	Module + "/dbschema", Module + "/sites", Module + "/cascade", Module + "/top",
	"github.com/labstack/echo", "gorm.io",
}

// checkAgent asks the go command for all that cmd/headwater-agent links in.
func checkAgent(t *tree) ([]Violation, error) {
	const dir = "cmd/headwater-agent"
	if !slices.ContainsFunc(t.packages, func(p *pkg) bool { return p.dir == dir }) {
		return nil, nil // this tree has no such program
	}
	cmd := exec.Command("go", "list", "-e", "-deps", "-f", "{{.ImportPath}}", "./"+dir)
	cmd.Dir = t.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -deps %s: %w", dir, err)
	}
	var bad []Violation
	for _, dep := range strings.Fields(string(out)) {
		if dep == Module+"/sites/fault" || dep == Module+"/sites/ident" {
			continue
		}
		if slices.ContainsFunc(agentForbidden, func(p string) bool { return within(dep, p) }) {
			bad = append(bad, Violation{dir, 0, "agent", fmt.Sprintf("reaches %s: the host agent has no database, no web server and no OpenStack code; `go mod why` and `go list -deps` show the way", dep)})
		}
	}
	return bad, nil
}
