package dbschema_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
)

func TestConcurrentReadModifyWrites(t *testing.T) {
	t.Parallel()
	dbtest.Each(t, func(t *testing.T, db *dbschema.DB) {
		const writers = 1000
		if err := db.Write(t.Context(), func(tx dbschema.Tx) error {
			return tx.Gorm().Create(&dbschema.Job{ID: 1, Kind: "count"}).Error
		}); err != nil {
			t.Fatal(err)
		}
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				errs[i] = db.Write(t.Context(), func(tx dbschema.Tx) error {
					var j dbschema.Job
					if err := tx.Gorm().First(&j, 1).Error; err != nil {
						return err
					}
					return tx.Gorm().Model(&j).Update("attempt", j.Attempt+1).Error
				})
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		var j dbschema.Job
		if err := db.Read(t.Context()).First(&j, 1).Error; err != nil {
			t.Fatal(err)
		}
		if j.Attempt != writers {
			t.Errorf("%d read-modify-writes left a count of %d", writers, j.Attempt)
		}
	})
}
