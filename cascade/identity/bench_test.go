package identity

import (
	"testing"

	"github.com/headwater-cloud/headwater/dbschema/dbtest"
)

func BenchmarkValidate(b *testing.B) {
	s, err := New(Default(), Options{DB: dbtest.SQLite(b)})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Bootstrap(b.Context(), Bootstrap{AdminPassword: "s3cret"}); err != nil {
		b.Fatal(err)
	}
	i, err := s.Login(b.Context(), password("admin", "s3cret", "admin"))
	if err != nil {
		b.Fatal(err)
	}
	token := i.Secret.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Validate(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "validations/s")
}

func BenchmarkPassword(b *testing.B) {
	h := newHasher(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.hash(b.Context(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}
