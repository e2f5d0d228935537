package seclog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// file is a file that begins anew when it has become too large; what was there before is kept under the names with .1 (the newest), .2 and so on.
type file struct {
	path string
	most int64 // bytes; 0: any number
	keep int

	open *os.File
	size int64
}

// Write adds to the file. Behind an error it is opened again.
func (f *file) Write(b []byte) (int, error) {
	if f.open != nil && f.most > 0 && f.size > 0 && f.size+int64(len(b)) > f.most {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	if f.open == nil {
		if err := f.begin(); err != nil {
			return 0, err
		}
	}
	n, err := f.open.Write(b)
	f.size += int64(n)
	if err != nil {
		err = errors.Join(err, f.Close())
	}
	return n, err
}

func (f *file) begin() error {
	open, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := open.Stat()
	if err != nil {
		return errors.Join(err, open.Close())
	}
	f.open, f.size = open, info.Size()
	return nil
}

// rotate moves the file out of the way, and the oldest one away.
func (f *file) rotate() error {
	err := f.Close()
	name := func(n int) string { return fmt.Sprintf("%s.%d", f.path, n) }
	for n := f.keep - 1; n > 0; n-- {
		if e := os.Rename(name(n), name(n+1)); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if f.keep > 0 {
		return errors.Join(err, os.Rename(f.path, name(1)))
	}
	return errors.Join(err, os.Remove(f.path))
}

// Close closes the file; the next Write opens it again.
func (f *file) Close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}
