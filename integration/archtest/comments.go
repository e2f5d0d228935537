package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"strings"
)

// checkPackageComments asks every package for a comment that says what it promises.
func checkPackageComments(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		found, generated := false, true
		for _, f := range p.files {
			found = found || f.syntax.Doc.Text() != "" && (f.syntax.Name.Name == "main" || strings.HasPrefix(f.syntax.Doc.Text(), "Package "+f.syntax.Name.Name))
			generated = generated && f.generated
		}
		if !found && !generated {
			name := p.files[0].syntax.Name.Name
			begin := "Package " + name
			if name == "main" {
				begin = "Command " + path.Base(p.dir)
			}
			out = append(out, Violation{p.files[0].path, 1, "package-comment", fmt.Sprintf("package %s has no comment: begin one file with \"// %s ...\" and say what it promises", name, begin)})
		}
	}
	return out
}

// checkDocComments asks every exported name outside of tests for a doc comment.
func checkDocComments(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		for _, f := range p.files {
			if f.test || f.generated {
				continue
			}
			missing := func(n ast.Node, name string) {
				out = append(out, Violation{f.path, t.line(n), "doc-comment", fmt.Sprintf("exported %s has no doc comment: say what it promises, its units, and the faults it returns", name)})
			}
			for _, d := range f.syntax.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if name, ok := exportedFunc(d); ok && d.Doc.Text() == "" {
						missing(d, name)
					}
				case *ast.GenDecl:
					undocumented(d, missing)
				}
			}
		}
	}
	return out
}

// exportedFunc returns the name of a function that other packages can see: a
// method counts when its type is exported too.
func exportedFunc(d *ast.FuncDecl) (string, bool) {
	if !d.Name.IsExported() {
		return "", false
	}
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name, true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.ParenExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.Name + "." + d.Name.Name, x.IsExported()
		default:
			return "", false
		}
	}
}

// undocumented reports the exported names of a declaration without a comment of
// their own, behind them, or on their group.
func undocumented(d *ast.GenDecl, missing func(ast.Node, string)) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && d.Doc.Text() == "" && s.Doc.Text() == "" && s.Comment.Text() == "" {
				missing(s, s.Name.Name)
			}
		case *ast.ValueSpec:
			if d.Doc.Text() != "" || s.Doc.Text() != "" || s.Comment.Text() != "" {
				continue
			}
			for _, n := range s.Names {
				if n.IsExported() {
					missing(n, n.Name)
				}
			}
		}
	}
}
