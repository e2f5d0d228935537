package dbschema_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
)

// column is what a model and both databases must agree on.
type column struct {
	Class    string // text, int, bool, float, time or bytes
	Nullable bool
	Key      bool
}

// classes maps the types that migrations use to what Go can hold in them.
var classes = map[string]string{
	"text": "text", "character varying": "text",
	"integer": "int", "bigint": "int", "smallint": "int",
	"boolean": "bool",
	"real":    "float", "double precision": "float",
	"datetime": "time", "timestamp": "time", "timestamptz": "time", "timestamp with time zone": "time",
	"blob": "bytes", "bytea": "bytes",
}

// tables returns every table of the database by name, with its columns.
func tables(t *testing.T, db *dbschema.DB) map[string]map[string]column {
	t.Helper()
	query := `SELECT m.name AS "table", c.name AS "column", lower(c.type) AS type, c."notnull" = 0 AND c.pk = 0 AS nullable, c.pk > 0 AS key
		FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`
	if db.Driver() == dbschema.Postgres {
		query = `SELECT c.table_name AS "table", c.column_name AS "column", c.data_type AS type, c.is_nullable = 'YES' AS nullable,
			EXISTS (SELECT 1 FROM information_schema.table_constraints k JOIN information_schema.key_column_usage u USING (constraint_schema, constraint_name)
				WHERE k.constraint_type = 'PRIMARY KEY' AND u.table_name = c.table_name AND u.column_name = c.column_name) AS key
			FROM information_schema.columns c WHERE c.table_schema = 'public'`
	}
	var rows []struct {
		Table, Column, Type string
		Nullable, Key       bool
	}
	if err := db.Read(t.Context()).Raw(query).Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]column{}
	for _, r := range rows {
		if r.Table == "goose_db_version" {
			continue
		}
		if found[r.Table] == nil {
			found[r.Table] = map[string]column{}
		}
		class, ok := classes[r.Type]
		if !ok {
			t.Errorf("%s.%s has type %q: want one of %v", r.Table, r.Column, r.Type, slices.Sorted(maps.Keys(classes)))
		}
		found[r.Table][r.Column] = column{class, r.Nullable, r.Key}
	}
	return found
}

// modelColumns returns what the gorm struct expects of its table.
func modelColumns(t *testing.T, model any) (table string, columns map[string]column) {
	t.Helper()
	s, err := schema.Parse(model, &sync.Map{}, schema.NamingStrategy{IdentifierMaxLength: 63})
	if err != nil {
		t.Fatal(err)
	}
	columns = map[string]column{}
	for _, f := range s.Fields {
		if f.DBName == "" {
			continue
		}
		columns[f.DBName] = column{class(t, f), f.FieldType.Kind() == reflect.Pointer, f.PrimaryKey}
		if f.AutoUpdateTime != 0 && f.FieldType != reflect.TypeFor[time.Time]() {
			t.Errorf("%s.%s: gorm would set it by itself: name it otherwise or tag it autoUpdateTime:false", s.Table, f.DBName)
		}
	}
	return s.Table, columns
}

func class(t *testing.T, f *schema.Field) string {
	typ := f.IndirectFieldType
	switch kind := typ.Kind(); {
	case typ == reflect.TypeFor[time.Time]():
		return "time"
	case kind == reflect.String:
		return "text"
	case kind == reflect.Bool:
		return "bool"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "int"
	case kind == reflect.Float32 || kind == reflect.Float64:
		return "float"
	case kind == reflect.Slice && typ.Elem().Kind() == reflect.Uint8:
		return "bytes"
	}
	t.Errorf("field %s has Go type %v: no column type is known for it", f.Name, typ)
	return ""
}

func TestModelsMatchTables(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		have := tables(t, db)
		for _, m := range dbschema.Models() {
			table, want := modelColumns(t, m)
			got, ok := have[table]
			delete(have, table)
			if !ok {
				t.Errorf("model %T: no migration makes table %s", m, table)
				continue
			}
			for name, w := range want {
				if g, ok := got[name]; !ok {
					t.Errorf("%s.%s: the table has no such column", table, name)
				} else if g != w {
					t.Errorf("%s.%s: the table has %+v, the model %+v", table, name, g, w)
				}
			}
			for name := range got {
				if _, ok := want[name]; !ok {
					t.Errorf("%s.%s: the model has no such field", table, name)
				}
			}
		}
		for table := range have {
			t.Errorf("table %s has no model in dbschema.Models", table)
		}
	})
}

// TestModelsComplete finds structs with a TableName method that Models leaves out.
func TestModelsComplete(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, m := range dbschema.Models() {
		listed[reflect.TypeOf(m).Name()] = true
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "TableName" {
				continue
			}
			if name := strings.TrimPrefix(fmt.Sprint(f.Recv.List[0].Type), "*"); !listed[name] {
				t.Errorf("type %s has a TableName method but is not in dbschema.Models", name)
			}
		}
	}
}

// TestMigrationsPaired wants the same numbers and names for both databases.
func TestMigrationsPaired(t *testing.T) {
	t.Parallel()
	names := func(driver string) []string {
		files, err := dbschema.Migrations(driver)
		if err != nil {
			t.Fatal(err)
		}
		list, err := fs.Glob(files, "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	lite, pg := names(dbschema.SQLite), names(dbschema.Postgres)
	if !slices.Equal(lite, pg) {
		t.Errorf("migrations differ:\nsqlite   %v\npostgres %v", lite, pg)
	}
	for i := 1; i < len(lite); i++ {
		if lite[i][:4] == lite[i-1][:4] {
			t.Errorf("two migrations have number %s", lite[i][:4])
		}
	}
}

// TestIndexesPaired wants the same indexes, by name, uniqueness and table, in both databases.
func TestIndexesPaired(t *testing.T) {
	t.Parallel()
	list := func(db *gorm.DB, query string) []string {
		var found []string
		if err := db.Raw(query).Scan(&found).Error; err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found
	}
	lite := list(dbtest.SQLite(t).Read(t.Context()), `SELECT i.name || CASE i."unique" WHEN 1 THEN ' unique' ELSE '' END || ' on ' || m.name
		FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table' AND i.origin = 'c'`)
	pg := list(dbtest.Postgres(t).Read(t.Context()), `SELECT c.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || ' on ' || t.relname
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))
		AND t.relname <> 'goose_db_version'`)
	if !slices.Equal(lite, pg) {
		t.Errorf("indexes differ:\nsqlite   %v\npostgres %v", lite, pg)
	}
}
