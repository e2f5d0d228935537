package statefile

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// memory is what a file said when it was read last. A program that writes a state writes all of it, of which little has changed: an object of JSON
// whose bytes are as they were is the object that it was.
type memory struct {
	known map[string]state.Object // by field and bytes
}

// parse is Parse.
func (m *memory) parse(name string, raw []byte) ([]state.Object, error) {
	if out, ok := m.quick(raw); ok {
		return out, nil
	}
	m.known = nil
	return Parse(name, raw) // which says what is wrong
}

// piece is an object of the file.
type piece struct {
	key    string
	object state.Object
}

// quick reads JSON without a fault, and only what is not known.
func (m *memory) quick(raw []byte) ([]state.Object, bool) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, false
	}
	fields := (&api.State{}).ProtoReflect().Descriptor().Fields()
	lists := make([][]json.RawMessage, fields.Len())
	if !split(raw, fields, lists) {
		return nil, false
	}
	var pieces []*piece
	var unknown []*piece
	fresh := []byte{'{'}
	for i, list := range lists {
		if i > 0 {
			fresh = append(fresh, ',')
		}
		fresh = append(append(append(fresh, '"'), fields.Get(i).JSONName()...), `":[`...)
		first := true
		for _, element := range list {
			p := &piece{key: string(rune(i)) + string(element)}
			if pieces = append(pieces, p); m.known[p.key] != nil {
				p.object = m.known[p.key]
				continue
			}
			if !first {
				fresh = append(fresh, ',')
			}
			first = false
			fresh, unknown = append(fresh, element...), append(unknown, p)
		}
		fresh = append(fresh, ']')
	}
	if !read(append(fresh, '}'), unknown) {
		return nil, false
	}
	return m.keep(pieces)
}

// split takes a file's top level apart.
func split(raw []byte, fields protoreflect.FieldDescriptors, lists [][]json.RawMessage) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return false
	}
	seen := map[int]bool{}
	for d.More() {
		name, err := d.Token()
		key, _ := name.(string)
		field := fields.ByJSONName(key)
		if field == nil {
			field = fields.ByTextName(key)
		}
		if err != nil || field == nil || seen[field.Index()] {
			return false
		}
		seen[field.Index()] = true
		if d.Decode(&lists[field.Index()]) != nil {
			return false
		}
	}
	if _, err := d.Token(); err != nil {
		return false
	}
	return len(bytes.TrimSpace(raw[d.InputOffset():])) == 0
}

// read reads the objects of a state in their order.
func read(raw []byte, into []*piece) bool {
	if len(into) == 0 {
		return true
	}
	var st api.State
	if protojson.Unmarshal(raw, &st) != nil {
		return false
	}
	for i, w := range wrap(&st) {
		object, err := state.Parse(w.object)
		if err != nil || i >= len(into) {
			return false
		}
		into[i].object = object
	}
	return true
}

// keep remembers what was read; nothing may stand twice.
func (m *memory) keep(pieces []*piece) ([]state.Object, bool) {
	known, seen := make(map[string]state.Object, len(pieces)), make(map[state.Ref]struct{}, len(pieces))
	out := make([]state.Object, 0, len(pieces))
	for _, p := range pieces {
		if p.object == nil {
			return nil, false
		}
		known[p.key], seen[p.object.Ref()] = p.object, struct{}{}
		out = append(out, p.object)
	}
	if len(seen) < len(pieces) {
		return nil, false
	}
	m.known = known
	return out, true
}
