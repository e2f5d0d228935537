package ovsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// AtomType is the type of an atom (RFC 7047 section 3.1, <atomic-type>).
type AtomType string

// The atomic types.
const (
	Integer  AtomType = "integer" // int64
	Real     AtomType = "real"    // float64
	Boolean  AtomType = "boolean"
	String   AtomType = "string"
	UUIDType AtomType = "uuid"
)

// Unlimited is the Max of a set or map without a limit.
const Unlimited = math.MaxInt

// ColumnType is the type of a column: a scalar (Min and Max are 1), an optional value (0 and 1), a set, or a map (Value is not empty).
type ColumnType struct {
	Key      AtomType
	Value    AtomType // of a map; empty otherwise
	Min, Max int
	RefTable string // the table that a key of type uuid refers to; empty when it refers to none
}

// Column is a column of a schema.
type Column struct {
	Type      ColumnType
	Ephemeral bool // not kept over a restart of the server
	Mutable   bool
}

// Schema is a database's schema (RFC 7047 section 3.2), as far as a client needs it.
type Schema struct {
	Name    string
	Version string
	Tables  map[string]map[string]Column
}

var atomTypes = map[AtomType]bool{Integer: true, Real: true, Boolean: true, String: true, UUIDType: true}

// ParseSchema reads a <database-schema>. The columns _uuid and _version, which every table has, are added.
func ParseSchema(raw []byte) (*Schema, error) {
	var in struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Tables  map[string]struct {
			Columns map[string]struct {
				Type      json.RawMessage `json:"type"`
				Ephemeral bool            `json:"ephemeral"`
				Mutable   *bool           `json:"mutable"`
			} `json:"columns"`
		} `json:"tables"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	s := &Schema{Name: in.Name, Version: in.Version, Tables: make(map[string]map[string]Column, len(in.Tables))}
	for table, t := range in.Tables {
		columns := make(map[string]Column, len(t.Columns)+2)
		for name, c := range t.Columns {
			kind, err := parseType(c.Type)
			if err != nil {
				return nil, fmt.Errorf("schema %s, column %s of table %s: %w", in.Name, name, table, err)
			}
			columns[name] = Column{Type: kind, Ephemeral: c.Ephemeral, Mutable: c.Mutable == nil || *c.Mutable}
		}
		for _, name := range []string{"_uuid", "_version"} {
			columns[name] = Column{Type: ColumnType{Key: UUIDType, Min: 1, Max: 1}}
		}
		s.Tables[table] = columns
	}
	return s, nil
}

// parseType reads a <type>: an atomic type's name, or an object.
func parseType(raw json.RawMessage) (ColumnType, error) {
	t := ColumnType{Min: 1, Max: 1}
	if key, _, err := parseBase(raw); err == nil {
		t.Key = key
		return t, nil
	}
	var in struct {
		Key   json.RawMessage `json:"key"`
		Value json.RawMessage `json:"value"`
		Min   *int            `json:"min"`
		Max   json.RawMessage `json:"max"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return t, err
	}
	var err error
	if t.Key, t.RefTable, err = parseBase(in.Key); err != nil {
		return t, err
	}
	if in.Value != nil {
		if t.Value, _, err = parseBase(in.Value); err != nil {
			return t, err
		}
	}
	if in.Min != nil {
		t.Min = *in.Min
	}
	if string(in.Max) == `"unlimited"` {
		t.Max = Unlimited
	} else if in.Max != nil {
		if err := json.Unmarshal(in.Max, &t.Max); err != nil {
			return t, err
		}
	}
	if t.Min < 0 || t.Min > 1 || t.Max < 1 {
		return t, fmt.Errorf("a type of %d to %d elements", t.Min, t.Max)
	}
	return t, nil
}

var errType = errors.New("malformed type")

// parseBase reads a <base-type>: a name, or an object that has it in "type".
func parseBase(raw json.RawMessage) (AtomType, string, error) {
	var name AtomType
	if json.Unmarshal(raw, &name) != nil {
		var in struct {
			Type     AtomType `json:"type"`
			RefTable string   `json:"refTable"`
		}
		if err := json.Unmarshal(raw, &in); err != nil || !atomTypes[in.Type] {
			return "", "", errType
		}
		return in.Type, in.RefTable, nil
	}
	if !atomTypes[name] {
		return "", "", errType
	}
	return name, "", nil
}
