package emulator

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imageimport"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
)

func TestImageBytesAreKept(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	ctx, id := t.Context(), newID()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	i := must(images.Create(ctx, c.image, images.CreateOpts{ID: id, Name: "i", DiskFormat: "raw", ContainerFormat: "bare", Properties: map[string]string{"hw_marker": "hw:1"}}).Extract())(t)
	if i.ID != id || i.Status != images.ImageStatusQueued {
		t.Fatalf("image is %s %s, want %s queued", i.ID, i.Status, id)
	}
	_, err := images.Create(ctx, c.image, images.CreateOpts{ID: id, Name: "again"}).Extract()
	wantCode(t, err, 409)
	if err := imagedata.Upload(ctx, c.image, id, bytes.NewReader(data)).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, imagedata.Upload(ctx, c.image, id, bytes.NewReader(data)).ExtractErr(), 409)
	i = must(images.Get(ctx, c.image, id).Extract())(t)
	sum := md5.Sum(data)
	if i.Status != images.ImageStatusActive || i.SizeBytes != int64(len(data)) || i.Checksum != hex.EncodeToString(sum[:]) {
		t.Errorf("image is %s, %d bytes, %s", i.Status, i.SizeBytes, i.Checksum)
	}
	body := must(imagedata.Download(ctx, c.image, id).Extract())(t)
	got := must(io.ReadAll(body))(t)
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, other than the %d sent", len(got), len(data))
	}
	i = must(images.Update(ctx, c.image, id, images.UpdateOpts{images.ReplaceImageName{NewName: "j"}, images.UpdateImageProperty{Op: images.AddOp, Name: "foo", Value: "bar"}}).Extract())(t)
	if i.Name != "j" || i.Properties["foo"] != "bar" {
		t.Errorf("updated to %s, %v", i.Name, i.Properties)
	}
	if err := images.Delete(ctx, c.image, id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	_, err = images.Create(ctx, c.image, images.CreateOpts{ID: id, Name: "after delete"}).Extract()
	wantCode(t, err, 409)
	if n := s.Census()[s.ProjectID("demo")]["image"]; n != 0 {
		t.Errorf("%d images left, want 0", n)
	}
}

func TestImageImportAndSharing(t *testing.T) {
	t.Parallel()
	s := instant(t)
	demo, admin := s.clients(t, "demo", "demo"), s.clients(t, "admin", "admin")
	ctx := t.Context()
	i := must(images.Create(ctx, demo.image, images.CreateOpts{Name: "i", DiskFormat: "qcow2", ContainerFormat: "bare"}).Extract())(t)
	if err := imagedata.Stage(ctx, demo.image, i.ID, bytes.NewReader([]byte("staged"))).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := imageimport.Create(ctx, demo.image, i.ID, imageimport.CreateOpts{Name: imageimport.GlanceDirectMethod}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got := must(images.Get(ctx, demo.image, i.ID).Extract())(t); got.Status != images.ImageStatusActive || got.SizeBytes != 6 {
		t.Errorf("imported image is %s with %d bytes, want active with 6", got.Status, got.SizeBytes)
	}
	must(members.Create(ctx, demo.image, i.ID, s.ProjectID("admin")).Extract())(t)
	must(members.Update(ctx, admin.image, i.ID, s.ProjectID("admin"), members.UpdateOpts{Status: "accepted"}).Extract())(t)
	_, err := images.Create(ctx, demo.image, images.CreateOpts{Name: "p", Visibility: ptr(images.ImageVisibilityPublic)}).Extract()
	wantCode(t, err, 403)
}

func ptr[T any](v T) *T { return &v }

func TestImageMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *Config) { *cfg = cfg.Instant(); cfg.Capacity.ImageBytes = 1000 })
	c := s.clients(t, "demo", "demo")
	up := func(size int) (string, error) {
		i := must(images.Create(t.Context(), c.image, images.CreateOpts{Name: "i", DiskFormat: "raw", ContainerFormat: "bare"}).Extract())(t)
		return i.ID, imagedata.Upload(t.Context(), c.image, i.ID, bytes.NewReader(make([]byte, size))).ExtractErr()
	}
	first, err := up(600)
	if err != nil {
		t.Fatal(err)
	}
	id, err := up(600)
	wantCode(t, err, 413)
	if got := must(images.Get(t.Context(), c.image, id).Extract())(t); got.Status != images.ImageStatusQueued {
		t.Errorf("image refused for its size is %s, want queued, to be tried again", got.Status)
	}
	if err := images.Delete(t.Context(), c.image, first).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := imagedata.Upload(t.Context(), c.image, id, bytes.NewReader(make([]byte, 600))).ExtractErr(); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
}
