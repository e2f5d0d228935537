package dbschema

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// gormConfig returns gorm's settings: our transactions instead of its own, our
// log, and errors classified. Statements are prepared and kept by the drivers
// (go-sqlite3's and pgx's own caches), which costs less than gorm's cache.
func (db *DB) gormConfig() *gorm.Config {
	return &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 queryLog{log: db.log, slow: db.cfg.SlowQuery},
		NowFunc:                func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	}
}

// queryLog lets only slow queries through, without their parameters, which may
// be secrets. Errors are returned by gorm, so they are not logged here.
type queryLog struct {
	log  *slog.Logger
	slow time.Duration
}

// LogMode keeps the mode: it is not gorm's to change.
func (l queryLog) LogMode(logger.LogLevel) logger.Interface { return l }

// Info drops gorm's remarks.
func (queryLog) Info(context.Context, string, ...any) {}

// Warn drops gorm's remarks.
func (queryLog) Warn(context.Context, string, ...any) {}

// Error drops gorm's remarks: the error itself is returned to the caller.
func (queryLog) Error(context.Context, string, ...any) {}

// Trace logs the query when it took longer than the limit.
func (l queryLog) Trace(ctx context.Context, begin time.Time, query func() (string, int64), _ error) {
	elapsed := time.Since(begin)
	if elapsed < l.slow {
		return
	}
	text, rows := query()
	l.log.WarnContext(ctx, "query was slow", "query", text, "rows", rows, "elapsed", elapsed)
}

// ParamsFilter makes gorm print placeholders instead of values.
func (queryLog) ParamsFilter(_ context.Context, query string, _ ...any) (string, []any) {
	return query, nil
}
