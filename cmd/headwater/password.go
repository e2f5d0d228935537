package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// firstPassword reads the generated password of the user admin, or generates it. Blanks around it do not count, so
// that an operator's editor may end the file with a newline. Whatever crashes when: the file is there with a whole password, or
// it is not there; a file without one, as an older Headwater could leave it, is written again.
func firstPassword(file string) (ident.Secret, error) {
	have, err := readPassword(file)
	if err != nil || have != "" {
		return have, err
	}
	temp, err := writePassword(file)
	if err != nil {
		return "", err
	}
	defer os.Remove(temp) //nolint:errcheck // a second name of the file, or what another Top was faster than
	// Two Tops of one database start at once: the first to link decides.
	if err := os.Link(temp, file); errors.Is(err, fs.ErrExist) {
		if have, err = readPassword(file); err != nil || have != "" {
			return have, err
		}
		err = os.Rename(temp, file)
		if err != nil {
			return "", fmt.Errorf("keep the generated password of admin: %w", err)
		}
	} else if err != nil {
		return "", fmt.Errorf("keep the generated password of admin: %w", err)
	}
	if err := syncFolder(filepath.Dir(file)); err != nil {
		return "", fmt.Errorf("keep the generated password of admin: %w", err)
	}
	return readPassword(file)
}

// readPassword returns "" for a file that is not there or holds nothing.
func readPassword(file string) (ident.Secret, error) {
	have, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the generated password of admin: %w", err)
	}
	return ident.Secret(bytes.TrimSpace(have)), nil
}

// writePassword puts a fresh password safely on the disk, beside the file, and returns where.
func writePassword(file string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("keep the generated password of admin: %w", err)
	}
	_, err = f.WriteString(ident.NewHexID())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("keep the generated password of admin: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return f.Name(), nil
}

// syncFolder makes a name that was given in a folder outlast a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
