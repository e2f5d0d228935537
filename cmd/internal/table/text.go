package table

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

func texts(values []any) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = cell(v)
	}
	return out
}

// cell returns a value as text of one cell: lists joined by ", ", maps as
// "key='value'" sorted by key, times in RFC 3339, nothing for nil. Characters
// that would move a terminal's cursor are shown escaped: names come from tenants.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.Format(time.RFC3339)
	case json.RawMessage:
		return printable(string(v))
	case fmt.Stringer:
		if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
			return ""
		}
		return printable(v.String())
	case error:
		return printable(v.Error())
	}
	return composite(reflect.ValueOf(v))
}

func composite(r reflect.Value) string {
	switch r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return ""
		}
		return cell(r.Elem().Interface())
	case reflect.Slice, reflect.Array:
		parts := make([]string, r.Len())
		for i := range parts {
			parts[i] = cell(r.Index(i).Interface())
		}
		return strings.Join(parts, ", ")
	case reflect.Map:
		parts := make([]string, 0, r.Len())
		for _, k := range r.MapKeys() {
			parts = append(parts, fmt.Sprintf("%s='%s'", cell(k.Interface()), cell(r.MapIndex(k).Interface())))
		}
		slices.Sort(parts)
		return strings.Join(parts, ", ")
	case reflect.Struct:
		data, err := json.Marshal(r.Interface())
		if err != nil {
			return printable(fmt.Sprint(r.Interface()))
		}
		return printable(string(data))
	}
	return printable(fmt.Sprint(r.Interface()))
}

// printable escapes control characters, except line ends and tabs.
func printable(s string) string {
	if !strings.ContainsFunc(s, control) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if control(c) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// control also takes the characters that reorder the text around them.
func control(c rune) bool {
	return c != '\n' && c != '\t' && (unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c))
}
