package ovsdb

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
)

// UUID is the id of a row, in the form of RFC 4122: 36 characters, lower case.
type UUID string

// NamedUUID refers to the row that an Insert of the same transaction makes under that name.
type NamedUUID string

// Valid reports whether u has the form of a UUID.
func (u UUID) Valid() bool { return uuidForm.MatchString(string(u)) }

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// A datum is a column's value as the replica keeps it: pairs in the order of their keys, the values nil in a set. Scalars and
// optional values are sets of at most one element. Atoms are int64, float64, bool, string and UUID. A datum is never changed once made.
type datum struct {
	keys   []any
	values []any
}

func (d datum) equal(o datum) bool {
	return slices.Equal(d.keys, o.keys) && slices.Equal(d.values, o.values)
}

// shared says whether two data are one, as those are that an update left alone.
func (d datum) shared(o datum) bool {
	return len(d.keys) == len(o.keys) && len(d.keys) > 0 && &d.keys[0] == &o.keys[0] && len(d.values) == len(o.values) && (len(d.values) == 0 || &d.values[0] == &o.values[0])
}

// compareAtoms orders atoms of one type.
func compareAtoms(a, b any) int {
	switch x := a.(type) {
	case int64:
		return cmp.Compare(x, b.(int64))
	case float64:
		return cmp.Compare(x, b.(float64))
	case string:
		return cmp.Compare(x, b.(string))
	case UUID:
		return cmp.Compare(x, b.(UUID))
	case bool:
		switch y := b.(bool); {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	}
	return 0
}

// sorted returns the datum with its pairs in order; it owns d.
func (d datum) sorted() (datum, error) {
	if d.values == nil {
		slices.SortFunc(d.keys, compareAtoms)
	} else {
		sort := make([]int, len(d.keys))
		for i := range sort {
			sort[i] = i
		}
		slices.SortFunc(sort, func(i, j int) int { return compareAtoms(d.keys[i], d.keys[j]) })
		keys, values := make([]any, len(sort)), make([]any, len(sort))
		for to, from := range sort {
			keys[to], values[to] = d.keys[from], d.values[from]
		}
		d = datum{keys, values}
	}
	for i := 1; i < len(d.keys); i++ {
		if compareAtoms(d.keys[i-1], d.keys[i]) == 0 {
			return d, fmt.Errorf("%v stands twice in a set or map", d.keys[i])
		}
	}
	return d, nil
}

// find returns the place of a key, or where it would stand.
func (d datum) find(key any) (int, bool) { return slices.BinarySearchFunc(d.keys, key, compareAtoms) }

var errValue = errors.New("malformed value")

// decodeDatum reads a <value> (RFC 7047 section 5.1) of a column's type. The tree comes from a decoder that keeps numbers.
func decodeDatum(t ColumnType, tree any) (datum, error) {
	var d datum
	if t.Value != "" {
		list, err := tagged(tree, "map")
		if err != nil {
			return d, err
		}
		d.keys, d.values = make([]any, 0, len(list)), make([]any, 0, len(list))
		for _, item := range list {
			pair, ok := item.([]any)
			if !ok || len(pair) != 2 {
				return d, fmt.Errorf("%w: a map's pair", errValue)
			}
			key, err := decodeAtom(t.Key, pair[0])
			if err != nil {
				return d, err
			}
			value, err := decodeAtom(t.Value, pair[1])
			if err != nil {
				return d, err
			}
			d.keys, d.values = append(d.keys, key), append(d.values, value)
		}
		return d.sorted()
	}
	list, err := tagged(tree, "set")
	if err != nil {
		list = []any{tree} // a set of one is written as its element
	}
	d.keys = make([]any, 0, len(list))
	for _, item := range list {
		atom, err := decodeAtom(t.Key, item)
		if err != nil {
			return d, err
		}
		d.keys = append(d.keys, atom)
	}
	return d.sorted()
}

// tagged returns the list of ["set", [...]] or ["map", [...]].
func tagged(tree any, tag string) ([]any, error) {
	pair, ok := tree.([]any)
	if ok && len(pair) == 2 && pair[0] == tag {
		if list, ok := pair[1].([]any); ok {
			return list, nil
		}
	}
	return nil, fmt.Errorf("%w: want a %s", errValue, tag)
}

func decodeAtom(t AtomType, tree any) (any, error) {
	switch t {
	case Integer:
		if n, ok := tree.(json.Number); ok {
			i, err := strconv.ParseInt(n.String(), 10, 64)
			return i, err
		}
	case Real:
		if n, ok := tree.(json.Number); ok {
			f, err := n.Float64()
			return f, err
		}
	case Boolean:
		if b, ok := tree.(bool); ok {
			return b, nil
		}
	case String:
		if s, ok := tree.(string); ok {
			return s, nil
		}
	case UUIDType:
		if pair, ok := tree.([]any); ok && len(pair) == 2 && pair[0] == "uuid" {
			if s, ok := pair[1].(string); ok && UUID(s).Valid() {
				return UUID(s), nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %v is no %s", errValue, tree, t)
}

// diff applies the difference that an update2 carries for a column (ovsdb-server(7), section 4.1.14): the
// new value for a scalar or optional column, else the elements and pairs that changed sides.
func (d datum) diff(t ColumnType, change datum) datum {
	if t.Max == 1 {
		return change
	}
	out := datum{keys: slices.Clone(d.keys)}
	if t.Value != "" {
		out.values = slices.Clone(d.values)
	}
	for i, key := range change.keys {
		at, found := out.find(key)
		switch {
		case found && (t.Value == "" || compareAtoms(out.values[at], change.values[i]) == 0):
			out.keys = slices.Delete(out.keys, at, at+1)
			if t.Value != "" {
				out.values = slices.Delete(out.values, at, at+1)
			}
		case found:
			out.values[at] = change.values[i]
		default:
			out.keys = slices.Insert(out.keys, at, key)
			if t.Value != "" {
				out.values = slices.Insert(out.values, at, change.values[i])
			}
		}
	}
	return out
}

// encode renders a Go value as a <value>: a slice is a set, a map a map, a nil pointer or nil the empty set.
func encode(v any) (any, error) {
	switch x := v.(type) {
	case nil:
		return []any{"set", []any{}}, nil
	case UUID:
		return []any{"uuid", string(x)}, nil
	case NamedUUID:
		return []any{"named-uuid", string(x)}, nil
	case string, bool, int, int32, int64, uint16, uint32, float64:
		return x, nil
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return []any{"set", []any{}}, nil
		}
		return encode(r.Elem().Interface())
	case reflect.Slice:
		list := make([]any, r.Len())
		for i := range list {
			item, err := encode(r.Index(i).Interface())
			if err != nil {
				return nil, err
			}
			list[i] = item
		}
		return []any{"set", list}, nil
	case reflect.Map:
		return encodeMap(r)
	default:
		return nil, fmt.Errorf("a %T is no value of OVSDB", v)
	}
}

func encodeMap(r reflect.Value) (any, error) {
	pairs := make(map[string][]any, r.Len()) // by the key's text, so that the same map has the same bytes
	for it := r.MapRange(); it.Next(); {
		key, err := encode(it.Key().Interface())
		if err != nil {
			return nil, err
		}
		value, err := encode(it.Value().Interface())
		if err != nil {
			return nil, err
		}
		pairs[fmt.Sprint(key)] = []any{key, value}
	}
	list := make([]any, 0, len(pairs))
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		list = append(list, pairs[key])
	}
	return []any{"map", list}, nil
}
