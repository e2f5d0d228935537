// Package dbtest gives tests a migrated, empty database of their own: SQLite in
// a file, or PostgreSQL on a server that the test process starts and that ends
// with it.
package dbtest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Require names the environment variable that, set to 1, makes tests on
// PostgreSQL fail instead of skip when its programs are missing.
const Require = "HEADWATER_REQUIRE_POSTGRES"

// Option changes the configuration that a test's database is opened with.
type Option func(*dbschema.Config)

// Each runs f as a subtest on SQLite and on PostgreSQL, each with an empty
// database of its own. The subtests run in parallel.
func Each(t *testing.T, f func(t *testing.T, db *dbschema.DB), opts ...Option) {
	t.Helper()
	t.Run(dbschema.SQLite, func(t *testing.T) {
		t.Parallel()
		f(t, SQLite(t, opts...))
	})
	t.Run(dbschema.Postgres, func(t *testing.T) {
		t.Parallel()
		f(t, Postgres(t, opts...))
	})
}

// SQLite returns an empty SQLite database that is closed when the test ends.
func SQLite(t testing.TB, opts ...Option) *dbschema.DB {
	t.Helper()
	return open(t, SQLiteConfig(t), opts)
}

// SQLiteConfig returns the configuration of a fresh SQLite database, for tests
// that open it themselves, for instance twice.
func SQLiteConfig(t testing.TB) dbschema.Config {
	t.Helper()
	migrated, err := template()
	if err != nil {
		t.Fatalf("migrate an SQLite database: %v", err)
	}
	cfg := dbschema.Default()
	cfg.DSN = filepath.Join(t.TempDir(), "headwater.db")
	if err := os.WriteFile(cfg.DSN, migrated, 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Postgres returns an empty PostgreSQL database that is dropped when the test
// ends. It skips the test with -short and where PostgreSQL's server programs are
// not installed, unless the environment has HEADWATER_REQUIRE_POSTGRES=1.
func Postgres(t testing.TB, opts ...Option) *dbschema.DB {
	t.Helper()
	return open(t, PostgresConfig(t), opts)
}

// PostgresConfig returns the configuration of a fresh PostgreSQL database, for
// tests that open it themselves, for instance as several replicas.
func PostgresConfig(t testing.TB) dbschema.Config {
	t.Helper()
	required := os.Getenv(Require) == "1"
	if testing.Short() && !required {
		t.Skip("no PostgreSQL with -short")
	}
	if binaries() == "" {
		if required {
			t.Fatalf("%s=1, but PostgreSQL's server programs are not installed", Require)
		}
		t.Skip("PostgreSQL's server programs are not installed (Debian: postgresql)")
	}
	srv, err := server()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	name := "t" + ident.NewHexID()
	if err := srv.admin(t.Context(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, templateDB)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.dropDatabase(name); err != nil {
			t.Error(err)
		}
	})
	return srv.config(name)
}

func open(t testing.TB, cfg dbschema.Config, opts []Option) *dbschema.DB {
	t.Helper()
	for _, o := range opts {
		o(&cfg)
	}
	db, err := dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return db
}

// These run once in a test process: constants of it, made when first needed.
var (
	template = sync.OnceValues(migrateSQLite)
	server   = sync.OnceValues(startServer)
)
