package dbschema

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/sqlite/*.sql migrations/postgres/*.sql
var migrations embed.FS

// migrationLock is the key of the PostgreSQL advisory lock under which replicas
// that start together migrate one after the other: "hwmigrat" in ASCII.
const migrationLock = 0x68776d6967726174

// Migrations returns the migration files of a driver, for tests and tools.
func Migrations(driver string) (fs.FS, error) { return fs.Sub(migrations, "migrations/"+driver) }

func (db *DB) migrate(ctx context.Context) error {
	provider, err := db.migrator()
	if err != nil {
		return err
	}
	known := provider.ListSources()
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if newest := known[len(known)-1].Version; current > newest {
		return fmt.Errorf("its schema has version %d, this program knows %d: it was used by a newer Headwater", current, newest)
	}
	done, err := provider.Up(ctx)
	for _, m := range done {
		db.log.InfoContext(ctx, "schema migrated", "version", m.Source.Version, "elapsed", m.Duration)
	}
	return err
}

func (db *DB) migrator() (*goose.Provider, error) {
	files, err := Migrations(db.cfg.Driver)
	if err != nil {
		return nil, err
	}
	// Out of order, because packages number theirs ahead and arrive when they are ready.
	opts := []goose.ProviderOption{goose.WithAllowOutofOrder(true), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	dialect := goose.DialectSQLite3
	if db.cfg.Driver == Postgres {
		dialect = goose.DialectPostgres
		// Poll every second, for five minutes: a long migration in another replica is waited for.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300))
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	pool, err := db.writer.DB()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, pool, files, opts...)
}
