package dbschema

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

func (db *DB) openPostgres(ctx context.Context) error {
	conf, err := pgx.ParseConfig(db.cfg.DSN)
	if err != nil {
		return fmt.Errorf("dsn: %w", err) // pgx leaves the password out of it
	}
	if _, ok := conf.RuntimeParams["application_name"]; !ok {
		conf.RuntimeParams["application_name"] = "headwater"
	}
	conf.RuntimeParams["timezone"] = "UTC"
	pool := stdlib.OpenDB(*conf, stdlib.OptionAfterConnect(utcTimes))
	db.close = append(db.close, pool.Close)
	pool.SetMaxOpenConns(db.cfg.MaxConns)
	pool.SetMaxIdleConns(db.cfg.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute) // so that a load spike does not hold the server's connections for ever
	if err := pool.PingContext(ctx); err != nil {
		return err
	}
	db.writer, err = gorm.Open(postgresDialect{postgres.New(postgres.Config{Conn: pool}).(*postgres.Dialector)}, db.gormConfig())
	db.reader = db.writer
	return err
}

// utcTimes makes times come back in UTC, as SQLite gives them, not in the process's zone.
func utcTimes(_ context.Context, conn *pgx.Conn) error {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID,
		Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	return nil
}

// postgresDialect is gorm's dialect with errors classified as ours.
type postgresDialect struct{ *postgres.Dialector }

// Translate classifies err; gorm calls it for every failed statement.
func (postgresDialect) Translate(err error) error { return Classify(err) }
