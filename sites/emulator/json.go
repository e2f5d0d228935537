package emulator

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kv is one member of an object.
type kv struct {
	K string
	V any
}

// object is a JSON object that keeps the order of its members, as the real services do.
type object []kv

// appendJSON appends v as JSON. It knows the types that views are made of and leaves the rest to encoding/json:
// a page of 1000 servers is 50,000 values, and reflection would be most of its cost.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case string:
		return appendString(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return appendFloat(b, v)
	case object:
		return appendObject(b, v)
	case []object:
		return appendList(b, v, appendObject)
	case []any:
		return appendList(b, v, appendJSON)
	case []string:
		return appendList(b, v, appendString)
	case map[string]string:
		return appendMap(b, v, appendString)
	case map[string]any:
		return appendMap(b, v, appendJSON)
	case json.RawMessage:
		return append(b, v...)
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return append(b, "null"...)
		}
		return append(b, raw...)
	}
}

func appendObject(b []byte, o object) []byte {
	b = append(b, '{')
	for i, m := range o {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, m.K)
		b = append(b, ": "...)
		b = appendJSON(b, m.V)
	}
	return append(b, '}')
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendMap[V any](b []byte, m map[string]V, one func([]byte, V) []byte) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, k)
		b = append(b, ": "...)
		b = one(b, m[k])
	}
	return append(b, '}')
}

func appendFloat(b []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return append(b, "null"...)
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendFloat(b, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

func appendString(b []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, raw...)
}

// doc is a decoded JSON object from a client.
type doc map[string]any

// has reports whether the member is present, null included.
func (d doc) has(k string) bool { _, ok := d[k]; return ok }

// sub returns the member as an object; nil when it is absent or something else.
func (d doc) sub(k string) doc {
	m, _ := d[k].(map[string]any)
	return m
}

// str returns the member when it is a string, else "".
func (d doc) str(k string) string {
	s, _ := d[k].(string)
	return s
}

// list returns the member when it is an array, else nil.
func (d doc) list(k string) []any {
	l, _ := d[k].([]any)
	return l
}

// num returns the member as a whole number; strings of digits count, as they do for the real services.
func (d doc) num(k string) (int, bool) { return toInt(d[k]) }

// truth returns the member as a boolean, or def when it is absent or cannot be read as one.
func (d doc) truth(k string, def bool) bool {
	if b, ok := toBool(d[k]); ok {
		return b
	}
	return def
}

// stringMap returns the member as a map of strings; numbers and booleans are spelled out.
func (d doc) stringMap(k string) map[string]string {
	m, _ := d[k].(map[string]any)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = toText(v)
	}
	return out
}

func toInt(v any) (int, bool) {
	switch v := v.(type) {
	case float64:
		if v != math.Trunc(v) {
			return 0, false
		}
		return int(v), true
	case string:
		n, err := strconv.Atoi(v)
		return n, err == nil
	}
	return 0, false
}

func toBool(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case float64:
		return v != 0, v == 0 || v == 1
	case string:
		switch strings.ToLower(v) {
		case "true", "1", "on", "yes", "t", "y":
			return true, true
		case "false", "0", "off", "no", "f", "n":
			return false, true
		}
	}
	return false, false
}

func toText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case int:
		return strconv.Itoa(v)
	}
	return string(appendJSON(nil, v))
}

func anyStrings(list []any) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// orNil returns nil for an empty string: the services say null where we hold "".
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

const (
	zulu   = "2006-01-02T15:04:05Z"        // Nova, Glance, Neutron
	micros = "2006-01-02T15:04:05.000000"  // Cinder, Nova's usage fields
	microz = "2006-01-02T15:04:05.000000Z" // Keystone
)

func stamp(t time.Time, layout string) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(layout)
}

// parseTime reads the spellings of a time that clients send in queries.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999", "2006-01-02T15:04:05.999999-0700", "2006-01-02"} {
		if t, err := time.Parse(layout, strings.Replace(s, " 00:00", "+00:00", 1)); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
