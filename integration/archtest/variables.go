package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// checkVariables refuses package variables that can change. Allowed are error
// sentinels, tables that nobody writes, compiled regular expressions,
// //go:embed variables, `var _ I = T{}`, and the flags of tests.
func checkVariables(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		units := map[string][]*file{} // the package and its external test
		for _, f := range p.files {
			if !f.generated {
				units[f.syntax.Name.Name] = append(units[f.syntax.Name.Name], f)
			}
		}
		for _, files := range units {
			v := &variables{tree: t, pkg: p, objects: map[types.Object]*ast.Ident{}}
			v.resolve(files)
			for _, f := range files {
				out = append(out, v.declared(f)...)
				out = append(out, v.written(f)...)
			}
		}
	}
	return out
}

type variables struct {
	*tree
	pkg     *pkg
	info    types.Info
	objects map[types.Object]*ast.Ident // package variables
}

// importless makes the type checker resolve names without reading any
// dependency: all that is needed is which identifier means which variable.
type importless struct{}

var errNoImports = errors.New("imports are not read")

// Import refuses.
func (importless) Import(string) (*types.Package, error) { return nil, errNoImports }

func (v *variables) resolve(files []*file) {
	v.info = types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	syntax := make([]*ast.File, len(files))
	for i, f := range files {
		syntax[i] = f.syntax
	}
	conf := types.Config{Importer: importless{}, Error: func(error) {}, DisableUnusedImportCheck: true, FakeImportC: true}
	_, _ = conf.Check(v.pkg.dir, v.fset, syntax, &v.info) // incomplete on purpose
	for _, f := range files {
		eachPackageVar(f, func(_ *ast.GenDecl, spec *ast.ValueSpec) {
			for _, n := range spec.Names {
				if o := v.info.Defs[n]; o != nil {
					v.objects[o] = n
				}
			}
		})
	}
}

func eachPackageVar(f *file, do func(*ast.GenDecl, *ast.ValueSpec)) {
	for _, d := range f.syntax.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, s := range gen.Specs {
			if spec, ok := s.(*ast.ValueSpec); ok {
				do(gen, spec)
			}
		}
	}
}

// declared judges the initial values.
func (v *variables) declared(f *file) []Violation {
	var out []Violation
	s := &scan{tree: v.tree, pkg: v.pkg, file: f, std: f.stdNames()}
	eachPackageVar(f, func(gen *ast.GenDecl, spec *ast.ValueSpec) {
		if embeds(gen.Doc) || embeds(spec.Doc) {
			return
		}
		for i, n := range spec.Names {
			if n.Name == "_" {
				continue
			}
			what := "has no initial value, so something writes it later: make it a field of the type that owns it"
			if i < len(spec.Values) {
				what = s.value(n.Name, spec.Values[i])
			}
			if what != "" {
				out = append(out, Violation{f.path, v.line(n), "package-variable", n.Name + " " + what})
			}
		}
	})
	return out
}

func embeds(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// constructors make values that nothing can change afterwards.
var constructors = map[string]bool{
	"errors.New": true, "fmt.Errorf": true,
	"regexp.MustCompile": true, "regexp.MustCompilePOSIX": true,
	"net/netip.MustParseAddr": true, "net/netip.MustParsePrefix": true, "net/netip.MustParseAddrPort": true,
	"net/netip.AddrFrom4": true, "net/netip.PrefixFrom": true,
	"reflect.TypeFor": true, "reflect.TypeOf": true,
	"strings.NewReplacer": true,
	"time.Date":           true, "time.Unix": true,
}

// stateful are types whose values exist to change.
var stateful = []string{"sync.", "sync/atomic.", "net/http.Client", "net/http.Transport", "net/http.ServeMux", "github.com/prometheus/"}

// value returns what is wrong with a variable's initial value, or "".
func (s *scan) value(name string, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.CompositeLit:
		if t := s.qualified(e.Type); t != "" {
			for _, bad := range stateful {
				if strings.HasPrefix(t, bad) {
					return fmt.Sprintf("is a %s for the whole program: make it a field, and build it in cmd", t)
				}
			}
		}
	case *ast.UnaryExpr:
		if e.Op == token.AND && !errNamed.MatchString(name) && !strings.HasPrefix(name, "Err") && !s.sentinel(e.X) {
			return "is a pointer that everybody shares: make it a field, and build it in cmd"
		}
	case *ast.FuncLit:
		return "is a function in a variable: declare a func; what a test replaces is a field"
	case *ast.BasicLit, *ast.BinaryExpr:
		return "is a constant in a variable: declare it const"
	case *ast.CallExpr:
		if errNamed.MatchString(name) || strings.HasPrefix(name, "Err") {
			return "" // a sentinel, whoever makes it
		}
		return s.constructed(e)
	}
	return ""
}

// sentinel reports whether e is a fault.Error, whatever the variable is named.
func (s *scan) sentinel(e ast.Expr) bool {
	lit, ok := e.(*ast.CompositeLit)
	return ok && s.qualified(lit.Type) == Module+"/sites/fault.Error"
}

func (s *scan) constructed(e *ast.CallExpr) string {
	fun := e.Fun
	if x, ok := fun.(*ast.IndexExpr); ok { // reflect.TypeFor[T]()
		fun = x.X
	}
	tests := s.file.test || s.pkg.support()
	switch name := s.qualified(fun); {
	case constructors[name]:
		return ""
	case tests && (strings.HasPrefix(name, "flag.") || strings.HasPrefix(name, "sync.Once")):
		return "" // -update, and one server for a test process
	case name != "":
		return fmt.Sprintf("is made by %s, which integration/archtest does not know as immutable: make it a field, and build it in cmd", name)
	}
	if id, ok := fun.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
		return "is made empty, so something writes it later: make it a field of the type that owns it"
	}
	return "" // a conversion, or a table that a function of the same package makes
}

// qualified returns "path.Name" for a name of another package.
func (s *scan) qualified(e ast.Expr) string {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok || s.std[x.Name] == "" {
		return ""
	}
	return s.std[x.Name] + "." + sel.Sel.Name
}

// written finds assignments to package variables and to parts of them.
func (v *variables) written(f *file) []Violation {
	var out []Violation
	report := func(at ast.Node, e ast.Expr, how string) {
		if n := v.root(e); n != nil {
			out = append(out, Violation{f.path, v.line(at), "package-variable", fmt.Sprintf("%s %s: package variables do not change after their declaration; make it a field of the type that owns it", n.Name, how)})
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, l := range n.Lhs {
					report(n, l, "is written")
				}
			}
		case *ast.IncDecStmt:
			report(n, n.X, "is written")
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				report(n, n.Key, "is written")
				if n.Value != nil {
					report(n, n.Value, "is written")
				}
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				report(n, n.X, "has its address taken")
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (id.Name == "delete" || id.Name == "clear" || id.Name == "copy") {
				report(n, n.Args[0], "is changed by "+id.Name)
			}
		}
		return true
	})
	return out
}

// root returns the package variable that an expression is, or is a part of.
func (v *variables) root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			if o := v.info.Uses[x]; o != nil {
				return v.objects[o]
			}
			return nil
		default:
			return nil
		}
	}
}
