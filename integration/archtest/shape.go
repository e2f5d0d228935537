package archtest

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// topFolders are all the folders at the root.
var topFolders = []string{"agents", "cascade", "cmd", "crosssite", "dbschema", "integration", "scheduler", "sites", "sync", "top", "web"}

// bare are the folders that hold sub-packages only.
var bare = []string{".", "scheduler", "sync", "top"}

// checkFolders holds the root to its fixed folders.
func checkFolders(t *tree) []Violation {
	var out []Violation
	for _, dir := range t.folders {
		if !slices.Contains(topFolders, dir) {
			out = append(out, Violation{dir, 0, "folders", fmt.Sprintf("is no top-level folder of this project; there are: %s", strings.Join(topFolders, " "))})
		}
	}
	for _, p := range t.packages {
		if slices.Contains(bare, p.dir) {
			out = append(out, Violation{p.files[0].path, 0, "folders", "no Go files stand in this folder itself: it holds sub-packages only"})
		}
	}
	return out
}

// sections are what a folder's README.md tells, in this order.
var sections = []string{"Purpose", "Flow", "Configuration", "Metrics", "Decisions"}

// checkReadmes asks each top-level folder that has Go files for a README.md with
// all sections. A section without content says so: "None."
func checkReadmes(t *tree) []Violation {
	var out []Violation
	for _, dir := range t.folders {
		if !slices.ContainsFunc(t.packages, func(p *pkg) bool { return within(p.dir, dir) }) {
			continue
		}
		name := path.Join(dir, "README.md")
		data, err := os.ReadFile(filepath.Join(t.root, name))
		if err != nil {
			out = append(out, Violation{dir, 0, "readme", "has no README.md: write it with the sections " + strings.Join(sections, ", ")})
			continue
		}
		var found []string
		for line := range strings.Lines(string(data)) {
			if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok && slices.Contains(sections, title) {
				found = append(found, title)
			}
		}
		if !slices.Equal(found, sections) {
			out = append(out, Violation{name, 0, "readme", fmt.Sprintf("has the sections %q: write \"## \" and each of %s, in this order", found, strings.Join(sections, ", "))})
		}
	}
	return out
}

// maxLines is the length of a file that nobody splits sensibly any more.
const maxLines = 600

// checkLength refuses long files, except generated ones and tables of data.
func checkLength(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		for _, f := range p.files {
			if f.lines > maxLines && !f.generated && !t.table(f) {
				out = append(out, Violation{f.path, 0, "length", fmt.Sprintf("has %d lines, more than %d: split it by what the parts do", f.lines, maxLines)})
			}
		}
	}
	return out
}

// table reports whether more than half of the file is package-level composite literals.
func (t *tree) table(f *file) bool {
	data := 0
	for _, d := range f.syntax.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for _, e := range v.Values {
				if lit, ok := e.(*ast.CompositeLit); ok {
					data += t.fset.Position(lit.End()).Line - t.line(lit)
				}
			}
		}
	}
	return 2*data > f.lines
}

// vague are package names that say where code was put, not what it is for.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "misc", "base"}

// checkNames refuses vague package names.
func checkNames(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		if base := path.Base(p.dir); slices.Contains(vague, base) {
			out = append(out, Violation{p.dir, 0, "name", fmt.Sprintf("a package named %s collects everything: put each helper beside its first user", base)})
		}
	}
	return out
}
