// Package archtest checks the project's own rules, those that no compiler and
// no ready-made linter knows: which package may import which, in which room a
// third-party package lives, and what may not be written at all. Its test runs
// Check over the whole tree; run it with -count=1, because the test cache does
// not see the files that are read here.
package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module that is checked.
const Module = "github.com/headwater-cloud/headwater"

// Violation is one place where a rule is broken.
type Violation struct {
	File string // relative to the root, with slashes; a folder's name for rules about folders
	Line int    // 0 when the rule is about the whole file or folder
	Rule string // the rule's name, one word
	What string // what is wrong, and what to do instead
}

// String returns "file:line: rule: what".
func (v Violation) String() string {
	if v.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", v.File, v.Rule, v.What)
	}
	return fmt.Sprintf("%s:%d: %s: %s", v.File, v.Line, v.Rule, v.What)
}

// Check reads the module at root and returns every violation, in order of file
// and line. The error is about reading or parsing the tree, not about rules.
func Check(root string) ([]Violation, error) {
	t, err := load(root)
	if err != nil {
		return nil, err
	}
	var out []Violation
	for _, rule := range []func(*tree) []Violation{
		checkFolders, checkReadmes, checkLength, checkNames,
		checkLayers, checkTop, checkFences, checkImportOrder, checkCitations,
		checkPackageComments, checkDocComments,
		checkStatements, checkVariables,
	} {
		out = append(out, rule(t)...)
	}
	agent, err := checkAgent(t)
	if err != nil {
		return nil, err
	}
	out = append(out, agent...)
	slices.SortFunc(out, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.What, b.What))
	})
	return out, nil
}

// tree is the parsed module.
type tree struct {
	root     string
	fset     *token.FileSet
	folders  []string // top-level folders
	packages []*pkg   // in order of dir
}

// pkg is one folder with Go files; it may hold a package and its external tests.
type pkg struct {
	dir   string // relative to the root, with slashes: "top/compute"
	files []*file
}

// file is one parsed Go file.
type file struct {
	path      string // relative to the root, with slashes
	syntax    *ast.File
	lines     int
	test      bool // named _test.go
	generated bool // headed "Code generated ... DO NOT EDIT."
}

// support reports whether the package exists for tests only: all of
// integration, and packages named for it, such as dbschema/dbtest.
func (p *pkg) support() bool {
	return p.dir == "integration" || strings.HasPrefix(p.dir, "integration/") || strings.HasSuffix(p.dir, "test")
}

// load parses every Go file below root, except in testdata, in hidden folders
// and in what is not part of the module.
func load(root string) (*tree, error) {
	t := &tree{root: root, fset: token.NewFileSet()}
	byDir := map[string]*pkg{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			base := d.Name()
			if rel != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || rel == "bin") {
				return filepath.SkipDir
			}
			if rel != "." && !strings.Contains(rel, "/") {
				t.folders = append(t.folders, rel)
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parse(t.fset, name, rel)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir}
			t.packages = append(t.packages, byDir[dir])
		}
		byDir[dir].files = append(byDir[dir].files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree at %s: %w", root, err)
	}
	return t, nil
}

func parse(fset *token.FileSet, name, rel string) (*file, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	syntax, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return &file{
		path:      rel,
		syntax:    syntax,
		lines:     strings.Count(string(src), "\n"),
		test:      strings.HasSuffix(rel, "_test.go"),
		generated: ast.IsGenerated(syntax),
	}, nil
}

// line returns the line of a node.
func (t *tree) line(n ast.Node) int { return t.fset.Position(n.Pos()).Line }

// imported is one import of a file.
type imported struct {
	path string // as written
	ours string // relative to the module, "" for others' packages
	line int
}

func (t *tree) imports(f *file) []imported {
	var out []imported
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has accepted it: cannot be
		}
		i := imported{path: p, line: t.line(spec)}
		if rest, ok := strings.CutPrefix(p, Module+"/"); ok {
			i.ours = rest
		}
		out = append(out, i)
	}
	return out
}

// within reports whether the package path p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
