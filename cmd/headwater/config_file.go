package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// readConfig lays what a configuration file says over cfg, a pointer to its struct. A setting or a section without a value, as it stays when
// everything in it is made a comment, says nothing. Its errors name line and setting, and quote no line of the file:
// database.dsn may hold a password.
func readConfig(data []byte, cfg any) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return configProblem(err)
	}
	for _, doc := range file.Docs {
		body := said(doc.Body)
		if body == nil {
			continue
		}
		if err := yaml.NodeToValue(body, cfg, yaml.DisallowUnknownField()); err != nil {
			return configProblem(wrongDuration(body, err))
		}
	}
	return nil
}

// said drops what has no value; nil for nothing at all.
func said(node ast.Node) ast.Node {
	switch n := node.(type) {
	case *ast.NullNode, *ast.CommentNode, *ast.CommentGroupNode:
		return nil
	case *ast.MappingNode:
		n.Values = slices.DeleteFunc(n.Values, func(v *ast.MappingValueNode) bool {
			v.Value = said(v.Value)
			return v.Value == nil
		})
	}
	return node
}

// lineError is something wrong at a place of the file.
type lineError struct {
	at  *token.Token
	why string
}

func (e *lineError) Error() string {
	if e.at == nil || e.at.Position == nil {
		return e.why
	}
	return fmt.Sprintf("line %d: %s", e.at.Position.Line, e.why)
}

// configProblem says what is wrong and where, without quoting the file as the library's own errors do.
func configProblem(err error) error {
	var known yaml.Error
	if !errors.As(err, &known) {
		return err
	}
	at := known.GetToken()
	why := "not as YAML should be"
	var unknown *yaml.UnknownFieldError
	var kind *yaml.TypeError
	var twice *yaml.DuplicateKeyError
	switch {
	case errors.As(err, &unknown):
		why = unknown.Message
	case errors.As(err, &kind):
		why = fmt.Sprintf("%sa value of type %s is wanted", setting(at), kind.DstType)
	case errors.As(err, &twice):
		why = twice.Message
	case at != nil && at.Type != token.InvalidType && at.Prev != nil:
		why = setting(at) + why
	}
	return &lineError{at: at, why: why}
}

// setting is the name before a value, with a colon behind it; "" when there is none on its line.
func setting(at *token.Token) string {
	for t := at; t != nil && t.Position != nil && t.Position.Line == at.Position.Line; t = t.Prev {
		if t.Type == token.MappingValueType && t.Prev != nil {
			return t.Prev.Value + ": "
		}
	}
	return ""
}

// wrongDuration finds where a duration stands that cannot be read, which the library does not tell.
func wrongDuration(body ast.Node, err error) error {
	if !strings.HasPrefix(err.Error(), "time: ") {
		return err
	}
	found := err
	ast.Walk(visitor(func(node ast.Node) {
		if v, ok := node.(*ast.MappingValueNode); ok && strings.Contains(err.Error(), fmt.Sprintf("%q", v.Value.String())) {
			found = &lineError{at: v.Key.GetToken(), why: v.Key.String() + ": " + strings.TrimPrefix(err.Error(), "time: ") + " (want 90s, 10m or 24h)"}
		}
	}), body)
	return found
}

// visitor is called for every node.
type visitor func(ast.Node)

// Visit goes on everywhere.
func (v visitor) Visit(node ast.Node) ast.Visitor {
	v(node)
	return v
}
