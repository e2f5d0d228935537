package dbschema_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// put inserts a row named id.
func put(tx dbschema.Tx, id string) error {
	return tx.Gorm().Create(&dbschema.ProjectHome{ProjectID: id, Site: "east", CreatedAt: time.Now().UTC().Truncate(time.Microsecond)}).Error
}

// count returns how many rows put left.
func count(t testing.TB, db *dbschema.DB) (n int64) {
	t.Helper()
	if err := db.Read(t.Context()).Model(dbschema.ProjectHome{}).Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWriteIsAllOrNothing(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		boom := errors.New("boom")
		hooks := 0
		fail := func(tx dbschema.Tx) error {
			tx.AfterCommit(func() { hooks++ })
			if err := put(tx, "a"); err != nil {
				return err
			}
			return boom
		}
		if err := db.Write(t.Context(), fail); !errors.Is(err, boom) {
			t.Errorf("Write returned %v, want its function's error", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = db.Write(t.Context(), func(tx dbschema.Tx) error {
				_ = fail(tx)
				panic("boom")
			})
		}()
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Write(ctx, func(tx dbschema.Tx) error {
			cancel()
			return put(tx, "c")
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Write with a context that ended: %v", err)
		}
		if n := count(t, db); n != 0 || hooks != 0 {
			t.Errorf("after an error, a panic and a cancellation: %d rows and %d hooks called", n, hooks)
		}
		err = db.Write(t.Context(), func(tx dbschema.Tx) error {
			tx.AfterCommit(func() {
				hooks++
				// The transaction is over: a hook may write and sees what was written.
				if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return put(tx, "b") }); err != nil {
					t.Error(err)
				}
			})
			return put(tx, "a")
		})
		if n := count(t, db); err != nil || n != 2 || hooks != 1 {
			t.Errorf("Write: %v, %d rows, %d hooks; want none, 2, 1", err, n, hooks)
		}
	})
}

func TestNestedWriteIsRefused(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		err := db.Write(t.Context(), func(dbschema.Tx) error {
			return db.Write(t.Context(), func(dbschema.Tx) error { return nil })
		})
		if !errors.Is(err, dbschema.ErrNested) {
			t.Errorf("nested Write: %v, want ErrNested", err)
		}
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return put(tx, "a") }); err != nil {
			t.Errorf("the next Write: %v", err)
		}
	})
}

// Writers that share a commit must not share their failures.
func TestWritersThatFailBesideOthers(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		const writers = 400
		var committed, hooks, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range writers {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				defer cancel()
				defer func() { _ = recover() }()
				err := db.Write(ctx, func(tx dbschema.Tx) error {
					tx.AfterCommit(func() { hooks.Add(1) })
					if err := put(tx, fmt.Sprint(i)); err != nil {
						return err
					}
					switch i % 5 {
					case 1:
						return fault.New(fault.Conflict, "test", "refused")
					case 2:
						panic("boom")
					case 3:
						cancel()
					case 4:
						return put(tx, fmt.Sprint(i)) // the same row twice
					}
					return nil
				})
				switch {
				case err == nil:
					committed.Add(1)
				case i%5 == 1 && fault.Is(err, fault.Conflict), i%5 == 3 && errors.Is(err, context.Canceled), i%5 == 4 && dbschema.IsUnique(err):
					refused.Add(1)
				default:
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := count(t, db); n != writers/5 || committed.Load() != writers/5 || hooks.Load() != writers/5 || refused.Load() != 3*writers/5 {
			t.Errorf("%d rows, %d commits, %d hooks, %d refusals; want %d, the same, the same, and three times that",
				n, committed.Load(), hooks.Load(), refused.Load(), writers/5)
		}
	})
}

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		write := func(f func(tx dbschema.Tx) error) error { return db.Write(t.Context(), f) }
		if err := write(func(tx dbschema.Tx) error { return put(tx, "a") }); err != nil {
			t.Fatal(err)
		}
		if err := write(func(tx dbschema.Tx) error { return put(tx, "a") }); !dbschema.IsUnique(err) || dbschema.IsNotFound(err) {
			t.Errorf("second row with one key: %v, want IsUnique alone", err)
		}
		var home dbschema.ProjectHome
		if err := db.Read(t.Context()).Take(&home, "project_id = ?", "none").Error; !dbschema.IsNotFound(err) || dbschema.IsUnique(err) {
			t.Errorf("no row: %v, want IsNotFound alone", err)
		}
		err := write(func(tx dbschema.Tx) error { return tx.Gorm().Create(&dbschema.JobEdge{JobID: 1, AfterID: 2}).Error })
		if !dbschema.IsForeignKey(err) {
			t.Errorf("reference to no row: %v, want IsForeignKey", err)
		}
	})
}

func TestFullDiskAndReadOnlyFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, pragma, undo string }{
		{"full", "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823"},
		{"read-only", "PRAGMA query_only = 1", ""}, // which refuses to begin, so it cannot be undone
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := dbtest.SQLite(t)
			pragma := func(text string) {
				if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return tx.Gorm().Exec(text).Error }); err != nil {
					t.Fatal(err)
				}
			}
			big := strings.Repeat("x", 100_000)
			pragma(tt.pragma)
			var wg sync.WaitGroup
			for i := range 50 { // together, since SQLite undoes a shared transaction when the disk is full
				wg.Go(func() {
					err := db.Write(t.Context(), func(tx dbschema.Tx) error { return put(tx, fmt.Sprint(i, big)) })
					if !fault.Is(err, fault.Unavailable) {
						t.Errorf("write: %v, want fault.Unavailable", err)
					}
				})
			}
			wg.Wait()
			if n := count(t, db); n != 0 {
				t.Errorf("%d rows, want none", n)
			}
			if tt.undo == "" {
				return
			}
			pragma(tt.undo)
			if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return put(tx, big) }); err != nil {
				t.Errorf("write after the trouble was over: %v", err)
			}
			if n := count(t, db); n != 1 {
				t.Errorf("%d rows, want 1", n)
			}
		})
	}
}

// The server ends a connection in the middle of a transaction, as it does when it restarts.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t)
	for _, when := range []string{"within", "before the commit"} {
		err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			var pid int
			if err := tx.Gorm().Raw("SELECT pg_backend_pid()").Scan(&pid).Error; err != nil {
				return err
			}
			var gone bool
			// With a timeout: the function returns when the process has ended.
			if err := db.Read(t.Context()).Raw("SELECT pg_terminate_backend(?, 10000)", pid).Scan(&gone).Error; err != nil || !gone {
				return fmt.Errorf("terminate: %v, %w", gone, err)
			}
			if when == "within" {
				return put(tx, "a")
			}
			return nil
		})
		if kind := fault.KindOf(err); kind != fault.Unavailable && kind != fault.Ambiguous || kind == fault.Ambiguous && when == "within" {
			t.Errorf("connection lost %s: %v (%v), want fault.Unavailable, or Ambiguous in the commit", when, err, kind)
		}
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return put(tx, when) }); err != nil {
			t.Errorf("the next Write: %v", err)
		}
	}
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestReadsNeverWrite(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	if err := db.Read(t.Context()).Create(&dbschema.ProjectHome{ProjectID: "a"}).Error; err == nil {
		t.Error("a write through Read succeeded")
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t)
	changed, cancel := db.Subscribe("topic")
	defer cancel()
	_ = db.Write(t.Context(), func(tx dbschema.Tx) error {
		tx.Notify("topic")
		return errors.New("undone")
	})
	select {
	case <-changed:
		t.Error("a transaction that failed gave a signal")
	default:
	}
	for range 3 {
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { tx.Notify("topic"); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	<-changed
	select {
	case <-changed:
		t.Error("three unread signals did not melt into one")
	default:
	}
}

func TestNow(t *testing.T) {
	t.Parallel()
	clock := &dbtest.Clock{}
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		before := time.Now()
		got, err := db.Now(t.Context())
		if err != nil || got.Location() != time.UTC || got.Sub(before).Abs() > time.Minute {
			t.Errorf("Now() = %v, %v at %v", got, err, before)
		}
	})
	db := dbtest.SQLite(t, clock.Option)
	clock.Step(time.Hour)
	err := db.Write(t.Context(), func(tx dbschema.Tx) error {
		got, err := tx.Now()
		if d := time.Until(got); d < 59*time.Minute {
			t.Errorf("after a step of an hour the clock is ahead by %v", d)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Times come back as they were stored, in UTC, from both databases.
func TestTimesRoundTrip(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		want := dbschema.ProjectHome{ProjectID: "a", Site: "east", CreatedAt: time.Date(2026, 3, 29, 1, 30, 0, 120_000, time.UTC)}
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error { return tx.Gorm().Create(&want).Error }); err != nil {
			t.Fatal(err)
		}
		var got dbschema.ProjectHome
		if err := db.Read(t.Context()).Take(&got, "created_at = ?", want.CreatedAt).Error; err != nil || got != want {
			t.Errorf("read %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestSlowQueriesAreLoggedWithoutValues(t *testing.T) {
	t.Parallel()
	cfg := dbtest.SQLiteConfig(t)
	cfg.SlowQuery = time.Nanosecond
	var out strings.Builder
	db, err := dbschema.Open(t.Context(), cfg, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var home dbschema.ProjectHome
	_ = db.Read(t.Context()).Take(&home, "project_id = ?", "hunter2").Error
	if text := out.String(); !strings.Contains(text, "query was slow") || strings.Contains(text, "hunter2") {
		t.Errorf("log %q: want the query without its values", text)
	}
}
