package dbschema

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// A sync that had begun before somebody committed says nothing of that commit:
// who comes meanwhile waits for the next one, which serves all of them.
func TestFlushWaitsForSyncThatBeganLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int64
		f := newFlusher(func() error {
			begun.Add(1)
			time.Sleep(time.Second)
			return nil
		})
		var wg sync.WaitGroup
		began := time.Now()
		flush := func(want time.Duration) {
			if err := f.flush(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("a flush took until %v, want %v", took, want)
			}
		}
		wg.Go(func() { flush(time.Second) })
		synctest.Wait()
		for range 100 {
			wg.Go(func() { flush(2 * time.Second) })
		}
		wg.Wait()
		if n := begun.Load(); n != 2 {
			t.Errorf("%d syncs for 101 flushes, want 2", n)
		}
	})
}

// What a disk failed to write once, it may report as written the next time: nothing is believed any more.
func TestFlushFailsForEver(t *testing.T) {
	t.Parallel()
	gone, calls := errors.New("input/output error"), 0
	f := newFlusher(func() error {
		if calls++; calls == 1 {
			return gone
		}
		return nil
	})
	for range 2 {
		if err := f.flush(); !errors.Is(err, gone) || !fault.Is(err, fault.Ambiguous) {
			t.Errorf("flush() = %v, want an ambiguous fault that says %q", err, gone)
		}
	}
}

// SQLite removes the log with its last connection and makes another: syncing the old one would promise nothing.
func TestSyncFollowsTheLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db-wal")
	w := &wal{path: path}
	if err := w.sync(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sync without a log = %v, want that there is none", err)
	}
	for _, text := range []string{"first", "second"} {
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path), w.sync()); err != nil {
			t.Fatal(err)
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(now, w.info) {
			t.Errorf("the %s log is not the one that was synced: %v", text, err)
		}
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkFlush shows what the disk takes: the price of a commit that a tenant waits for.
func BenchmarkFlush(b *testing.B) {
	db, err := Open(b.Context(), Config{Driver: SQLite, DSN: b.TempDir() + "/bench.db"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}()
	for name, write := range map[string]func() error{
		"Write":     func() error { return db.Write(b.Context(), touch) },
		"WriteSoft": func() error { return db.WriteSoft(b.Context(), touch) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := write(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func touch(tx Tx) error {
	return tx.Gorm().Exec("INSERT INTO project_homes (project_id, site, created_at) VALUES (hex(randomblob(16)), '', '2026-11-21')").Error
}
