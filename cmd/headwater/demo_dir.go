package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// demoMark stands in a folder that a demo made, and so may empty.
const demoMark = "this-is-a-demo"

// emptyDemo makes the demo's folder and removes the last demo from it. It refuses a folder with a database or a
// clouds.yaml that no demo put there, and one in which a demo runs.
func emptyDemo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	var old []string
	for _, pattern := range []string{"headwater.db*", "headwater.keys*", "clouds.yaml", "openrc", "admin-password"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("look for the last demo: %w", err)
		}
		old = append(old, files...)
	}
	mark := filepath.Join(dir, demoMark)
	if _, err := os.Stat(mark); err != nil && len(old) > 0 && filepath.Base(dir) != ".demo" { // make demo's own name
		return run.Usagef("%s is there and was not made by a demo, which would delete it: give --dir a folder of its own", old[0])
	}
	free, err := lockDemo(filepath.Join(dir, "headwater.db.lock"))
	if err != nil {
		return err
	}
	errs := []error{os.WriteFile(mark, []byte("Each start of headwater demo empties this folder.\n"), 0o600)}
	for _, f := range old {
		if !strings.HasSuffix(f, ".lock") { // a lock file that went would be no lock
			errs = append(errs, os.RemoveAll(f))
		}
	}
	if err := errors.Join(append(errs, free())...); err != nil {
		return fmt.Errorf("remove the last demo: %w", err)
	}
	return nil
}

// lockDemo takes the database's lock, which a running demo holds.
func lockDemo(path string) (free func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another demo runs in %s", filepath.Dir(path)), f.Close())
	}
	return f.Close, nil
}
