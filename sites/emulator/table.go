package emulator

import (
	"iter"
	"slices"
	"sort"
)

// row is what a table needs to know of its rows. Embedding it makes a struct storable.
type row struct {
	ID      string
	Project string
	seq     int64 // order of insertion within the table
}

func (r *row) base() *row { return r }

type storable interface{ base() *row }

// table keeps rows by id and, in order of creation, as a whole and by project.
type table[T storable] struct {
	byID      map[string]T
	all       []T
	byProject map[string][]T
	last      int64
}

func newTable[T storable]() *table[T] {
	return &table[T]{byID: map[string]T{}, byProject: map[string][]T{}}
}

func (t *table[T]) add(v T) {
	r := v.base()
	t.last++
	r.seq = t.last
	t.byID[r.ID] = v
	t.all = append(t.all, v)
	t.byProject[r.Project] = append(t.byProject[r.Project], v)
}

func (t *table[T]) get(id string) (T, bool) {
	v, ok := t.byID[id]
	return v, ok
}

func (t *table[T]) remove(v T) {
	r := v.base()
	if _, ok := t.byID[r.ID]; !ok {
		return
	}
	delete(t.byID, r.ID)
	t.all = cut(t.all, r.seq)
	if rest := cut(t.byProject[r.Project], r.seq); len(rest) > 0 {
		t.byProject[r.Project] = rest
	} else {
		delete(t.byProject, r.Project)
	}
}

// give moves a row to another project.
func (t *table[T]) give(v T, project string) {
	r := v.base()
	t.byProject[r.Project] = cut(t.byProject[r.Project], r.seq)
	r.Project = project
	list := t.byProject[project]
	at := sort.Search(len(list), func(i int) bool { return list[i].base().seq > r.seq })
	t.byProject[project] = slices.Insert(list, at, v)
}

func (t *table[T]) len() int { return len(t.all) }

// of returns the rows of one project, or all rows when project is "", oldest first. The slice is the table's own.
func (t *table[T]) of(project string) []T {
	if project == "" {
		return t.all
	}
	return t.byProject[project]
}

func cut[T storable](list []T, seq int64) []T {
	i := sort.Search(len(list), func(i int) bool { return list[i].base().seq >= seq })
	if i < len(list) && list[i].base().seq == seq {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// newestFirst yields the rows from the last made to the first.
func newestFirst[T any](list []T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := len(list) - 1; i >= 0; i-- {
			if !yield(list[i]) {
				return
			}
		}
	}
}
