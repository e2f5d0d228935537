package registry

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/chacha20poly1305"
)

// keyLine is a line of the key file: a format mark, the key's id and 32 bytes in base64.
var keyLine = regexp.MustCompile(`^hwk1 ([0-9a-f]{16}) ([A-Za-z0-9+/]{43}=)$`)

// boxVersion is the first byte of a sealed box: XChaCha20-Poly1305, a random nonce of 24 bytes, then the ciphertext.
const boxVersion = 1

const keyHeader = `# Keys that seal the sites' credentials in Headwater's database. Keep this file secret and back it up apart
# from the database: without it every site's account must be given again. The last key seals, all of them open.
`

// Keyring holds the keys that seal credentials at rest. They stand in one file
// of mode 0600, a line each; the last one seals. It is safe for concurrent use.
//
// Several processes may use copies of the file: one that meets a key that it
// does not know reads its file again before it gives up.
type Keyring struct {
	path string

	mu      sync.Mutex // guards the fields below
	keys    map[string][]byte
	order   []string
	primary string
}

// OpenKeyring reads the key file at path, and makes it with one fresh key when
// it is not there (made reports so). It refuses a file that anybody but its
// owner may read or write.
func OpenKeyring(path string) (k *Keyring, made bool, err error) {
	k = &Keyring{path: path}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		made, err = k.create()
		if err != nil {
			return nil, false, fmt.Errorf("make key file %s: %w", path, err)
		}
	}
	if err := k.reload(); err != nil {
		return nil, false, err
	}
	return k, made, nil
}

// Primary returns the id of the key that seals: 16 hexadecimal digits.
func (k *Keyring) Primary() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.primary
}

// Has reports whether the key file holds the key.
func (k *Keyring) Has(id string) bool {
	_, ok := k.key(id)
	return ok
}

// Add makes a fresh key, appends it to the file and seals with it from then
// on. It returns the key's id. Processes that share the file and add at the
// same time all find their keys in it.
func (k *Keyring) Add() (id string, err error) {
	unlock, err := lockFile(k.path + ".lock")
	if err != nil {
		return "", fmt.Errorf("lock key file %s: %w", k.path, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := k.reload(); err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	id, key := newKey()
	order := append(append([]string{}, k.order...), id)
	keys := map[string][]byte{id: key}
	for old, secret := range k.keys {
		keys[old] = secret
	}
	tmp, err := writeTemp(k.path, order, keys)
	if err != nil {
		return "", fmt.Errorf("write key file %s: %w", k.path, err)
	}
	if err := os.Rename(tmp, k.path); err != nil {
		return "", errors.Join(fmt.Errorf("replace key file: %w", err), os.Remove(tmp))
	}
	if err := syncDir(filepath.Dir(k.path)); err != nil {
		return "", err
	}
	k.keys, k.order, k.primary = keys, order, id
	return id, nil
}

// Seal encrypts plain and returns the key's id and the box. The box opens only with the same use,
// which says what is sealed and for whom, so that a box moved to another row does not open.
func (k *Keyring) Seal(plain []byte, use string) (id string, box []byte, err error) {
	k.mu.Lock()
	id = k.primary
	key := k.keys[id]
	k.mu.Unlock()
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return "", nil, fmt.Errorf("seal: %w", err)
	}
	box = make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	box[0] = boxVersion
	nonce := box[1:]
	_, _ = rand.Read(nonce) // never fails
	return id, aead.Seal(box, nonce, plain, bound(id, use)), nil
}

// Open decrypts a box that Seal returned with the same id and use.
func (k *Keyring) Open(id string, box []byte, use string) ([]byte, error) {
	key, ok := k.key(id)
	if !ok {
		return nil, fmt.Errorf("open %s: the key file %s has no key %s", use, k.path, id)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", use, err)
	}
	if len(box) < 1+aead.NonceSize() || box[0] != boxVersion {
		return nil, fmt.Errorf("open %s: not a sealed box of version %d", use, boxVersion)
	}
	nonce, sealed := box[1:1+aead.NonceSize()], box[1+aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, sealed, bound(id, use))
	if err != nil {
		return nil, fmt.Errorf("open %s with key %s: %w", use, id, err)
	}
	return plain, nil
}

// key returns the key, reading the file again when it is not known: another replica may have added it.
func (k *Keyring) key(id string) ([]byte, bool) {
	k.mu.Lock()
	key, ok := k.keys[id]
	k.mu.Unlock()
	if ok || k.reload() != nil {
		return key, ok
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok = k.keys[id]
	return key, ok
}

// lockFile waits until this process alone holds the lock, which ends with the process at the latest. It is a file of
// its own, because the key file is replaced.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // closing gives the lock back
}

// create writes a file with one key. The file appears under its name whole or not at all, and a file that
// another process made meanwhile is left as it is.
func (k *Keyring) create() (bool, error) {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return false, err
	}
	id, key := newKey()
	tmp, err := writeTemp(k.path, []string{id}, map[string][]byte{id: key})
	if err != nil {
		return false, err
	}
	err = os.Link(tmp, k.path)
	if rmErr := os.Remove(tmp); rmErr != nil {
		return false, errors.Join(err, rmErr)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(k.path))
}

// reload reads the file.
func (k *Keyring) reload() error {
	info, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("key file %s: its mode is %#o, others than its owner can use it: chmod 600 it, and rotate the key if others had access", k.path, mode)
	}
	data, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	order, keys, err := parseKeys(data)
	if err != nil {
		return fmt.Errorf("key file %s: %w", k.path, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order, k.keys, k.primary = order, keys, order[len(order)-1]
	return nil
}

// parseKeys reads the text of a key file; its errors never quote it.
func parseKeys(data []byte) ([]string, map[string][]byte, error) {
	keys := map[string][]byte{}
	var order []string
	scan := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := keyLine.FindStringSubmatch(line)
		if m == nil {
			return nil, nil, fmt.Errorf("line %d: not a key (want: hwk1 ID KEY)", n)
		}
		key, err := base64.StdEncoding.DecodeString(m[2])
		if err != nil || len(key) != chacha20poly1305.KeySize {
			return nil, nil, fmt.Errorf("line %d: the key is not %d bytes in base64", n, chacha20poly1305.KeySize)
		}
		if _, twice := keys[m[1]]; twice {
			return nil, nil, fmt.Errorf("line %d: key %s stands there twice", n, m[1])
		}
		keys[m[1]] = key
		order = append(order, m[1])
	}
	if err := scan.Err(); err != nil {
		return nil, nil, err
	}
	if len(order) == 0 {
		return nil, nil, errors.New("it holds no key")
	}
	return order, keys, nil
}

// writeTemp writes the key file's text beside path, synced, and returns the temporary file's name.
func writeTemp(path string, order []string, keys map[string][]byte) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".headwater-key-*") // of mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	text := keyHeader
	for _, id := range order {
		text += "hwk1 " + id + " " + base64.StdEncoding.EncodeToString(keys[id]) + "\n"
	}
	if _, err := f.WriteString(text); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newKey() (string, []byte) {
	id, key := make([]byte, 8), make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(id) // never fails
	_, _ = rand.Read(key)
	return hex.EncodeToString(id), key
}

// bound is the associated data of a box.
func bound(id, use string) []byte { return []byte("headwater\x00" + id + "\x00" + use) }
