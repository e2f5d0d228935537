package statefile

import (
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// scalar reads a value of a field.
func (p *reader) scalar(n ast.Node, f protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	n = p.plain(n)
	if n == nil {
		return protoreflect.Value{}, false
	}
	if _, isMap := entries(n); isMap {
		p.fail(line(n), "%s: want a %s, not a mapping", f.Name(), word(f.Kind()))
		return protoreflect.Value{}, false
	}
	if _, isList := n.(*ast.SequenceNode); isList {
		p.fail(line(n), "%s: want a %s, not a list", f.Name(), word(f.Kind()))
		return protoreflect.Value{}, false
	}
	text := n.GetToken().Value
	if block, ok := n.(*ast.LiteralNode); ok {
		text = block.Value.Value
	}
	v, ok := value(n, text, f)
	if !ok {
		p.fail(line(n), "%s: %q is no %s%s", f.Name(), text, word(f.Kind()), choices(f))
	}
	return v, ok
}

func value(n ast.Node, text string, f protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), true
	case protoreflect.BoolKind:
		b, ok := n.(*ast.BoolNode)
		return protoreflect.ValueOfBool(ok && b.Value), ok
	case protoreflect.Uint32Kind:
		v, ok := number(n, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(v)), ok //nolint:gosec // bounded just now
	case protoreflect.Uint64Kind:
		v, ok := number(n, math.MaxUint64)
		return protoreflect.ValueOfUint64(v), ok
	case protoreflect.EnumKind:
		e := f.Enum().Values().ByName(protoreflect.Name(strings.ToUpper(text)))
		if e == nil {
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfEnum(e.Number()), true
	}
	return protoreflect.Value{}, false // no field of a state is of another kind
}

// number reads a whole number that is not negative.
func number(n ast.Node, most uint64) (uint64, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseUint(strings.ReplaceAll(i.GetToken().Value, "_", ""), 0, 64)
	return v, err == nil && v <= most
}

func word(k protoreflect.Kind) string {
	switch k {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return "number from 0 on"
	case protoreflect.EnumKind:
		return "word"
	}
	return "text"
}

// choices are the words of an enumeration.
func choices(f protoreflect.FieldDescriptor) string {
	if f.Kind() != protoreflect.EnumKind {
		return ""
	}
	var names []string
	for i := range f.Enum().Values().Len() {
		names = append(names, string(f.Enum().Values().Get(i).Name()))
	}
	return " of " + strings.Join(names, ", ")
}
