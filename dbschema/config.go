package dbschema

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The drivers that Config.Driver may name.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Config says where the database is and how hard it is driven. Begin with
// Default: the zero value is not valid.
type Config struct {
	// Driver is SQLite (embedded, one Top) or Postgres (many replicas, also
	// CockroachDB and YugabyteDB, which speak its protocol).
	Driver string `yaml:"driver"`
	// DSN is a file name for SQLite (its folder must exist; the file is made
	// with mode 0600) and a connection URL or keyword string for PostgreSQL. It
	// may hold a password, so it is never logged.
	DSN string `yaml:"dsn"`
	// MaxConns is the number of connections of a PostgreSQL pool, at least 2.
	// SQLite has always one writer and 4 readers.
	MaxConns int `yaml:"max_conns"`
	// SlowQuery is the time after which a query is logged as slow.
	SlowQuery time.Duration `yaml:"slow_query"`
	// RetryFor bounds how long Write goes on repeating a transaction that
	// others collide with before it gives up with fault.Unavailable.
	RetryFor time.Duration `yaml:"retry_for"`
	// Skew is added to the database's clock wherever this package reads it. It
	// is nil outside tests, which step the clock with it.
	Skew func() time.Duration `yaml:"-"`
}

// Default returns a Config for an embedded database in the working folder.
func Default() Config {
	return Config{
		Driver:    SQLite,
		DSN:       "headwater.db",
		MaxConns:  20,
		SlowQuery: 200 * time.Millisecond,
		RetryFor:  30 * time.Second,
	}
}

// withDefaults returns c with the values of Default in place of zero ones.
func (c Config) withDefaults() Config {
	d := Default()
	if c.MaxConns == 0 {
		c.MaxConns = d.MaxConns
	}
	if c.SlowQuery == 0 {
		c.SlowQuery = d.SlowQuery
	}
	if c.RetryFor == 0 {
		c.RetryFor = d.RetryFor
	}
	return c
}

// Validate returns everything that is wrong with c, joined, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.Driver != SQLite && c.Driver != Postgres {
		errs = append(errs, fmt.Errorf("driver %q: want %q or %q", c.Driver, SQLite, Postgres))
	}
	if c.DSN == "" {
		errs = append(errs, errors.New("dsn is empty"))
	}
	if c.Driver == SQLite && (strings.Contains(c.DSN, ":memory:") || strings.ContainsAny(c.DSN, "?#")) {
		errs = append(errs, errors.New("dsn: want the name of a file, without ? and # (a database in memory has no second connection)"))
	}
	if c.MaxConns < 2 {
		errs = append(errs, fmt.Errorf("max_conns %d: want at least 2", c.MaxConns))
	}
	if c.SlowQuery <= 0 {
		errs = append(errs, fmt.Errorf("slow_query %v: want more than 0", c.SlowQuery))
	}
	if c.RetryFor <= 0 {
		errs = append(errs, fmt.Errorf("retry_for %v: want more than 0", c.RetryFor))
	}
	return errors.Join(errs...)
}
