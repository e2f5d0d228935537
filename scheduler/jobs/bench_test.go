package jobs_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/dbschema"
	"github.com/headwater-cloud/headwater/dbschema/dbtest"
	"github.com/headwater-cloud/headwater/scheduler/jobs"
	"github.com/headwater-cloud/headwater/scheduler/jobs/jobtest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

func benchEach(b *testing.B, f func(b *testing.B, db *dbschema.DB)) {
	b.Run("db=sqlite", func(b *testing.B) { f(b, dbtest.SQLite(b)) })
	b.Run("db=postgres", func(b *testing.B) { f(b, dbtest.Postgres(b)) })
}

// BenchmarkInsert inserts one job in each transaction, each behind the previous one of its resource.
func BenchmarkInsert(b *testing.B) {
	benchEach(b, func(b *testing.B, db *dbschema.DB) {
		var n atomic.Int64
		b.SetParallelism(32)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				o := jobs.Options{Site: "east", ResourceID: fmt.Sprint(n.Add(1) % 1000)}
				err := db.Write(b.Context(), func(tx dbschema.Tx) error {
					_, err := jobs.Insert(b.Context(), tx, task{"x"}, o)
					return err
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "inserts/s")
	})
}

// fill inserts count available jobs over 20 sites in few transactions.
func fill(b *testing.B, db *dbschema.DB, count int) {
	b.Helper()
	for done := 0; done < count; {
		batch := min(5000, count-done)
		err := db.Write(b.Context(), func(tx dbschema.Tx) error {
			for i := range batch {
				if _, err := jobs.Insert(b.Context(), tx, task{"x"}, jobs.Options{Site: ident.SiteID(fmt.Sprintf("s%02d", i%20))}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		done += batch
	}
}

// BenchmarkWork claims, works and completes jobs one by one while others are pending.
func BenchmarkWork(b *testing.B) {
	for _, pending := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("pending=%d", pending), func(b *testing.B) {
			benchEach(b, func(b *testing.B, db *dbschema.DB) {
				fill(b, db, pending)
				e := jobtest.New(b, db)
				jobtest.Add(b, e, func(context.Context, jobs.Job[task]) error { return nil })
				for b.Loop() {
					if !jobtest.Step(b, e) {
						b.StopTimer()
						fill(b, db, pending)
						b.StartTimer()
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			})
		})
	}
}

// BenchmarkClaim claims jobs in batches of 32 while 100,000 are pending.
func BenchmarkClaim(b *testing.B) {
	benchEach(b, func(b *testing.B, db *dbschema.DB) {
		const pending = 100_000
		fill(b, db, pending)
		cfg := jobs.Default()
		cfg.Queues = map[string]jobs.QueueConfig{jobs.DefaultQueue: {Workers: 32, PerSite: 1 << 30}}
		e, err := jobs.New(db, cfg, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		jobtest.Add(b, e, func(context.Context, jobs.Job[task]) error { return nil })
		claims := 0
		for b.Loop() {
			held, err := jobs.Hold(e, b.Context(), jobs.DefaultQueue, 32)
			if err != nil {
				b.Fatal(err)
			}
			if claims += len(held); len(held) == 0 {
				b.StopTimer()
				fill(b, db, pending)
				b.StartTimer()
			}
		}
		b.ReportMetric(float64(claims)/b.Elapsed().Seconds(), "claims/s")
	})
}

// BenchmarkEngine runs jobs through a running engine.
func BenchmarkEngine(b *testing.B) {
	benchEach(b, func(b *testing.B, db *dbschema.DB) {
		ended := make(chan struct{}, 10_000)
		cfg := jobs.Default()
		cfg.Queues = map[string]jobs.QueueConfig{jobs.DefaultQueue: {Workers: 32, PerSite: 32}}
		e, err := jobs.New(db, cfg, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		jobtest.Add(b, e, func(context.Context, jobs.Job[task]) error {
			ended <- struct{}{}
			return nil
		})
		ctx, cancel := context.WithCancel(b.Context())
		var run errgroup.Group
		fill(b, db, b.N)
		b.ResetTimer()
		run.Go(func() error { return e.Run(ctx) })
		for range b.N {
			<-ended
		}
		b.StopTimer()
		cancel()
		if err := run.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}
