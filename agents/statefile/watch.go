package statefile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Watch reads a file, and again whenever it has changed or another file has been moved into its place, until ctx ends. got is called with what it says,
// bad with what is wrong with it: then what was last said holds. The directory must be there; the file may come later. A file that somebody is just writing
// is read when it is closed: half a state looks like deletions.
func Watch(ctx context.Context, path string, got func([]state.Object), bad func(error)) error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify") //nolint:gosec // a descriptor
	// The directory, since an editor writes another file and moves it into the place of the one before.
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM); err != nil {
		return errors.Join(fmt.Errorf("watch the directory of %s: %w", path, err), events.Close())
	}
	written, changed := make(chan struct{}, 1), make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return events.Close()
	})
	g.Go(func() error {
		buffer := make([]byte, 1<<16)
		for {
			n, err := events.Read(buffer)
			if err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // closed, since it was to end
				}
				return fmt.Errorf("watch %s: %w", path, err)
			}
			tell := changed
			if names(buffer[:n], filepath.Base(path)) {
				tell = written
			}
			select {
			case tell <- struct{}{}:
			default:
			}
		}
	})
	g.Go(func() error {
		w := &watched{path: path, got: got, bad: bad, seed: maphash.MakeSeed()}
		// A file on a network's file system may change without a word.
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			w.look()
			select {
			case <-ctx.Done():
				return nil
			case <-written:
				w.was = nil // it may have been written twice within a tick of the file system's clock
			case <-changed:
			case <-ticker.C:
			}
		}
	})
	return g.Wait()
}

// names says whether events of inotify(7) are about a name.
func names(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:])) // the length of the name comes last
		if end > len(events) {
			return false
		}
		if string(bytes.TrimRight(events[unix.SizeofInotifyEvent:end], "\x00")) == name {
			return true
		}
		events = events[end:]
	}
	return false
}

// watched is the file as it was seen last.
type watched struct {
	path string
	got  func([]state.Object)
	bad  func(error)
	was  os.FileInfo
	said string

	writing int // times in a row that somebody was writing it

	seed   maphash.Seed
	taken  bool   // something was
	sum    uint64 // of what was taken last
	memory memory
}

// patience is how often a file may be found open for writing before that is told.
const patience = 10

func (w *watched) look() {
	info, err := os.Stat(w.path)
	if err != nil {
		w.complain(err)
		return
	}
	if same(w.was, info) {
		return
	}
	raw, info, err := quiet(w.path)
	if errors.Is(err, errWritten) {
		if w.writing++; w.writing == patience {
			w.complain(fmt.Errorf("%s: %w, and has been for long", w.path, err))
		}
		return
	}
	w.writing = 0
	if err != nil {
		w.complain(err)
		return
	}
	w.was = info
	sum := maphash.Bytes(w.seed, raw)
	if w.taken && sum == w.sum && w.said == "" {
		return
	}
	objects, err := w.memory.parse(w.path, raw)
	if err != nil {
		w.complain(err)
		return
	}
	w.said, w.taken, w.sum = "", true, sum
	w.got(objects)
}

func same(was, is os.FileInfo) bool {
	return was != nil && os.SameFile(was, is) && was.ModTime().Equal(is.ModTime()) && was.Size() == is.Size()
}

// errWritten says that somebody is writing a file.
var errWritten = errors.New("the file is being written")

// quiet reads a file that nobody has open for writing.
func quiet(path string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	// A read lease is given only where there is no writer, see fcntl(2). File systems without leases refuse with another error.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); errors.Is(err, unix.EAGAIN) {
		return nil, nil, errWritten
	} else if err == nil {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			return nil, nil, fmt.Errorf("give the lease of %s back: %w", path, err)
		}
	}
	before, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && !same(before, after) {
		err = errWritten
	}
	return raw, after, err
}

// complain says once what is wrong.
func (w *watched) complain(err error) {
	if err.Error() != w.said {
		w.said = err.Error()
		w.bad(err)
	}
}
