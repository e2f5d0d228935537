package dbschema_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func TestSecondTopIsRefused(t *testing.T) {
	t.Parallel()
	cfg := dbtest.SQLiteConfig(t)
	db, err := dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dbschema.Open(t.Context(), cfg, nil)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "is in use by another Top") {
		t.Errorf("second Open: %v, want a refusal that says why", err)
	}
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	db, err = dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatalf("open after the first was closed: %v", err)
	}
	defer db.Close()
	if info, err := os.Stat(cfg.DSN); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	cfg := dbtest.SQLiteConfig(t)
	db, err := dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx dbschema.Tx) error {
		return tx.Gorm().Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)").Error
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err = dbschema.Open(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "newer Headwater") {
		t.Errorf("Open: %v, want a refusal that says why", err)
	}
}

func TestReplicasMigrateTogether(t *testing.T) {
	t.Parallel()
	cfg := dbtest.PostgresConfig(t)
	// Back to an empty database, as replicas that start together first find it.
	db, err := dbschema.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public"} {
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return tx.Gorm().Exec(statement).Error }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := dbschema.Open(t.Context(), cfg, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Read(t.Context()).Find(&[]dbschema.Job{}).Error; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestUnreachableDatabase(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]dbschema.Config{
		"no folder": {Driver: dbschema.SQLite, DSN: filepath.Join(t.TempDir(), "none", "x.db")},
		"no server": {Driver: dbschema.Postgres, DSN: "host=" + t.TempDir() + " user=u password=hunter2 dbname=d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dbschema.Open(t.Context(), cfg, nil)
			if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Open: %v, want fault.Unavailable without the password", err)
			}
		})
	}
}

// go-sqlite3 without cgo is a stub whose first query fails with a riddle.
func TestWithoutCgo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir := t.TempDir()
	main := `package main

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/dbschema"
)

func main() {
	cfg := dbschema.Default()
	cfg.DSN = "` + filepath.Join(dir, "x.db") + `"
	_, err := dbschema.Open(context.Background(), cfg, nil)
	fmt.Println(err)
}
`
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", file)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CGO_ENABLED=0, which leaves SQLite out") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := dbschema.Default().Validate(); err != nil {
		t.Errorf("the default configuration: %v", err)
	}
	err := dbschema.Config{Driver: "mysql", MaxConns: 1, SlowQuery: -1, RetryFor: -1}.Validate()
	for _, want := range []string{"mysql", "dsn", "max_conns", "slow_query", "retry_for"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v: want all problems, also %s", err, want)
		}
	}
	memory := dbschema.Default()
	memory.DSN = ":memory:"
	if memory.Validate() == nil {
		t.Error("a database in memory was accepted")
	}
}
