package ovsdb

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// fuzzColumns has a column of each shape.
func fuzzColumns() map[string]map[string]ColumnType {
	return map[string]map[string]ColumnType{"T": {
		"i": {Key: Integer, Min: 1, Max: 1}, "r": {Key: Real, Min: 0, Max: 1}, "b": {Key: Boolean, Min: 1, Max: 1},
		"s": {Key: String, Min: 0, Max: Unlimited}, "u": {Key: UUIDType, Min: 0, Max: 3}, "m": {Key: String, Value: Integer, Min: 0, Max: Unlimited},
	}}
}

// FuzzUpdates feeds two updates after each other. What is taken keeps each datum in order and without doubles, since all else relies on it.
func FuzzUpdates(f *testing.F) {
	const id = "11111111-2222-3333-4444-555555555555"
	f.Add(`{"T":{"`+id+`":{"insert":{"i":7,"r":1.5,"s":["set",["b","a"]],"m":["map",[["x",1],["y",2]]]}}}}`,
		`{"T":{"`+id+`":{"modify":{"s":"b","m":["map",[["x",1],["z",3],["y",4]]],"r":["set",[]]}}}}`)
	f.Add(`{"T":{"`+id+`":{"initial":{"u":["uuid","`+id+`"],"b":true}}}}`, `{"T":{"`+id+`":{"delete":null}}}`)
	f.Add(`{"T":{"`+id+`":{"insert":{"s":["set",["a","a"]]}}}}`, `{}`)
	f.Add(`{"T":{"`+id+`":{"insert":{"i":99999999999999999999}}}}`, `null`)
	f.Fuzz(func(t *testing.T, first, second string) {
		view := &View{}
		for _, raw := range []string{first, second} {
			v, err := tree(json.RawMessage(raw))
			if err != nil {
				return
			}
			changes, err := view.decodeUpdates(fuzzColumns(), v)
			if err != nil {
				return
			}
			view = view.with(changes)
		}
		for _, row := range view.tables["T"] {
			for name, d := range row.columns {
				if !slices.IsSortedFunc(d.keys, compareAtoms) || len(slices.CompactFunc(slices.Clone(d.keys), func(a, b any) bool { return compareAtoms(a, b) == 0 })) != len(d.keys) {
					t.Errorf("column %s is out of order: %v", name, d.keys)
				}
				if d.values != nil && len(d.values) != len(d.keys) {
					t.Errorf("column %s has %d keys and %d values", name, len(d.keys), len(d.values))
				}
			}
		}
	})
}

// FuzzSchema reads any text as a schema.
func FuzzSchema(f *testing.F) {
	f.Add(`{"name":"X","version":"1","tables":{"T":{"columns":{"a":{"type":{"key":{"type":"uuid","refTable":"U"},"min":0,"max":"unlimited"}},"b":{"type":"real"}}}}}`)
	f.Add(`{"tables":{"T":{"columns":{"a":{"type":{"key":"string","value":"string","min":2}}}}}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := ParseSchema([]byte(raw))
		if err != nil {
			return
		}
		for _, table := range s.Tables {
			for name, c := range table {
				if c.Type.Min > c.Type.Max || goTypes[c.Type.Key] == nil {
					t.Errorf("column %s has the type %+v", name, c.Type)
				}
			}
		}
	})
}

// FuzzStream feeds any bytes to a connection: it ends, without a panic, when they do.
func FuzzStream(f *testing.F) {
	f.Add([]byte(`{"id":null,"method":"update3","params":[]}{"id":1,"result":{},"error":null}`))
	f.Add([]byte(`{"id":"e","method":"echo","params":[1]}`))
	f.Add([]byte(`{"id":7,"method":"nonsense","params":[1]} [`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ours, theirs := net.Pipe()
		c := newConn(ours, time.Minute, func(string, json.RawMessage) error { return nil })
		var g errgroup.Group
		g.Go(func() error { return c.run(t.Context()) })
		g.Go(func() error { _, _ = io.Copy(io.Discard, theirs); return nil }) // takes what is answered
		_ = theirs.SetWriteDeadline(time.Now().Add(time.Minute))
		_, _ = theirs.Write(raw)
		_ = theirs.Close()
		if err := g.Wait(); err == nil {
			t.Error("the connection ended without a reason")
		}
	})
}
