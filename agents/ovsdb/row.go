package ovsdb

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// Model is a Go struct that rows of a table are decoded into. Its fields name their columns by the tag `ovsdb:"column"`; their types are
// int64, float64, bool, string or UUID for a scalar, a pointer to one of them for an optional value, a slice for a set and a map for
// a map. A field whose column the server's schema lacks stays at its zero value.
type Model interface {
	Table() string // the table's name in the schema
}

// Row is a row of the replica as it was at one moment. It never changes.
type Row struct {
	id      UUID
	columns map[string]datum
}

// ID is the row's own UUID.
func (r *Row) ID() UUID { return r.id }

// As decodes a row. A nil row gives the zero value.
func As[M Model](r *Row) M {
	var m M
	if r != nil {
		r.into(reflect.ValueOf(&m).Elem())
	}
	return m
}

// fieldsOf calls each for the fields of a model that stand for a column.
func fieldsOf(t reflect.Type, each func(column string, i int)) {
	for i := range t.NumField() {
		if column := t.Field(i).Tag.Get("ovsdb"); column != "" {
			each(column, i)
		}
	}
}

// into fills a model. The types were held against the schema when the table was asked for.
func (r *Row) into(m reflect.Value) {
	fieldsOf(m.Type(), func(column string, i int) {
		if column == "_uuid" {
			m.Field(i).SetString(string(r.id))
			return
		}
		d, ok := r.columns[column]
		if !ok {
			return
		}
		switch f := m.Field(i); f.Kind() {
		case reflect.Map:
			out := reflect.MakeMapWithSize(f.Type(), len(d.keys))
			for j, key := range d.keys {
				out.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(d.values[j]))
			}
			f.Set(out)
		case reflect.Slice:
			out := reflect.MakeSlice(f.Type(), len(d.keys), len(d.keys))
			for j, key := range d.keys {
				out.Index(j).Set(reflect.ValueOf(key))
			}
			f.Set(out)
		case reflect.Pointer:
			if len(d.keys) > 0 {
				p := reflect.New(f.Type().Elem())
				p.Elem().Set(reflect.ValueOf(d.keys[0]))
				f.Set(p)
			}
		default:
			if len(d.keys) > 0 {
				f.Set(reflect.ValueOf(d.keys[0]))
			}
		}
	})
}

var goTypes = map[AtomType]reflect.Type{
	Integer: reflect.TypeFor[int64](), Real: reflect.TypeFor[float64](), Boolean: reflect.TypeFor[bool](),
	String: reflect.TypeFor[string](), UUIDType: reflect.TypeFor[UUID](),
}

// goType is the type that a field for a column must have.
func goType(t ColumnType) reflect.Type {
	key := goTypes[t.Key]
	switch {
	case t.Value != "":
		return reflect.MapOf(key, goTypes[t.Value])
	case t.Max > 1:
		return reflect.SliceOf(key)
	case t.Min == 0:
		return reflect.PointerTo(key)
	default:
		return key
	}
}

// columnsFor returns the columns of a model that the schema has, sorted, with their types. It fails when the
// schema has no such table or a column has another type than its field.
func columnsFor(s *Schema, m Model) (map[string]ColumnType, error) {
	table, ok := s.Tables[m.Table()]
	if !ok {
		return nil, fmt.Errorf("schema %s %s has no table %s: it is of an unsupported version", s.Name, s.Version, m.Table())
	}
	columns := map[string]ColumnType{}
	var wrong []string
	t := reflect.TypeOf(m)
	fieldsOf(t, func(name string, i int) {
		c, ok := table[name]
		if !ok || name == "_uuid" {
			return
		}
		if want := goType(c.Type); t.Field(i).Type != want {
			wrong = append(wrong, fmt.Sprintf("%s.%s is a %s, and the column %s needs a %s", m.Table(), t.Field(i).Name, t.Field(i).Type, name, want))
		}
		columns[name] = c.Type
	})
	if len(wrong) > 0 {
		return nil, fmt.Errorf("schema %s %s: %s", s.Name, s.Version, strings.Join(wrong, "; "))
	}
	return columns, nil
}

// decodeRow reads the columns of a <row>; columns that were not asked for are an error.
func decodeRow(columns map[string]ColumnType, tree any) (map[string]datum, error) {
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: a row", errValue)
	}
	out := make(map[string]datum, len(object))
	for name, value := range object {
		t, ok := columns[name]
		if !ok {
			return nil, fmt.Errorf("%w: the column %s was not asked for", errValue, name)
		}
		d, err := decodeDatum(t, value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		out[name] = d
	}
	return out, nil
}

// blank is a row of default values: an update2 leaves out what has them (ovsdb-server(7), section 4.1.14).
func blank(columns map[string]ColumnType) map[string]datum {
	out := make(map[string]datum, len(columns))
	for name, t := range columns {
		out[name] = zero(t)
	}
	return out
}

// zero is a column's default value (RFC 7047 section 5.2.1).
func zero(t ColumnType) datum {
	if t.Min == 0 {
		if t.Value != "" {
			return datum{values: []any{}}
		}
		return datum{}
	}
	atom := map[AtomType]any{Integer: int64(0), Real: 0.0, Boolean: false, String: "", UUIDType: UUID("00000000-0000-0000-0000-000000000000")}
	if t.Value != "" {
		return datum{[]any{atom[t.Key]}, []any{atom[t.Value]}}
	}
	return datum{keys: []any{atom[t.Key]}}
}

// changed returns the row with what an update2 changed of it.
func (r *Row) changed(columns map[string]ColumnType, change map[string]datum) *Row {
	out := &Row{id: r.id, columns: maps.Clone(r.columns)}
	for name, d := range change {
		out.columns[name] = r.columns[name].diff(columns[name], d)
	}
	return out
}

func (r *Row) equal(o *Row) bool {
	return maps.EqualFunc(r.columns, o.columns, datum.equal)
}
