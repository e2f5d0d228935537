package archtest

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// fence says in which rooms a third-party package may be imported.
type fence struct {
	prefix string   // import path of the third-party packages
	rooms  []string // folders of ours; "/..." is implied
	files  bool     // also in files named store.go or store_*.go anywhere
	tests  []string // folders whose _test.go files may, beside the rooms
	why    string
}

var fences = []fence{
	{prefix: "github.com/labstack", rooms: []string{"top"}, why: "HTTP ends in top; lower layers take values"},
	{prefix: "github.com/danielgtaylor/huma", rooms: []string{"top/admin"}, why: "only the operator API is described by its types"},
	{prefix: "github.com/gophercloud", rooms: []string{"sites/openstack", "scheduler/bank/swift", "top/auth", "web", "integration"}, tests: []string{"top", "sites/emulator"},
		why: "an adaptor's SDK stays in the adaptor: everybody else speaks sites.Adaptor (tests of top and of the emulator are the unmodified client that they must satisfy)"},
	{prefix: "gorm.io", rooms: []string{"dbschema"}, files: true, why: "queries stand in store files, where they can be read together"},
	{prefix: "github.com/mattn/go-sqlite3", rooms: []string{"dbschema"}, why: "which database it is, only dbschema knows"},
	{prefix: "github.com/jackc/pgx", rooms: []string{"dbschema"}, why: "which database it is, only dbschema knows"},
	{prefix: "github.com/pressly/goose", rooms: []string{"dbschema"}, why: "migrations run in dbschema"},
	{prefix: "github.com/robfig/cron", rooms: []string{"scheduler/plans/slots"}, why: "tenants' cron specs panic it: slots guards it"},
	{prefix: "github.com/hashicorp/memberlist", rooms: []string{"agents/members"}, why: "gossip is one package's business"},
	{prefix: "github.com/gopacket/gopacket", rooms: []string{"agents/apps"}, why: "packets are taken apart in one place"},
	{prefix: "github.com/insomniacslk/dhcp", rooms: []string{"agents/apps"}, why: "packets are taken apart in one place"},
	{prefix: "gvisor.dev/gvisor", rooms: []string{"agents/apps"}, why: "a TCP of our own is for what guests ask of the agent, and for nothing else"},
	{prefix: "go.opentelemetry.io", rooms: []string{"cmd/internal/trace"}, tests: []string{"integration"}, why: "the parts take functions that make spans: they neither know who collects them nor pay when nobody does"},
	{prefix: "github.com/spf13", rooms: []string{"cmd"}, why: "flags become values in cmd"},
	{prefix: "github.com/jedib0t/go-pretty", rooms: []string{"cmd"}, why: "tables are for terminals"},
	{prefix: "github.com/chromedp", rooms: []string{"integration"}, tests: []string{"web"}, why: "browsers belong to tests"},
	{prefix: "pgregory.net/rapid", rooms: []string{"integration"}, tests: []string{""}, why: "a test tool"},
	{prefix: "github.com/rogpeppe/go-internal", rooms: []string{"integration"}, tests: []string{""}, why: "a test tool"},
	{prefix: "github.com/anishathalye/porcupine", rooms: []string{"integration"}, tests: []string{""}, why: "a test tool"},
}

// checkFences holds every import of a third-party package against its rooms.
func checkFences(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		for _, f := range p.files {
			for _, i := range t.imports(f) {
				for _, fe := range fences {
					if strings.HasPrefix(i.path, fe.prefix) && !fe.allows(p, f) {
						out = append(out, Violation{f.path, i.line, "fence", fmt.Sprintf("imports %s, which is allowed in %s only: %s", i.path, fe.where(), fe.why)})
					}
				}
			}
		}
	}
	return out
}

func (fe fence) allows(p *pkg, f *file) bool {
	inside := func(dir string) bool { return dir == "" || within(p.dir, dir) }
	base := path.Base(f.path)
	return slices.ContainsFunc(fe.rooms, inside) ||
		fe.files && (base == "store.go" || strings.HasPrefix(base, "store_")) ||
		(f.test || p.support()) && slices.ContainsFunc(fe.tests, inside)
}

// where names the rooms for a message.
func (fe fence) where() string {
	words := slices.Clone(fe.rooms)
	if fe.files {
		words = append(words, "files named store.go or store_*.go")
	}
	for _, dir := range fe.tests {
		words = append(words, strings.TrimSpace("tests of "+cmp.Or(dir, "any package")))
	}
	return strings.Join(words, ", ")
}

// checkImportOrder asks for imports in three groups: the standard library,
// others', ours. goimports keeps groups apart but does not order them.
func checkImportOrder(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		for _, f := range p.files {
			last := 0
			for _, i := range t.imports(f) {
				group := 0
				if first, _, _ := strings.Cut(i.path, "/"); strings.Contains(first, ".") {
					group = 1
				}
				if i.ours != "" {
					group = 2
				}
				if group < last && !f.generated {
					out = append(out, Violation{f.path, i.line, "import-order", fmt.Sprintf("imports %s too late: first the standard library, then others' packages, ours last", i.path)})
				}
				last = max(last, group)
			}
		}
	}
	return out
}
