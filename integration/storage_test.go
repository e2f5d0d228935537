package integration

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
)

// Images and volumes with the unmodified client over two unmodified regions:
// bytes that a region gets when something there first needs them, shares between projects, uploads that break off.
func TestTenantsStorage(t *testing.T) {
	cloud := realcloud.Need(t, "east", "west")
	realcloud.NeedClient(t)
	before := map[string]realcloud.Snapshot{}
	for _, region := range []string{"east", "west"} {
		snap, err := cloud.Snapshot(t.Context(), region)
		if err != nil {
			t.Fatal(err)
		}
		before[region] = snap
	}
	top := topproc.Start(t, topproc.Config{CallTimeout: 60 * time.Second, SettleTime: 120 * time.Second, Lease: 90 * time.Second, InventoryEvery: 2 * time.Second, DiffEvery: time.Minute})
	top.NewTenant(t, "acme", "alice", "member")
	bob := top.NewTenant(t, "bobs", "bob", "member")
	d := &day{t: t, cloud: cloud, clouds: top.Clouds(t, []string{"east", "west"}, map[string]string{"alice": "acme", "bob": "bobs"})}
	d.addSites()
	for _, step := range []struct {
		name string
		run  func(*testing.T, *day)
	}{
		{"an upload breaks off", func(t *testing.T, _ *day) { uploadBreaks(t, top.SignIn(t, "alice", "acme")) }},
		{"an image goes to the region that needs it", imageTravels},
		{"an image is shared with a project", func(t *testing.T, d *day) { imageShared(t, d, bob.ProjectID) }},
		{"a server boots from a volume", bootFromVolume},
		{"a volume changes", volumeChanges},
		{"everything deleted", func(_ *testing.T, d *day) {
			d.do("volume", "delete", "st-west", "st-east")
			d.as("bob", "volume", "delete", "st-bob").OK(d.t)
			d.do("image", "delete", "st-img")
		}},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			sub := *d
			sub.t = t
			step.run(t, &sub)
		})
		if !ok {
			t.Logf("Top's log ends:\n%s", lastLines(top.Log(), 40))
			break
		}
	}
	for _, name := range []string{"st-west", "st-east", "st-bob"} {
		d.empty("volume", "list", "--all-projects", "--name", name, "-f", "value")
	}
	for _, one := range [][2]string{{"alice", "acme"}, {"bob", "bobs"}} {
		d.as("admin", "user", "delete", one[0]).OK(t)
		d.as("admin", "project", "delete", one[1]).OK(t)
	}
	cloud.NothingLeft(t, before, 2*time.Minute)
}

// empty waits until a list of the administrator's shows nothing.
func (d *day) empty(args ...string) {
	d.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := strings.TrimSpace(d.as("admin", args...).OK(d.t))
		if got == "" {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("openstack %s still shows:\n%s", strings.Join(args, " "), got)
		}
	}
}

// checksums are an image's as each region's own administrator sees them.
func (d *day) checksums(id string) map[string]string {
	d.t.Helper()
	out := map[string]string{}
	for _, region := range []string{"east", "west"} {
		out[region] = realcloud.OpenStack(d.t, d.cloud.Admin(region), "image", "show", id, "-f", "value", "-c", "checksum").OK(d.t)
	}
	return out
}

