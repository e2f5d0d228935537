// Package dbschema is the one source of truth: it opens the SQL database,
// brings its tables to the newest schema and runs every change as a serializable
// transaction that either happens completely or not at all.
//
// SQLite and PostgreSQL behave alike through it: the same tables, the same
// isolation, the same errors. Tables are gorm structs in this package, one file
// for each package that writes them; columns change by numbered migrations only.
package dbschema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// DB is an open, migrated database. It is safe for concurrent use.
type DB struct {
	cfg     Config
	log     *slog.Logger
	writer  *gorm.DB
	reader  *gorm.DB      // the same as writer on PostgreSQL
	group   *group        // SQLite: how writers share commits
	flusher *flusher      // SQLite: makes commits durable
	slots   chan struct{} // PostgreSQL: one value for each transaction that runs
	alone   chan struct{} // PostgreSQL: a value while somebody collects all slots
	nest    sync.Map      // goroutine id -> struct{}: those inside Write
	topics  topics
	id      string
	close   []func() error
}

// Open opens the database, takes its lock (SQLite), and migrates it.
//
// It fails at once, with a sentence for the operator, when another process has
// the SQLite file open, when the program was built without cgo and SQLite is
// asked for, and when the schema is newer than this program.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("database configuration: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	db := &DB{cfg: cfg, log: log, id: ident.NewHexID()[:12], slots: make(chan struct{}, writeSlots), alone: make(chan struct{}, 1)}
	open := db.openSQLite
	if cfg.Driver == Postgres {
		open = db.openPostgres
	}
	if err := open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", Classify(err)), db.Close())
	}
	db.group = newGroup(db.writer)
	if err := db.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database: %w", Classify(err)), db.Close())
	}
	return db, nil
}

// Close closes every connection and gives the file's lock back. Transactions
// that still run fail. It may be called twice.
func (db *DB) Close() error {
	var errs []error
	for i := len(db.close) - 1; i >= 0; i-- {
		errs = append(errs, db.close[i]())
	}
	db.close = nil
	return errors.Join(errs...)
}

// Instance returns a random name of this opening of the database, for rows that
// say which process holds them. An SQLite file has one opening at a time, so
// there a row with another name belongs to a process that is gone.
func (db *DB) Instance() string { return db.id }

// Driver returns SQLite or Postgres.
func (db *DB) Driver() string { return db.cfg.Driver }

// Read returns a handle for queries outside a transaction, for store files
// only. It never changes anything: on SQLite the connection refuses to.
func (db *DB) Read(ctx context.Context) *gorm.DB { return db.reader.WithContext(ctx) }

// Ping asks the database for one row, for health checks.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return Classify(db.Read(ctx).Raw("SELECT 1").Scan(&one).Error)
}

// ClockSQL returns an SQL expression for the database's clock: microseconds
// since 1970 UTC, as a 64-bit integer, with Config.Skew added. On SQLite the
// clock has a resolution of one millisecond.
func (db *DB) ClockSQL() string {
	expr := "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
	if db.cfg.Driver == Postgres {
		expr = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
	}
	if db.cfg.Skew != nil {
		expr = fmt.Sprintf("(%s + %d)", expr, db.cfg.Skew().Microseconds())
	}
	return expr
}

// Now returns the database's clock in UTC, whole microseconds. All replicas
// share it, so a moment that one stores means the same to another.
func (db *DB) Now(ctx context.Context) (time.Time, error) { return db.now(db.Read(ctx)) }

func (db *DB) now(on *gorm.DB) (time.Time, error) {
	var micros int64
	if err := on.Raw("SELECT " + db.ClockSQL()).Scan(&micros).Error; err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", Classify(err))
	}
	return time.UnixMicro(micros).UTC(), nil
}
