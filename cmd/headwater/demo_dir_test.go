package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// "headwater demo --dir /var/lib/headwater" deleted a real Top's database and keys, and "--dir ." a person's clouds.yaml;
// a second demo in the folder of a running one, on another port, deleted its database.
func TestDemoEmptiesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	if err := emptyDemo(dir); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "headwater.db")
	write := func(file string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(db)
	free, err := lockDemo(db + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := emptyDemo(dir); err == nil || !strings.Contains(err.Error(), "another demo runs in "+dir) {
		t.Errorf("a folder in use: %v", err)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	if err := emptyDemo(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(db); !os.IsNotExist(err) {
		t.Errorf("the last demo's database is still there: %v", err)
	}
	for _, name := range []string{"clouds.yaml", "headwater.db", "headwater.keys"} {
		foreign := t.TempDir()
		write(filepath.Join(foreign, name))
		if err := emptyDemo(foreign); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a folder with somebody's %s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(foreign, name)); err != nil {
			t.Errorf("somebody's %s is gone: %v", name, err)
		}
	}
}
