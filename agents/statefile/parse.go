package statefile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// maxErrors bounds how much is said of one file.
const maxErrors = 20

// Parse reads a state: YAML whose keys are the fields of the message State of agents/api, or the same as JSON, which is much faster to read. The name stands before
// each line that is wrong.
func Parse(name string, raw []byte) ([]state.Object, error) {
	var st api.State
	p := &reader{name: name, lines: map[protoreflect.ProtoMessage]int{}, anchors: map[string]ast.Node{}}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		if err := protojson.Unmarshal(raw, &st); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	} else if err := p.yaml(raw, &st); err != nil {
		return nil, err
	}
	out := p.objects(&st)
	return out, p.err()
}

// reader reads one file.
type reader struct {
	name    string
	errs    []error
	more    int
	lines   map[protoreflect.ProtoMessage]int
	anchors map[string]ast.Node
}

func (p *reader) fail(line int, format string, args ...any) {
	if len(p.errs) == maxErrors {
		p.more++
		return
	}
	at := p.name
	if line > 0 {
		at = fmt.Sprintf("%s:%d", p.name, line)
	}
	p.errs = append(p.errs, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
}

func (p *reader) err() error {
	if p.more > 0 {
		p.errs = append(p.errs, fmt.Errorf("and %d more", p.more))
		p.more = 0
	}
	return errors.Join(p.errs...)
}

func (p *reader) yaml(raw []byte, st *api.State) error {
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		var syntax yaml.Error // whose own text is a picture of some lines
		if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
			p.fail(syntax.GetToken().Position.Line, "%s", syntax.GetMessage())
			return p.err()
		}
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if len(file.Docs) > 1 {
		p.fail(line(file.Docs[1].Body), "a second document: want one")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		// What an editor leaves for a moment, and a full disk for longer, must not be taken for the wish that nobody has a network.
		p.fail(0, "it says nothing: a state without objects is written {}")
		return p.err()
	}
	p.message(file.Docs[0].Body, st.ProtoReflect())
	return p.err()
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// plain is a node without what YAML wraps around it.
func (p *reader) plain(n ast.Node) ast.Node {
	for range 10 {
		switch x := n.(type) {
		case *ast.AnchorNode:
			p.anchors[x.Name.GetToken().Value] = x.Value
			n = x.Value
		case *ast.AliasNode:
			to, ok := p.anchors[x.Value.GetToken().Value]
			if !ok {
				p.fail(line(x), "the alias *%s has no anchor before it", x.Value.GetToken().Value)
				return nil
			}
			n = to
		case *ast.TagNode:
			n = x.Value
		default:
			return n
		}
	}
	return n
}

// entries are the keys and values of a mapping.
func entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch x := n.(type) {
	case *ast.MappingNode:
		return x.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{x}, true
	}
	return nil, false
}

func (p *reader) message(n ast.Node, m protoreflect.Message) {
	n = p.plain(n)
	if n == nil {
		return
	}
	if _, null := n.(*ast.NullNode); null {
		return
	}
	values, ok := entries(n)
	if !ok {
		p.fail(line(n), "%s: want a mapping", m.Descriptor().Name())
		return
	}
	if p.lines[m.Interface()] = line(n); len(values) > 0 {
		p.lines[m.Interface()] = line(values[0].Key)
	}
	fields := m.Descriptor().Fields()
	for _, v := range values {
		key := v.Key.GetToken().Value
		f := fields.ByName(protoreflect.Name(key))
		if f == nil {
			f = fields.ByJSONName(key)
		}
		switch {
		case f == nil:
			p.fail(line(v.Key), "%s has no field %q", m.Descriptor().Name(), key)
		case m.Has(f):
			p.fail(line(v.Key), "%s: the field %s stands twice", m.Descriptor().Name(), key)
		default:
			p.field(v.Value, m, f)
		}
	}
}

func (p *reader) field(n ast.Node, m protoreflect.Message, f protoreflect.FieldDescriptor) {
	n = p.plain(n)
	if _, null := n.(*ast.NullNode); n == nil || null {
		return
	}
	switch {
	case f.IsList():
		items, ok := n.(*ast.SequenceNode)
		if !ok {
			p.fail(line(n), "%s: want a list", f.Name())
			return
		}
		list := m.Mutable(f).List()
		for _, item := range items.Values {
			if f.Message() != nil {
				p.message(item, list.AppendMutable().Message())
			} else if v, ok := p.scalar(item, f); ok {
				list.Append(v)
			}
		}
	case f.Message() != nil:
		p.message(n, m.Mutable(f).Message())
	default:
		if v, ok := p.scalar(n, f); ok {
			m.Set(f, v)
		}
	}
}

// objects checks what was read.
func (p *reader) objects(st *api.State) []state.Object {
	var out []state.Object
	seen := map[state.Ref]int{}
	for _, w := range wrap(st) {
		at := p.lines[w.inner]
		object, err := state.Parse(w.object)
		if err != nil {
			p.fail(at, "%w", err)
			continue
		}
		if before, twice := seen[object.Ref()]; twice {
			p.fail(at, "%s stands twice; it is in line %d too", object.Ref(), before)
			continue
		}
		seen[object.Ref()] = at
		out = append(out, object)
	}
	return out
}

// wrapped is an object as it stands in a list of a State, and as it is sent.
type wrapped struct {
	inner  protoreflect.ProtoMessage
	object *api.Object
}

// wrap makes objects of all that a state lists.
func wrap(st *api.State) []wrapped {
	var out []wrapped
	kinds := (&api.Object{}).ProtoReflect().Descriptor().Fields()
	m := st.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		var kind protoreflect.FieldDescriptor
		for j := range kinds.Len() {
			if kinds.Get(j).Message() == field.Message() {
				kind = kinds.Get(j)
			}
		}
		list := m.Get(field).List()
		for j := range list.Len() {
			o := &api.Object{}
			o.ProtoReflect().Set(kind, list.Get(j))
			out = append(out, wrapped{list.Get(j).Message().Interface(), o})
		}
	}
	return out
}
