package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkStatements refuses what may not be written: bare go statements, init,
// contexts from nowhere, sleeps, and errors formatted without %w.
func checkStatements(t *tree) []Violation {
	var out []Violation
	for _, p := range t.packages {
		for _, f := range p.files {
			if f.generated {
				continue
			}
			s := &scan{tree: t, pkg: p, file: f, std: f.stdNames()}
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					s.report(fn, "init", "no init functions: build the value in cmd and hand it down")
				}
				ast.Inspect(d, s.visit)
			}
			out = append(out, s.found...)
		}
	}
	return out
}

// stdNames maps the local name of each import to its path.
func (f *file) stdNames() map[string]string {
	names := map[string]string{}
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := p[strings.LastIndex(p, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}

// scan walks one file.
type scan struct {
	*tree
	pkg   *pkg
	file  *file
	std   map[string]string
	spans []ast.Node // calls of synctest.Test and functions that call synctest.Wait: time is not real in there
	found []Violation
}

func (s *scan) report(n ast.Node, rule, what string) {
	s.found = append(s.found, Violation{s.file.path, s.line(n), rule, what})
}

func (s *scan) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		s.report(n, "go-statement", "no bare go: use errgroup or sync.WaitGroup.Go, and wait")
	case *ast.FuncDecl:
		s.stepper(n)
	case *ast.CallExpr:
		s.call(n)
	}
	return true
}

// stepper remembers a function that calls synctest.Wait: it steps a bubble's
// clock, and would panic anywhere else.
func (s *scan) stepper(fn *ast.FuncDecl) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && s.calls(c) == "testing/synctest.Wait" {
			s.spans = append(s.spans, fn)
		}
		return true
	})
}

// calls returns "path.Name" for a call of a package's function.
func (s *scan) calls(n *ast.CallExpr) string {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok || s.std[x.Name] == "" {
		return ""
	}
	return s.std[x.Name] + "." + sel.Sel.Name
}

func (s *scan) call(n *ast.CallExpr) {
	switch name := s.calls(n); name {
	case "testing/synctest.Test":
		s.spans = append(s.spans, n)
	case "context.Background", "context.TODO":
		if !s.file.test && !s.pkg.support() && s.pkg.dir != "cmd/internal/run" {
			s.report(n, "background", name+" is for cmd/internal/run and tests: take the caller's ctx (context.WithoutCancel(ctx) outlives it)")
		}
	case "time.Sleep":
		if !slices.ContainsFunc(s.spans, func(in ast.Node) bool { return in.Pos() <= n.Pos() && n.End() <= in.End() }) {
			s.report(n, "sleep", "no sleeps: select on ctx.Done() and a timer, or wait for the condition; in a test run the loop under testing/synctest")
		}
	case "fmt.Errorf":
		s.errorf(n)
	}
}

var (
	verb     = regexp.MustCompile(`%[-+# 0]*(?:\[\d+\])?[\d.*]*([a-zA-Z%])`)
	errNamed = regexp.MustCompile(`^(err|e?rr[A-Z0-9]\w*|\w*Err|\w*Error)$`)
)

// errorf refuses an error that is formatted with anything but %w, unless a
// comment on that line or the one above says why.
func (s *scan) errorf(n *ast.CallExpr) {
	if len(n.Args) < 2 {
		return
	}
	lit, ok := n.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	format, err := strconv.Unquote(lit.Value)
	if err != nil || strings.Contains(format, "%[") {
		return // explicit indexes: left to the reviewer
	}
	arg := 1
	for _, m := range verb.FindAllStringSubmatch(format, -1) {
		if m[1] == "%" {
			continue
		}
		arg += strings.Count(m[0], "*")
		if arg >= len(n.Args) {
			return
		}
		if m[1] != "w" && m[1] != "T" && isError(n.Args[arg]) && !s.commented(n) {
			s.report(n, "errorf", fmt.Sprintf("%%%s of an error hides it from errors.Is and fault.KindOf: use %%w, or say in a comment why not", m[1]))
		}
		arg++
	}
}

// isError guesses from the name; the compiler's types would cost loading all
// dependencies, and our errors are named err or xxxErr.
func isError(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return errNamed.MatchString(e.Name)
	case *ast.SelectorExpr:
		return errNamed.MatchString(e.Sel.Name) || e.Sel.Name == "Err"
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		return ok && (sel.Sel.Name == "Err" || sel.Sel.Name == "Error" && len(e.Args) == 0)
	}
	return false
}

// commented reports whether a comment stands on the node's line or the one above.
func (s *scan) commented(n ast.Node) bool {
	at := s.line(n)
	for _, group := range s.file.syntax.Comments {
		for _, c := range group.List {
			if l := s.fset.Position(c.End()).Line; l == at || l == at-1 {
				return true
			}
		}
	}
	return false
}
