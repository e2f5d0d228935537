package ovsdb

import (
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Change is what became of one row: Old is nil when it was inserted, New when it was deleted.
type Change struct {
	Table    string
	ID       UUID
	Old, New *Row
}

// Touches says whether a column of the row is another than before: each is, of a row that came or went.
func (c Change) Touches(column string) bool {
	if c.Old == nil || c.New == nil {
		return true
	}
	was, is := c.Old.columns[column], c.New.columns[column]
	return !was.shared(is) && !was.equal(is)
}

// rows are a table's rows.
type rows map[UUID]*Row

// View is the replica at one moment: the state after some transaction, whole. It never changes.
type View struct {
	tables map[string]rows
}

// Get returns the row of a UUID, or false.
func Get[M Model](v *View, id UUID) (M, bool) {
	var zero M
	row, ok := v.tables[zero.Table()][id]
	if !ok {
		return zero, false
	}
	return As[M](row), true
}

// All yields the rows of a table in no order.
func All[M Model](v *View) iter.Seq2[UUID, M] {
	var zero M
	return func(yield func(UUID, M) bool) {
		for id, row := range v.tables[zero.Table()] {
			if !yield(id, As[M](row)) {
				return
			}
		}
	}
}

// Find returns the first row for which match holds, in the order of their UUIDs, or false.
func Find[M Model](v *View, match func(M) bool) (M, bool) {
	var zero M
	table := v.tables[zero.Table()]
	for _, id := range slices.Sorted(maps.Keys(table)) {
		if m := As[M](table[id]); match(m) {
			return m, true
		}
	}
	return zero, false
}

// Len is the number of a table's rows.
func (v *View) Len(m Model) int { return len(v.tables[m.Table()]) }

// replace returns the changes from v to a state that was read anew.
func (v *View) replace(state map[string]rows) []Change {
	var changes []Change
	for table, was := range v.tables {
		for id, row := range was {
			if _, still := state[table][id]; !still {
				changes = append(changes, Change{Table: table, ID: id, Old: row})
			}
		}
	}
	for table, is := range state {
		for id, row := range is {
			old := v.tables[table][id]
			if old != nil && old.equal(row) {
				is[id] = old
				continue
			}
			changes = append(changes, Change{Table: table, ID: id, Old: old, New: row})
		}
	}
	return changes
}

// with returns the view after changes; tables that none of them touches are shared.
func (v *View) with(changes []Change) *View {
	out := &View{tables: make(map[string]rows, len(v.tables))}
	maps.Copy(out.tables, v.tables)
	own := map[string]bool{}
	for _, c := range changes {
		if !own[c.Table] {
			own[c.Table] = true
			out.tables[c.Table] = maps.Clone(out.tables[c.Table])
			if out.tables[c.Table] == nil {
				out.tables[c.Table] = rows{}
			}
		}
		if c.New == nil {
			delete(out.tables[c.Table], c.ID)
		} else {
			out.tables[c.Table][c.ID] = c.New
		}
	}
	return out
}

// decodeUpdates reads a <table-updates2> (ovsdb-server(7), section 4.1.14) into the changes that it makes to v.
func (v *View) decodeUpdates(columns map[string]map[string]ColumnType, tree any) ([]Change, error) {
	tables, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: table updates", errValue)
	}
	var changes []Change
	for table, tree := range tables {
		of, asked := columns[table]
		updates, ok := tree.(map[string]any)
		if !asked || !ok {
			return nil, fmt.Errorf("%w: updates of table %s", errValue, table)
		}
		for id, tree := range updates {
			update, ok := tree.(map[string]any)
			if !ok || len(update) != 1 || !UUID(id).Valid() {
				return nil, fmt.Errorf("%w: update of row %s in table %s", errValue, id, table)
			}
			c := Change{Table: table, ID: UUID(id), Old: v.tables[table][UUID(id)]}
			for kind, tree := range update {
				if err := c.read(of, kind, tree); err != nil {
					return nil, fmt.Errorf("table %s, row %s: %w", table, id, err)
				}
			}
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// read fills in what became of the row.
func (c *Change) read(columns map[string]ColumnType, kind string, tree any) error {
	if kind == "delete" {
		if c.Old == nil {
			return fmt.Errorf("%w: deleted, but never seen", errValue)
		}
		return nil
	}
	values, err := decodeRow(columns, tree)
	if err != nil {
		return err
	}
	switch {
	case kind == "initial" || kind == "insert":
		row := &Row{id: c.ID, columns: blank(columns)}
		maps.Copy(row.columns, values)
		c.New = row
		return nil
	case kind == "modify" && c.Old != nil:
		c.New = c.Old.changed(columns, values)
		return nil
	default:
		return fmt.Errorf("%w: the update %q of a row never seen, or unknown", errValue, kind)
	}
}
