//go:build cgo

package dbschema

import (
	"errors"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// cgoEnabled tells whether SQLite is in this program: without cgo, go-sqlite3 is a stub that fails late.
const cgoEnabled = true

// sqliteCode returns SQLite's primary and extended result code of err, or 0, 0.
func sqliteCode(err error) (code, extended int) {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return 0, 0
	}
	return int(e.Code), int(e.ExtendedCode)
}
