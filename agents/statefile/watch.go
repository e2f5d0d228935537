package statefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/headwater-cloud/headwater/agents/state"
)

// Watch reads a file, and again whenever it has changed or another file has been moved into its place, until ctx ends. got is called with what it says,
// bad with what is wrong with it: then what was last said holds. The directory must be there; the file may come later.
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
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return events.Close()
	})
	g.Go(func() error {
		buffer := make([]byte, 1<<16)
		for {
			if _, err := events.Read(buffer); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // closed, since it was to end
				}
				return fmt.Errorf("watch %s: %w", path, err)
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	g.Go(func() error {
		w := &watched{path: path, got: got, bad: bad}
		// A file on a network's file system may change without a word.
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			w.look()
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-ticker.C:
			}
		}
	})
	return g.Wait()
}

// watched is the file as it was seen last.
type watched struct {
	path string
	got  func([]state.Object)
	bad  func(error)
	was  os.FileInfo
	said string

	memory memory
}

func (w *watched) look() {
	info, err := os.Stat(w.path)
	if err != nil {
		w.complain(err)
		return
	}
	if w.was != nil && os.SameFile(w.was, info) && w.was.ModTime().Equal(info.ModTime()) && w.was.Size() == info.Size() {
		return
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		w.complain(err)
		return
	}
	w.was, w.said = info, ""
	objects, err := w.memory.parse(w.path, raw)
	if err != nil {
		w.complain(err)
		return
	}
	w.got(objects)
}

// complain says once what is wrong.
func (w *watched) complain(err error) {
	if err.Error() != w.said {
		w.said = err.Error()
		w.bad(err)
	}
}
