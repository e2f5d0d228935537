package image_test

import (
	"bytes"
	"crypto/sha512"
	"io"
	"testing"

	"github.com/headwater-cloud/headwater/cascade"
	"github.com/headwater-cloud/headwater/cascade/binding"
	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/emulator"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const diskSize = 300_000

// disk is bytes that differ everywhere.
func disk(seed byte) []byte {
	var out []byte
	for block := [64]byte{seed}; len(out) < diskSize; {
		block = sha512.Sum512(block[:])
		out = append(out, block[:]...)
	}
	return out[:diskSize]
}

// twoCopies is an image of p1's with its bytes at both sites, and where it lies first.
func twoCopies(t *testing.T) (s *cascadetest.Stack, r *index.Resource, home, other ident.SiteID) {
	t.Helper()
	s = cascadetest.New(t, []ident.SiteID{"east", "west"})
	who := cascadetest.Member("p1")
	r, err := s.Image.Create(t.Context(), who, "", "disk", image.Private, image.Spec{DiskFormat: "raw", ContainerFormat: "bare"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Image.Upload(t.Context(), who, r.ID, bytes.NewReader(disk(1)), diskSize); err != nil {
		t.Fatal(err)
	}
	for _, site := range []ident.SiteID{"east", "west"} {
		cascadetest.Until(t, "a copy at "+string(site), func() (any, bool) {
			_, err := s.Core.Ensure(t.Context(), site, r.ID)
			return err, err == nil
		})
	}
	if r, err = s.Core.Index.Get(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	var spec image.Spec
	if err := r.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return s, r, spec.Home, map[ident.SiteID]ident.SiteID{"east": "west", "west": "east"}[spec.Home]
}

// exchange puts an image of the given bytes in the place of the one that a site has, behind Top's back.
func exchange(t *testing.T, s *cascadetest.Stack, r *index.Resource, site ident.SiteID, data []byte) {
	t.Helper()
	tenant, err := s.Registry.Tenant(t.Context(), site, "p1")
	if err != nil {
		t.Fatal(err)
	}
	obj, err := tenant.Create(t.Context(), sites.Image, sites.Body{"name": "false", "disk_format": "raw", "container_format": "bare"}, sites.CreateOptions{Marker: ident.NewTopID()})
	if err != nil {
		t.Fatal(err)
	}
	if err := tenant.Upload(t.Context(), obj.ID, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	err = s.Core.Internal(t.Context(), func(tx *cascade.Tx) error {
		return s.Core.Bindings.Adopt(tx.Tx, binding.Binding{TopID: r.ID, Site: site, Kind: sites.Image, ProjectID: "p1", BottomID: obj.ID, Generation: r.Generation})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A download that broke off at one site ended for the client, though another had the same bytes.
func TestDownloadGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	cut := func(t *testing.T, s *cascadetest.Stack, site ident.SiteID, after int64, count int) {
		t.Helper()
		if _, err := s.Clouds[site].Faults().Add(emulator.Fault{Method: "GET", Path: "^/image/v2/images/[^/]*/file$", CutAfter: after, Count: count}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		offset int64
		spoil  func(t *testing.T, s *cascadetest.Stack, r *index.Resource, home, other ident.SiteID)
		whole  bool
	}{
		{"nothing wrong", 0, func(*testing.T, *cascadetest.Stack, *index.Resource, ident.SiteID, ident.SiteID) {}, true},
		{"site breaks off", 0, func(t *testing.T, s *cascadetest.Stack, _ *index.Resource, home, _ ident.SiteID) {
			cut(t, s, home, 100_000, 0)
		}, true},
		{"site dies", 0, func(t *testing.T, s *cascadetest.Stack, _ *index.Resource, home, _ ident.SiteID) {
			cut(t, s, home, 70_000, 1)
			cut(t, s, home, 1, 0)
		}, true},
		{"site breaks off in a range", 1000, func(t *testing.T, s *cascadetest.Stack, _ *index.Resource, home, _ ident.SiteID) {
			cut(t, s, home, 100_000, 0)
		}, true},
		{"one after the other", 0, func(t *testing.T, s *cascadetest.Stack, _ *index.Resource, home, other ident.SiteID) {
			cut(t, s, home, 50_000, 1)
			cut(t, s, other, 50_000, 1)
		}, true},
		{"both always", 0, func(t *testing.T, s *cascadetest.Stack, _ *index.Resource, home, other ident.SiteID) {
			cut(t, s, home, 50_000, 0)
			cut(t, s, other, 50_000, 0)
		}, false},
		{"the other has other bytes", 0, func(t *testing.T, s *cascadetest.Stack, r *index.Resource, home, other ident.SiteID) {
			exchange(t, s, r, other, disk(2))
			cut(t, s, home, 100_000, 0)
		}, false},
		{"the home has other bytes", 0, func(t *testing.T, s *cascadetest.Stack, r *index.Resource, home, _ ident.SiteID) {
			exchange(t, s, r, home, disk(2))
		}, false},
		{"the home has more bytes", 0, func(t *testing.T, s *cascadetest.Stack, r *index.Resource, home, _ ident.SiteID) {
			exchange(t, s, r, home, append(disk(1), 1))
		}, false},
		{"the home has fewer bytes", 0, func(t *testing.T, s *cascadetest.Stack, r *index.Resource, home, _ ident.SiteID) {
			exchange(t, s, r, home, disk(1)[:200_000])
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, r, home, other := twoCopies(t)
			tt.spoil(t, s, r, home, other)
			data, _, err := s.Image.Download(t.Context(), cascadetest.Member("p1"), r.ID, tt.offset)
			if err != nil {
				t.Fatal(err)
			}
			defer data.Close()
			got, err := io.ReadAll(data)
			want := disk(1)[tt.offset:]
			if whole := err == nil; whole != tt.whole {
				t.Errorf("the download ended with %v after %d bytes, want it whole: %v", err, len(got), tt.whole)
			}
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("%d other bytes than were uploaded", len(got))
			}
			if err != nil && len(got) >= len(want) {
				t.Errorf("a download that failed gave all %d bytes", len(got))
			}
		})
	}
}

// An image was deactivated at Top alone: whoever has an account at a site, and the site's own Nova, still used its copy.
func TestDeactivatedAtSites(t *testing.T) {
	t.Parallel()
	s, r, home, other := twoCopies(t)
	who := cascadetest.Member("p1")
	for _, active := range []bool{false, true} {
		want := map[bool]string{true: image.Active, false: image.Deactivated}[active]
		if err := s.Image.SetActive(t.Context(), who, r.ID, active); err != nil {
			t.Fatal(err)
		}
		for _, site := range []ident.SiteID{home, other} {
			tenant, err := s.Registry.Tenant(t.Context(), site, "p1")
			if err != nil {
				t.Fatal(err)
			}
			b, err := s.Core.Bindings.Get(t.Context(), r.ID, site)
			if err != nil {
				t.Fatal(err)
			}
			cascadetest.Until(t, "a copy that is "+want, func() (any, bool) {
				o, err := tenant.Show(t.Context(), sites.Image, b.BottomID)
				return o.Body, err == nil && o.Text("status") == want
			})
		}
		if active {
			continue
		}
		data, _, err := s.Image.Download(t.Context(), cascadetest.Admin(), r.ID, 0)
		if err != nil {
			t.Fatalf("an administrator's download of a deactivated image: %v", err)
		}
		got, err := io.ReadAll(data)
		if err := data.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || !bytes.Equal(got, disk(1)) {
			t.Errorf("an administrator's download of a deactivated image: %d bytes, %v", len(got), err)
		}
	}
}

// The owner of an image could be changed only before its bytes came.
func TestOwnerChangesWithBytes(t *testing.T) {
	t.Parallel()
	s, r, _, _ := twoCopies(t)
	_, err := s.Image.Update(t.Context(), cascadetest.Admin(), r.ID, func(r *index.Resource, _ *image.Spec) error {
		r.ProjectID = "p2"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	next := cascadetest.Member("p2")
	for site := range s.Clouds {
		tenant, err := s.Registry.Tenant(t.Context(), site, "p2")
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Core.Bindings.Get(t.Context(), r.ID, site)
		if err != nil || b.ProjectID != "p2" {
			t.Fatalf("binding = %+v, %v", b, err)
		}
		cascadetest.Until(t, "the copy in the new owner's project", func() (any, bool) {
			o, err := tenant.Show(t.Context(), sites.Image, b.BottomID)
			return err, err == nil && o.Text("status") == image.Active
		})
	}
	if _, err := s.Image.Find(t.Context(), cascadetest.Member("p1"), string(r.ID)); err == nil {
		t.Error("the owner before still sees the image")
	}
	data, _, err := s.Image.Download(t.Context(), next, r.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if got, err := io.ReadAll(data); err != nil || !bytes.Equal(got, disk(1)) {
		t.Errorf("the new owner's download: %d bytes, %v", len(got), err)
	}
}
