package ovsdb

import (
	"encoding/json"
	"fmt"
	"time"
)

// Values are columns of a row by their names. See Model for the Go types; NamedUUID stands for a row that the same transaction inserts.
type Values map[string]any

// Condition selects rows: Column Func Value, Func being one of ==, !=, <, <=, >=, >, includes, excludes (RFC 7047 section 5.1).
type Condition struct {
	Column string
	Func   string
	Value  any
}

// Where is a conjunction of conditions; an empty one selects every row.
type Where []Condition

// ByID selects the row of a UUID.
func ByID(id UUID) Where { return Where{{"_uuid", "==", id}} }

// Is selects the rows whose column has a value.
func Is(column string, value any) Where { return Where{{column, "==", value}} }

// Mutation changes a column: Mutator is one of +=, -=, *=, /=, %=, insert, delete (RFC 7047 section 5.1).
type Mutation struct {
	Column  string
	Mutator string
	Value   any
}

// Op is one operation of a transaction (RFC 7047 section 5.2).
type Op struct {
	members map[string]any
	err     error // what cannot be written; Transact returns it
	table   string
}

// MarshalJSON renders the operation as RFC 7047 writes it.
func (o Op) MarshalJSON() ([]byte, error) { return json.Marshal(o.members) }

func (o *Op) set(member string, value any, err error) {
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("%s of operation %s: %w", member, o.members["op"], err)
	}
	o.members[member] = value
}

func newOp(name, table string) Op {
	o := Op{members: map[string]any{"op": name}, table: table}
	if table != "" {
		o.members["table"] = table
	}
	return o
}

func (v Values) encode() (map[string]any, error) {
	out := make(map[string]any, len(v))
	for name, value := range v {
		e, err := encode(value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		out[name] = e
	}
	return out, nil
}

func (w Where) encode() ([]any, error) {
	out := make([]any, len(w))
	for i, c := range w {
		e, err := encode(c.Value)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Column, err)
		}
		out[i] = []any{c.Column, c.Func, e}
	}
	return out, nil
}

// where returns an operation on selected rows.
func where(name, table string, w Where) Op {
	o := newOp(name, table)
	conditions, err := w.encode()
	o.set("where", conditions, err)
	return o
}

// Insert makes a row. Other operations of the transaction refer to it by name, which may be empty.
func Insert(table string, name NamedUUID, row Values) Op {
	o := newOp("insert", table)
	values, err := row.encode()
	o.set("row", values, err)
	if name != "" {
		o.members["uuid-name"] = string(name)
	}
	return o
}

// Select reads rows; without columns, all of them.
func Select(table string, w Where, columns ...string) Op {
	o := where("select", table, w)
	if len(columns) > 0 {
		o.members["columns"] = columns
	}
	return o
}

// Update sets columns of the selected rows.
func Update(table string, w Where, row Values) Op {
	o := where("update", table, w)
	values, err := row.encode()
	o.set("row", values, err)
	return o
}

// Mutate changes columns of the selected rows in place.
func Mutate(table string, w Where, mutations ...Mutation) Op {
	o := where("mutate", table, w)
	list := make([]any, len(mutations))
	for i, m := range mutations {
		e, err := encode(m.Value)
		if err != nil {
			o.set("mutations", nil, fmt.Errorf("column %s: %w", m.Column, err))
		}
		list[i] = []any{m.Column, m.Mutator, e}
	}
	o.set("mutations", list, nil)
	return o
}

// Delete removes the selected rows.
func Delete(table string, w Where) Op { return where("delete", table, w) }

// Wait holds the transaction back until the columns of the selected rows are the given rows (until "==") or are
// not ("!="), and ends it with ErrTimedOut when that does not come true within the timeout. Zero asks only once.
func Wait(table string, timeout time.Duration, w Where, until string, columns []string, rows ...Values) Op {
	o := where("wait", table, w)
	o.members["timeout"], o.members["until"], o.members["columns"] = timeout.Milliseconds(), until, columns
	list := make([]any, len(rows))
	for i, row := range rows {
		values, err := row.encode()
		list[i] = values
		o.set("rows", list, err)
	}
	o.members["rows"] = list
	return o
}

// Commit asks that the transaction is on disk before it is answered.
func Commit() Op {
	o := newOp("commit", "")
	o.members["durable"] = true
	return o
}

// Abort ends the transaction with ErrAborted and changes nothing.
func Abort() Op { return newOp("abort", "") }

// Comment puts a text into the server's log of transactions.
func Comment(text string) Op {
	o := newOp("comment", "")
	o.members["comment"] = text
	return o
}

// Assert ends the transaction with ErrNotOwner unless this client holds the lock.
func Assert(lock string) Op {
	o := newOp("assert", "")
	o.members["lock"] = lock
	return o
}

// Result is what an operation did.
type Result struct {
	Count int64  // rows that Update, Mutate or Delete touched
	ID    UUID   // of the row that Insert made
	Rows  []*Row // what Select read
}

// decodeResults reads the reply of a transaction (RFC 7047 section 4.1.3) of the given operations.
func decodeResults(s *Schema, ops []Op, reply []any) ([]Result, error) {
	for i, item := range reply {
		if object, ok := item.(map[string]any); ok && object["error"] != nil {
			at := i
			if i >= len(ops) {
				at = -1 // the commit's own
			}
			return nil, opError(at, object)
		}
	}
	if len(reply) < len(ops) {
		return nil, fmt.Errorf("%w: %d results for %d operations", errValue, len(reply), len(ops))
	}
	out := make([]Result, len(ops))
	for i := range ops {
		object, ok := reply[i].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%w: result %d", errValue, i)
		}
		var err error
		if out[i], err = decodeResult(s, ops[i].table, object); err != nil {
			return nil, fmt.Errorf("result %d: %w", i, err)
		}
	}
	return out, nil
}

func decodeResult(s *Schema, table string, object map[string]any) (Result, error) {
	var r Result
	if n, ok := object["count"].(json.Number); ok {
		count, err := n.Int64()
		if err != nil {
			return r, err
		}
		r.Count = count
	}
	if id, ok := object["uuid"]; ok {
		atom, err := decodeAtom(UUIDType, id)
		if err != nil {
			return r, err
		}
		r.ID = atom.(UUID)
	}
	rows, _ := object["rows"].([]any)
	if len(rows) == 0 {
		return r, nil
	}
	columns := make(map[string]ColumnType, len(s.Tables[table]))
	for name, c := range s.Tables[table] {
		columns[name] = c.Type
	}
	for _, tree := range rows {
		values, err := decodeRow(columns, tree)
		if err != nil {
			return r, err
		}
		row := &Row{columns: values}
		if id, ok := values["_uuid"]; ok && len(id.keys) == 1 {
			row.id, _ = id.keys[0].(UUID)
		}
		r.Rows = append(r.Rows, row)
	}
	return r, nil
}

func opError(at int, object map[string]any) *OpError {
	e := &OpError{Op: at}
	e.Name, _ = object["error"].(string)
	e.Details, _ = object["details"].(string)
	e.Syntax, _ = object["syntax"].(string)
	if e.Name == "" {
		e.Name = fmt.Sprint(object["error"])
	}
	return e
}