func imageTravels(t *testing.T, d *day) {
	file := filepath.Join(t.TempDir(), "up.img")
	data := make([]byte, 2<<20)
	_, _ = rand.Read(data)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d.do("--os-region-name", "east", "image", "create", "--disk-format", "raw", "--container-format", "bare", "--property", "hw_disk_bus=virtio", "--tag", "st", "--file", file, "st-img")
	id := d.field("id", "image", "show", "st-img")
	if got := d.do("image", "show", "st-img", "-f", "json"); !strings.Contains(got, `"headwater:sites": "east"`) {
		t.Errorf("image show says %s, want the bytes at east", got)
	}
	d.do("volume", "create", "--image", "st-img", "--size", "1", "--availability-zone", "west", "st-west")
	d.reads("available", "status", "volume", "show", "st-west")
	if got := d.do("image", "show", "st-img", "-f", "json"); !strings.Contains(got, `"headwater:sites": "east,west"`) {
		t.Errorf("image show says %s, want the bytes at both", got)
	}
	want := d.field("checksum", "image", "show", "st-img")
	if sums := d.checksums(id); sums["east"] != want || sums["west"] != want {
		t.Errorf("checksums at the regions %v, want %s at both", sums, want)
	}
	if got := d.do("volume", "show", "st-west", "-f", "json"); !strings.Contains(got, id) || !strings.Contains(got, `"bootable": "true"`) || strings.Contains(got, "hw_marker") {
		t.Errorf("volume of an image: %s", got)
	}
}

func imageShared(t *testing.T, d *day, project string) {
	d.as("bob", "image", "show", "st-img").Fails(t)
	id := d.field("id", "image", "show", "st-img")
	d.do("image", "add", "project", "st-img", project)
	d.as("bob", "image", "set", "--accept", id).OK(t)
	if got := d.as("bob", "image", "list", "-f", "value", "-c", "Name").OK(t); !strings.Contains(got, "st-img") {
		t.Errorf("the member's list: %s", got)
	}
	d.as("bob", "volume", "create", "--image", id, "--size", "1", "--availability-zone", "east", "st-bob").OK(t)
	other := *d
	deadline := time.Now().Add(2 * time.Minute)
	for {
		got := other.as("bob", "volume", "show", "st-bob", "-f", "value", "-c", "status").OK(t)
		if got == "available" {
			break
		}
		if got == "error" || time.Now().After(deadline) {
			t.Fatalf("the member's volume of a shared image is %s: %s", got, d.as("bob", "--os-volume-api-version", "3.70", "volume", "message", "list").Stdout)
		}
	}
	d.as("admin", "image", "remove", "project", id, project).OK(t) // the client looks the project up, which a member may not
	d.as("bob", "image", "show", id).Fails(t)
}

func bootFromVolume(t *testing.T, d *day) {
	d.do("--os-compute-api-version", "2.37", "server", "create", "--flavor", "m1.tiny", "--volume", "st-west", "--nic", "none", "--wait", "st-server")
	if got := d.field("status", "server", "show", "st-server"); got != "ACTIVE" {
		t.Fatalf("server from a volume is %s", got)
	}
	d.reads("in-use", "status", "volume", "show", "st-west")
	said := d.as("alice", "volume", "delete", "st-west").Fails(t)
	if !strings.Contains(said, "400") {
		t.Errorf("delete of a volume in use: %s, want 400", said)
	}
	if _, status := d.at("west", "st-server"); status != "ACTIVE" {
		t.Errorf("server is %s in west itself", status)
	}
	savedFromVolume(t, d)
	d.do("server", "delete", "--wait", "st-server")
	d.reads("available", "status", "volume", "show", "st-west")
}

// savedFromVolume saves a server that boots from a volume as an image, and boots another one of that: the site made a snapshot, which is
// Top's under the id that it has there.
func savedFromVolume(t *testing.T, d *day) {
	d.do("server", "image", "create", "--name", "st-golden", "--property", "role=db", "--wait", "st-server")
	snap := d.do("volume", "snapshot", "list", "--name", "snapshot for st-golden", "-f", "value", "-c", "ID")
	if got := d.do("image", "show", "st-golden", "-f", "json"); snap == "" || !strings.Contains(got, snap) || !strings.Contains(got, `"size": 0`) || strings.Contains(got, "hw_marker") {
		t.Errorf("image of a server that boots from a volume: %s, want one of no bytes with snapshot %q", got, snap)
	}
	there := realcloud.OpenStack(t, d.cloud.Admin("west"), "volume", "snapshot", "show", snap, "-f", "value", "-c", "status").OK(t)
	if there != "available" {
		t.Errorf("snapshot %s is %q in west itself", snap, there)
	}
	d.do("--os-compute-api-version", "2.37", "server", "create", "--flavor", "m1.tiny", "--image", "st-golden", "--nic", "none", "--wait", "st-two")
	id, status := d.at("west", "st-two")
	if status != "ACTIVE" || id == "" {
		t.Errorf("the server of the image is %s in west itself", status)
	}
	volume := d.do("server", "volume", "list", "st-two", "-f", "value", "-c", "Volume ID")
	d.do("server", "delete", "--wait", "st-two")
	d.do("image", "delete", "st-golden")
	d.reads("available", "status", "volume", "show", volume)
	d.do("volume", "delete", volume)
	d.gone("volume", volume)
	d.do("volume", "snapshot", "delete", snap)
	d.empty("volume", "snapshot", "list", "--all-projects", "--name", "snapshot for st-golden", "-f", "value")
}

