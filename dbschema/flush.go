package dbschema

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// flusher makes committed transactions of an SQLite file durable. The writer
// commits with synchronous=NORMAL, which appends to the write-ahead log and does
// not wait for the disk; flush then syncs that log, outside of the writer's turn,
// once for all who wait. The log is written in order, so that whoever was flushed
// knows that all that was committed before it is safe as well.
type flusher struct {
	sync func() error
	turn chan struct{} // holding its one place is the right to sync

	mu     sync.Mutex // guards the fields below
	next   *flush     // for those whose commit is older than the next sync
	broken error      // the first failure: what a disk lost once, it does not confirm later
}

// flush is one sync, and those who wait for it.
type flush struct {
	done chan struct{} // closed after err was set
	err  error
}

func newFlusher(sync func() error) *flusher {
	return &flusher{sync: sync, turn: make(chan struct{}, 1)}
}

// flush returns once all that was committed before it was called is on disk. Its
// error is fault.Ambiguous: the transaction was committed and may be lost. All later calls fail as well.
func (f *flusher) flush() error {
	f.mu.Lock()
	if f.broken != nil {
		defer f.mu.Unlock()
		return f.broken
	}
	if f.next == nil {
		f.next = &flush{done: make(chan struct{})}
	}
	mine := f.next
	f.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case f.turn <- struct{}{}:
	}
	defer func() { <-f.turn }()
	f.mu.Lock()
	if f.next != mine { // whoever took it closed done before it gave the turn back
		f.mu.Unlock()
		<-mine.done
		return mine.err
	}
	f.next = nil // who commits from here on waits for the next one
	err := f.broken
	f.mu.Unlock()
	if err == nil {
		err = f.once()
	}
	mine.err = err
	close(mine.done)
	return err
}

func (f *flusher) once() error {
	err := f.sync()
	if err == nil {
		return nil
	}
	err = &fault.Error{Op: "dbschema.Write", Kind: fault.Ambiguous,
		Msg: "the disk did not confirm what was written: the database is read-only until Top is restarted", Err: err}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
	return err
}

// walSync returns a function that syncs the write-ahead log of an SQLite file. SQLite takes its locks in other
// files, so that closing ours breaks none.
func (db *DB) walSync(path string) func() error {
	w := &wal{path: path + "-wal"} // flush calls it once at a time; Close comes after the last
	db.close = append(db.close, w.close)
	return w.sync
}

// wal is the file of a write-ahead log. SQLite keeps it until its last connection is closed.
type wal struct {
	path string
	file *os.File
	info os.FileInfo
}

func (w *wal) sync() error {
	now, err := os.Stat(w.path) // there is one: something was committed
	if err != nil {
		return fmt.Errorf("find the write-ahead log: %w", err)
	}
	if w.file == nil || !os.SameFile(now, w.info) { // another one: all connections were closed in between
		if err := w.close(); err != nil {
			return err
		}
		if w.file, err = os.OpenFile(w.path, os.O_RDWR, 0); err != nil {
			return fmt.Errorf("open the write-ahead log: %w", err)
		}
		if w.info, err = w.file.Stat(); err != nil {
			return fmt.Errorf("look at the write-ahead log: %w", err)
		}
	}
	if err := syscall.Fdatasync(int(w.file.Fd())); err != nil {
		return fmt.Errorf("sync the write-ahead log: %w", err)
	}
	return nil
}

func (w *wal) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
