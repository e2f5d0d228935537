package compute_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// seed records servers that are ACTIVE as far as Top knows; no site has them.
func seed(t testing.TB, s *cascadetest.Stack, who sites.Caller, n int) []ident.TopID {
	t.Helper()
	flavor := s.Flavor(t)
	ids := make([]ident.TopID, n)
	for i := range ids {
		r := index.New(sites.Server, who, fmt.Sprintf("s-%d", i))
		ids[i] = r.ID
		r.Site, r.State, r.Status, r.FlavorID, r.CreatedAt = "east", index.Live, "ACTIVE", flavor.ID, time.Now().Add(-time.Hour)
		r.Observed = sites.Body{
			"OS-EXT-STS:vm_state": "active", "OS-EXT-STS:power_state": json.Number("1"), "hostId": "7096ecb9515ae647228f7dc07a2058de81dc2bfeb16551f8ce9aef50",
			"OS-EXT-AZ:availability_zone": "east/az1", "config_drive": "", "progress": json.Number("0"), "OS-EXT-SRV-ATTR:hostname": "web",
		}
		if err := r.Encode(compute.ServerSpec{Size: flavor.Spec.Size, FlavorName: flavor.Name, Metadata: map[string]string{"a": "b"}, DiskConfig: "MANUAL"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Core.Internal(t.Context(), func(tx *cascade.Tx) error { return s.Core.Index.Insert(tx.Tx, r) }); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// BenchmarkShow is GET /servers/ID with token, authorization and rendering, without the network.
func BenchmarkShow(b *testing.B) {
	s := cascadetest.New(b, []ident.SiteID{"east"})
	a := newAPI(b, s)
	who := cascadetest.Member("p1")
	one := s.Boot(b, who, "web", s.NewImage(b, who, "img"), s.NewNetwork(b, who, "net", "10.1.0.0/24"))
	seed(b, s, who, 1000)
	path := "/v2.1/servers/" + string(one.ID)
	b.ReportAllocs()
	for b.Loop() {
		if got := a.ask("member:p1", "2.93", "GET", path, nil); got.code != 200 {
			b.Fatalf("%d %s", got.code, got.raw)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "GET/s")
}

// BenchmarkDetail is a page of 1000 servers with all members.
func BenchmarkDetail(b *testing.B) {
	s := cascadetest.New(b, []ident.SiteID{"east"}, cascadetest.Idle())
	a := newAPI(b, s)
	seed(b, s, cascadetest.Member("p1"), 1000)
	b.ReportAllocs()
	for b.Loop() {
		if got := a.ask("member:p1", "2.93", "GET", "/v2.1/servers/detail", nil); len(got.body["servers"].([]any)) != 1000 {
			b.Fatalf("%d %.200s", got.code, got.raw)
		}
	}
}

// BenchmarkCreate is POST /servers as accepted: placement, quota, address, rows and job, from many clients at once.
func BenchmarkCreate(b *testing.B) {
	s := cascadetest.New(b, []ident.SiteID{"east", "west"}, cascadetest.Idle())
	a := newAPI(b, s)
	who := cascadetest.Member("p1")
	img, net, flavor := s.NewImage(b, who, "img"), s.NewNetwork(b, who, "net", "10.0.0.0/8"), s.Flavor(b)
	limits := map[string]int64{"instances": -1, "cores": -1, "ram": -1, "port": -1}
	if err := s.Compute.SetQuota(b.Context(), cascadetest.Admin(), "p1", limits, true); err != nil {
		b.Fatal(err)
	}
	body := fmt.Sprintf(`{"server":{"name":"web","imageRef":%q,"flavorRef":%q,"networks":[{"uuid":%q}]}}`, img.ID, flavor.ID, net.ID)
	b.ReportAllocs()
	b.SetParallelism(50)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := a.ask("member:p1", "2.93", "POST", "/v2.1/servers", body); got.code != 202 {
				b.Errorf("%d %s", got.code, got.raw)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "POST/s")
}