// gone waits until something is not found.
func (d *day) gone(kind, id string) {
	d.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for d.as("alice", kind, "show", id).Status == 0 {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s %s is still there", kind, id)
		}
	}
}

func volumeChanges(t *testing.T, d *day) {
	d.do("volume", "create", "--size", "1", "--property", "a=b", "--availability-zone", "east", "st-east")
	d.reads("available", "status", "volume", "show", "st-east")
	d.do("volume", "set", "--property", "c=d", "--description", "words", "--bootable", "--size", "2", "st-east")
	d.reads("2", "size", "volume", "show", "st-east")
	d.reads("available", "status", "volume", "show", "st-east")
	d.do("volume", "unset", "--property", "a", "st-east")
	if got := d.do("volume", "show", "st-east", "-f", "json"); !strings.Contains(got, `"c": "d"`) || strings.Contains(got, `"a": "b"`) || !strings.Contains(got, "words") {
		t.Errorf("volume after set and unset: %s", got)
	}
	d.do("volume", "snapshot", "create", "--volume", "st-east", "st-snap")
	d.reads("available", "status", "volume", "snapshot", "show", "st-snap")
	d.as("alice", "volume", "delete", "st-east").Fails(t)
	d.do("volume", "snapshot", "delete", "st-snap")
	d.empty("volume", "snapshot", "list", "--all-projects", "--name", "st-snap", "-f", "value")
}

// uploadBreaks sends half of an image with and without a length, and then all of it.
func uploadBreaks(t *testing.T, c *topproc.Client) {
	var made struct{ ID string }
	c.Must(t, "POST", "/image/v2/images", topproc.Object{"name": "st-broken", "disk_format": "raw", "container_format": "bare"}, &made)
	path := "/image/v2/images/" + made.ID
	for _, length := range []int64{-1, 2 << 20} {
		in, out := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.URL+path+"/file", in)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("X-Auth-Token", c.Token)
		var g errgroup.Group
		g.Go(func() error {
			resp, err := c.HTTP.Do(req)
			if err == nil {
				return errors.Join(fmt.Errorf("half of an image was answered with %d", resp.StatusCode), resp.Body.Close())
			}
			return nil
		})
		if _, err := io.CopyN(out, rand.Reader, 1<<20); err != nil {
			t.Fatal(err)
		}
		becomes(t, c, path, "saving")
		_ = out.CloseWithError(errors.New("the client went away"))
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		becomes(t, c, path, "queued")
	}
	whole := make([]byte, 1<<20)
	_, _ = rand.Read(whole)
	c.Must(t, "PUT", path+"/file", whole, nil)
	if got := c.Must(t, "GET", path+"/file", nil, nil); got.Text != string(whole) {
		t.Errorf("the image came back with other bytes (%d)", len(got.Text))
	}
	c.Must(t, "DELETE", path, nil, nil)
}

// becomes waits until an image has a status.
func becomes(t *testing.T, c *topproc.Client, path, want string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		var one struct{ Status string }
		if c.Must(t, "GET", path, nil, &one); one.Status == want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the image is %s, want %s", one.Status, want)
		}
	}
}
