package main

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// A file that an editor ended with a newline made every login fail, and a crash between making the file and writing it
// left an empty one, with which the administrator had an empty password for ever.
func TestFirstPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		have *string
		want ident.Secret // "" wants a fresh one
	}{
		{"no file", nil, ""},
		{"an empty file", new(string), ""},
		{"blanks only", ptr(" \n"), ""},
		{"a password", ptr("correct horse"), "correct horse"},
		{"a newline at its end", ptr("\tcorrect horse\r\n"), "correct horse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "admin-password")
			if tt.have != nil {
				if err := os.WriteFile(file, []byte(*tt.have), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := firstPassword(file)
			if err != nil || len(got) < 12 || tt.want != "" && got != tt.want {
				t.Fatalf("firstPassword = %q, %v; want %q", got.Reveal(), err, tt.want.Reveal())
			}
			again, err := firstPassword(file)
			if err != nil || again != got {
				t.Errorf("the second start reads %q, %v; the first had %q", again.Reveal(), err, got.Reveal())
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("the folder holds %v, %v; want the password alone", left, err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func ptr(s string) *string { return &s }

// Several Tops of one database that start for the first time at once agree on the password.
func TestFirstPasswordOfMany(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "admin-password")
	got := make([]ident.Secret, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = firstPassword(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range got[1:] {
		if g != got[0] || g == "" {
			t.Fatalf("passwords %q and %q", got[0].Reveal(), g.Reveal())
		}
	}
}
