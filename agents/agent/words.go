package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"

	"github.com/headwater-cloud/headwater/agents/state"
)

// inWords shows an object as people write it: with names of fields like those of the state file, addresses and kinds as text, and without what is as it is when
// nothing is said.
func inWords(o state.Object) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := writeWords(&b, reflect.ValueOf(o)); err != nil {
		return nil, fmt.Errorf("show %s: %w", o.Ref(), err)
	}
	return b.Bytes(), nil
}

func writeWords(b *bytes.Buffer, v reflect.Value) error {
	switch x := v.Interface().(type) {
	case netip.Addr, netip.Prefix, state.MAC, state.Encap, state.SegmentKind, state.IPv6Mode, state.SnatMode:
		fmt.Fprintf(b, "%q", fmt.Sprint(x))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		return writeWords(b, v.Elem())
	case reflect.Struct:
		return writeFields(b, v)
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeWords(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	default:
		raw, err := json.Marshal(v.Interface())
		b.Write(raw)
		return err
	}
}

func writeFields(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('{')
	first := true
	for i := range v.NumField() {
		f := v.Field(i)
		if unsaid(f) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		fmt.Fprintf(b, "%q:", wordOf(v.Type().Field(i).Name))
		if err := writeWords(b, f); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

// unsaid says whether a field is as it is when nothing is said of it: of numbers for which 0 is a value, that is -1.
func unsaid(f reflect.Value) bool {
	switch f.Kind() {
	case reflect.Int:
		return f.Int() == -1
	case reflect.Slice:
		return f.Len() == 0
	case reflect.Struct:
		switch f.Interface().(type) {
		case netip.Addr, netip.Prefix:
			return f.IsZero()
		}
		for i := range f.NumField() {
			if !unsaid(f.Field(i)) {
				return false
			}
		}
		return true
	default:
		return f.IsZero()
	}
}

// humps are where a word of a name begins.
var humps = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

// wordOf is the name of a field as the state file has it.
func wordOf(name string) string {
	name = strings.NewReplacer("IPs", "Ips", "OFPort", "Ofport", "QoS", "Qos").Replace(name)
	return strings.ToLower(humps.ReplaceAllString(name, "${1}${3}_${2}${4}"))
}
