package emulator

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
)

func TestVolumePassesThroughItsStates(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := s.clients(t, "demo", "demo")
	ctx := t.Context()
	v := must(volumes.Create(ctx, c.volume, volumes.CreateOpts{Size: 1, Name: "v", Metadata: map[string]string{"hw": "hw:1"}}, nil).Extract())(t)
	want := func(status string) {
		t.Helper()
		if got := must(volumes.Get(ctx, c.volume, v.ID).Extract())(t).Status; got != status {
			t.Fatalf("volume is %s, want %s", got, status)
		}
	}
	want("creating")
	s.clock.step(time.Second)
	want("available")
	if err := volumes.ExtendSize(ctx, c.volume, v.ID, volumes.ExtendSizeOpts{NewSize: 3}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	want("extending")
	s.clock.step(time.Second)
	want("available")
	if got := must(volumes.Get(ctx, c.volume, v.ID).Extract())(t).Size; got != 3 {
		t.Errorf("extended volume has %d GB, want 3", got)
	}
	found := must(volumes.ExtractVolumes(must(volumes.List(c.volume, volumes.ListOpts{Metadata: map[string]string{"hw": "hw:1"}}).AllPages(ctx))(t)))(t)
	if len(found) != 1 || found[0].ID != v.ID {
		t.Errorf("metadata filter finds %d volumes, want the one", len(found))
	}
	if err := volumes.Delete(ctx, c.volume, v.ID, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	want("deleting")
	s.clock.step(time.Second)
	_, err := volumes.Get(ctx, c.volume, v.ID).Extract()
	wantCode(t, err, 404)
}

func TestVolumeTimeFilter(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	must(volumes.Create(t.Context(), c.volume, volumes.CreateOpts{Size: 1, Name: "old"}, nil).Extract())(t)
	s.clock.step(10 * time.Minute)
	since := s.clock.Now()
	must(volumes.Create(t.Context(), c.volume, volumes.CreateOpts{Size: 1, Name: "new"}, nil).Extract())(t)
	var out struct{ Volumes []struct{ Name string } }
	if _, err := c.volume.Get(t.Context(), c.volume.ServiceURL("volumes")+"?updated_at=gte:"+since.Format("2006-01-02T15:04:05"), &out, nil); err != nil {
		t.Fatal(err)
	}
	if len(out.Volumes) != 1 || out.Volumes[0].Name != "new" {
		t.Errorf("changed since: %+v, want the new one", out.Volumes)
	}
}

func TestVolumeContentTravels(t *testing.T) {
	t.Parallel()
	s := instant(t)
	c := s.clients(t, "demo", "demo")
	r := s.rack(t, c)
	ctx := t.Context()
	v := must(volumes.Create(ctx, c.volume, volumes.CreateOpts{Size: 1, ImageID: r.image}, nil).Extract())(t)
	snap := must(snapshots.Create(ctx, c.volume, snapshots.CreateOpts{VolumeID: v.ID, Name: "s"}).Extract())(t)
	wantCode(t, volumes.Delete(ctx, c.volume, v.ID, nil).ExtractErr(), 400)
	clone := must(volumes.Create(ctx, c.volume, volumes.CreateOpts{Size: 1, SnapshotID: snap.ID}, nil).Extract())(t)
	backup := must(backups.Create(ctx, c.volume, backups.CreateOpts{VolumeID: clone.ID, Name: "hw:b"}).Extract())(t)
	restored := must(backups.RestoreFromBackup(ctx, c.volume, backup.ID, backups.RestoreOpts{Name: "r"}).Extract())(t)
	up := must(volumes.UploadImage(ctx, c.volume, restored.VolumeID, volumes.UploadImageOpts{ImageName: "from-volume", DiskFormat: "raw", ContainerFormat: "bare"}).Extract())(t)
	body := must(imagedata.Download(ctx, c.image, up.ImageID).Extract())(t)
	if got := must(io.ReadAll(body))(t); !bytes.Equal(got, []byte("bytes of an image")) {
		t.Errorf("after image, volume, snapshot, volume, backup, volume, image the bytes are %q", got)
	}
	srv := must(servers.Create(ctx, c.compute, servers.CreateOpts{Name: "bfv", FlavorRef: r.flavor, Networks: "none", BlockDevice: []servers.BlockDevice{{UUID: clone.ID, SourceType: servers.SourceVolume, DestinationType: servers.DestinationVolume}}}, nil).Extract())(t)
	got := must(servers.Get(ctx, c.compute, srv.ID).Extract())(t)
	if got.Status != "ACTIVE" || len(got.AttachedVolumes) != 1 || got.AttachedVolumes[0].ID != clone.ID || len(got.Image) != 0 {
		t.Errorf("server is %s with %+v and image %v, want ACTIVE on the volume alone", got.Status, got.AttachedVolumes, got.Image)
	}
	census := s.Census()[s.ProjectID("demo")]
	if census["volume"] != 3 || census["snapshot"] != 1 || census["backup"] != 1 || census["server"] != 1 {
		t.Errorf("census is %v", census)
	}
}
