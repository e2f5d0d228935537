package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func testKeyring(t *testing.T) *Keyring {
	t.Helper()
	k, made, err := OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	if err != nil || !made {
		t.Fatalf("OpenKeyring = %v, made %v", err, made)
	}
	return k
}

func TestKeyringSealsAndRotates(t *testing.T) {
	t.Parallel()
	k := testKeyring(t)
	id, box, err := k.Seal([]byte("hunter2"), "site east")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(box, []byte("hunter2")) {
		t.Error("the box shows its content")
	}
	second, err := k.Add()
	if err != nil {
		t.Fatal(err)
	}
	if k.Primary() != second || second == id {
		t.Errorf("after Add the primary key is %s, want the new one %s", k.Primary(), second)
	}
	again, made, err := OpenKeyring(k.path)
	if err != nil || made {
		t.Fatalf("second OpenKeyring: %v, made %v", err, made)
	}
	if plain, err := again.Open(id, box, "site east"); err != nil || string(plain) != "hunter2" {
		t.Errorf("Open after rotation = %q, %v", plain, err)
	}
	if info, err := os.Stat(k.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestKeyringRefusesForeignBoxes(t *testing.T) {
	t.Parallel()
	k := testKeyring(t)
	id, box, err := k.Seal([]byte("hunter2"), "site east")
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(box)
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name, id, use string
		box           []byte
	}{
		{"moved to another row", id, "site west", box},
		{"changed", id, "site east", flipped},
		{"cut", id, "site east", box[:10]},
		{"empty", id, "site east", nil},
		{"unknown key", "0000000000000000", "site east", box},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if plain, err := k.Open(tt.id, tt.box, tt.use); err == nil {
				t.Errorf("Open = %q, want an error", plain)
			}
		})
	}
}

// A replica whose file gained a key (by another process) opens what that key sealed.
func TestKeyringReadsNewKeys(t *testing.T) {
	t.Parallel()
	k := testKeyring(t)
	other, _, err := OpenKeyring(k.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Add(); err != nil {
		t.Fatal(err)
	}
	id, box, err := other.Seal([]byte("x"), "u")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(id, box, "u"); err != nil || string(plain) != "x" {
		t.Errorf("Open = %q, %v", plain, err)
	}
}

func TestKeyringRefusesBadFiles(t *testing.T) {
	t.Parallel()
	good := "hwk1 0123456789abcdef " + strings.Repeat("A", 43) + "=\n"
	for _, tt := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"readable by others", good, "its mode is 0644", 0o644},
		{"readable by the group", good, "its mode is 0640", 0o640},
		{"empty", "# nothing\n", "holds no key", 0o600},
		{"rubbish", good + "hunter2\n", "line 2: not a key", 0o600},
		{"twice", good + good, "stands there twice", 0o600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, _, err := OpenKeyring(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("OpenKeyring = %v, want %q", err, tt.want)
			}
		})
	}
}

// Two processes that start at once on an empty directory end up with one key.
func TestKeyringIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "keys")
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			k, _, err := OpenKeyring(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.Primary()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("different keys: %v", ids)
		}
	}
}

// Processes that rotate at once lose no key: what each sealed opens for all of them.
func TestKeyringAddsAtOnce(t *testing.T) {
	t.Parallel()
	k := testKeyring(t)
	type sealed struct {
		id  string
		box []byte
	}
	var wg sync.WaitGroup
	all := make([]sealed, 8)
	for i := range all {
		wg.Go(func() {
			mine, _, err := OpenKeyring(k.path)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := mine.Add(); err != nil {
				t.Error(err)
				return
			}
			if all[i].id, all[i].box, err = mine.Seal([]byte("x"), "u"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, s := range all {
		if _, err := k.Open(s.id, s.box, "u"); err != nil {
			t.Errorf("box %d: %v", i, err)
		}
	}
}

// What was sealed opens again, for its own use and with its own key; and nothing else that a database holds does.
func FuzzOpen(f *testing.F) {
	k, _, err := OpenKeyring(filepath.Join(f.TempDir(), "keys"))
	if err != nil {
		f.Fatal(err)
	}
	id, box, err := k.Seal([]byte("the credential"), "site east")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id, box, "site east")
	f.Add(id, box, "site west")
	f.Add(id, box[:len(box)-1], "site east")
	f.Add("0123456789abcdef", box, "site east")
	f.Add(id, []byte{}, "")
	f.Fuzz(func(t *testing.T, key string, sealed []byte, use string) {
		plain, err := k.Open(key, sealed, use)
		if own := key == id && bytes.Equal(sealed, box) && use == "site east"; own != (err == nil) || own && string(plain) != "the credential" {
			t.Errorf("Open(%q, %x, %q) = %q %v", key, sealed, use, plain, err)
		}
		again, sealed2, err := k.Seal(sealed, use)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := k.Open(again, sealed2, use); err != nil || !bytes.Equal(plain, sealed) {
			t.Errorf("%x sealed for %q opens as %x %v", sealed, use, plain, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("hwk1 0123456789abcdef " + strings.Repeat("A", 43) + "=\n"))
	f.Add([]byte("# x\n\nhwk1 zz\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		order, keys, err := parseKeys(data)
		if err == nil && (len(order) == 0 || len(order) != len(keys)) {
			t.Errorf("parseKeys accepted %d ids and %d keys", len(order), len(keys))
		}
	})
}
