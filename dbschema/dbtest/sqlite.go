package dbtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/headwater-cloud/headwater/dbschema"
)

// migrateSQLite returns the bytes of a migrated, empty SQLite file: copying them
// is faster than to migrate for every test.
func migrateSQLite() ([]byte, error) {
	dir, err := os.MkdirTemp("", "headwater-dbtest-")
	if err != nil {
		return nil, err
	}
	cfg := dbschema.Default()
	cfg.DSN = filepath.Join(dir, "template.db")
	db, err := dbschema.Open(context.Background(), cfg, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// Closing the last connection folds the write-ahead log into the file.
	if err := db.Close(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	data, err := os.ReadFile(cfg.DSN)
	return data, errors.Join(err, os.RemoveAll(dir))
}
