//go:build !cgo

package dbschema

const cgoEnabled = false

func sqliteCode(error) (code, extended int) { return 0, 0 }
