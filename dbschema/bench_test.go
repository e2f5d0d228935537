package dbschema_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
)

func benchEach(b *testing.B, f func(b *testing.B, db *dbschema.DB)) {
	b.Run("db=sqlite", func(b *testing.B) { f(b, dbtest.SQLite(b)) })
	b.Run("db=postgres", func(b *testing.B) { f(b, dbtest.Postgres(b)) })
}

// BenchmarkPointRead reads one row of 10,000 by its primary key.
func BenchmarkPointRead(b *testing.B) {
	benchEach(b, func(b *testing.B, db *dbschema.DB) {
		rows := make([]dbschema.ProjectHome, 10_000)
		for i := range rows {
			rows[i] = dbschema.ProjectHome{ProjectID: strconv.Itoa(i), Site: "east"}
		}
		err := db.Write(b.Context(), func(tx dbschema.Tx) error { return tx.Gorm().CreateInBatches(&rows, 500).Error })
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 7919) % len(rows)
			var got dbschema.ProjectHome
			if err := db.Read(b.Context()).Where("project_id = ?", rows[i].ProjectID).Take(&got).Error; err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkWrite commits one insert in each transaction, from one and from many goroutines.
func BenchmarkWrite(b *testing.B) {
	benchEach(b, func(b *testing.B, db *dbschema.DB) {
		for _, writers := range []int{1, 64} {
			b.Run("writers="+strconv.Itoa(writers), func(b *testing.B) {
				var n atomic.Int64
				b.SetParallelism(writers)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						row := dbschema.ProjectHome{ProjectID: strconv.Itoa(writers) + "-" + strconv.FormatInt(n.Add(1), 10) + "-" + strconv.Itoa(b.N), Site: "east"}
						if err := db.Write(b.Context(), func(tx dbschema.Tx) error { return tx.Gorm().Create(&row).Error }); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	})
}
