package dbschema

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// readers is the number of connections that read an SQLite file. Measured: more
// than cores bring nothing, and each holds its own page cache.
const readers = 4

// stmtCache is the number of prepared statements kept by each SQLite connection.
// Preparing costs as much as a point read; about 100 statements are in use.
const stmtCache = 256

// The file is opened twice. The writer's transactions begin IMMEDIATE, so that
// two of them queue instead of both reading and one failing with BUSY when it
// first writes (measured: the default deferred pool loses 96 % of 1,000
// concurrent read-modify-writes). It does not sync at a commit: flusher does, for all at once.
const (
	writerParams = "_txlock=immediate&_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=5000&_foreign_keys=1"
	readerParams = "_query_only=1&_journal_mode=WAL&_busy_timeout=5000&_foreign_keys=1"
)

func (db *DB) openSQLite(ctx context.Context) error {
	if !cgoEnabled {
		return fault.New(fault.Unavailable, "dbschema.Open",
			"this program was built with CGO_ENABLED=0, which leaves SQLite out: use PostgreSQL or build it with cgo")
	}
	path, err := filepath.Abs(db.cfg.DSN)
	if err != nil {
		return err
	}
	if err := db.lockFile(path); err != nil {
		return err
	}
	// Made here so that the file, its WAL and its shared memory get this mode: rows hold sealed credentials.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "dbschema.Open", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if db.writer, err = db.connectSQLite(ctx, path, writerParams, 1); err != nil {
		return err
	}
	db.flusher = newFlusher(db.walSync(path))
	db.reader, err = db.connectSQLite(ctx, path, readerParams, readers)
	return err
}

func (db *DB) connectSQLite(ctx context.Context, path, params string, conns int) (*gorm.DB, error) {
	escaped := strings.NewReplacer("%", "%25", " ", "%20").Replace(path)
	pool, err := sql.Open("sqlite3", fmt.Sprintf("file:%s?%s&_stmt_cache_size=%d", escaped, params, stmtCache))
	if err != nil {
		return nil, err
	}
	db.close = append(db.close, pool.Close)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	if err := pool.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return gorm.Open(sqliteDialect{&sqlite.Dialector{DriverName: "sqlite3", Conn: pool}}, db.gormConfig())
}

// lockFile takes FILE.lock for this process. The lock file stays: removing it
// would let a third process lock a new one while a second waits for the old.
func (db *DB) lockFile(path string) error {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "dbschema.Open", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 32)) // only to name it; the lock itself is the truth
		_ = f.Close()
		return fault.New(fault.Unavailable, "dbschema.Open",
			"%s is in use by another Top (process %s): stop it, or use PostgreSQL for several replicas",
			path, strings.TrimSpace(string(owner)))
	}
	db.close = append(db.close, f.Close) // closing gives the lock back
	if err := f.Truncate(0); err != nil {
		return fault.Wrap(fault.Unavailable, "dbschema.Open", err)
	}
	_, err = fmt.Fprintln(f, os.Getpid())
	return fault.Wrap(fault.Unavailable, "dbschema.Open", err)
}

// sqliteDialect is gorm's dialect with errors classified as ours.
type sqliteDialect struct{ *sqlite.Dialector }

// Translate classifies err; gorm calls it for every failed statement.
func (sqliteDialect) Translate(err error) error { return Classify(err) }
