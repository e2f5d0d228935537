package integration

import (
	"crypto/md5" //nolint:gosec // Glance's checksum is MD5
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/integration/realcloud"
	"github.com/headwater-cloud/headwater/integration/topproc"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// day is a tenant with the real openstack client at a Top over two real regions.
type day struct {
	t      *testing.T
	cloud  *realcloud.Cloud
	clouds string // Top's clouds.yaml
	prefix string // of this run's names, in place of "hw-": what another run left behind is not taken for this one's
}

// as runs the client as a user of Top's clouds.yaml.
func (d *day) as(user string, args ...string) realcloud.Result {
	d.t.Helper()
	own := make([]string, len(args))
	for i, a := range args {
		own[i] = d.own(a)
	}
	return realcloud.OpenStack(d.t, []string{"OS_CLIENT_CONFIG_FILE=" + d.clouds, "OS_CLOUD=" + user}, own...)
}

// own gives a name its run's prefix.
func (d *day) own(name string) string {
	if d.prefix == "" {
		return name
	}
	return strings.ReplaceAll(name, "hw-", d.prefix)
}

// do runs the client as the tenant and wants it to succeed.
func (d *day) do(args ...string) string {
	d.t.Helper()
	return d.as("alice", args...).OK(d.t)
}

// field runs a command as the tenant and returns one column.
func (d *day) field(column string, args ...string) string {
	d.t.Helper()
	return d.do(append(args, "-f", "value", "-c", column)...)
}

// reads waits until a column of a command has a value; an error status ends the wait.
func (d *day) reads(want, column string, args ...string) {
	d.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		got := d.field(column, args...)
		if got == want {
			return
		}
		if strings.Contains(strings.ToLower(got), "error") || time.Now().After(deadline) {
			d.t.Fatalf("openstack %s: %s is %q, want %q", strings.Join(args, " "), column, got, want)
		}
	}
}

// at returns the server of a name in a region itself, as its administrator sees it.
func (d *day) at(region, name string) (id, status string) {
	d.t.Helper()
	name = d.own(name)
	var list []struct{ ID, Name, Status string }
	realcloud.OpenStack(d.t, d.cloud.Admin(region), "server", "list", "--all-projects", "--name", "^"+name+"$", "-f", "json").JSON(d.t, &list)
	if len(list) != 1 {
		d.t.Fatalf("region %s has %d servers named %s, want 1", region, len(list), name)
	}
	return list[0].ID, list[0].Status
}

// A tenant's day with the unmodified client, over two unmodified regions: from
// the sites added by command to nothing left behind in either.
func TestTenantsDay(t *testing.T) {
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
	d := &day{t: t, cloud: cloud, clouds: top.Clouds(t, []string{"east", "west"}, map[string]string{"alice": "acme"}), prefix: "hw" + ident.NewHexID()[:6] + "-"}
	d.addSites()
	for _, step := range []struct {
		name string
		run  func(*testing.T, *day)
	}{
		{"an image uploaded once is the same everywhere", imageOnce},
		{"a server where the zone, the region or nobody says", bootThree},
		{"verbs that wait never return on a stale status", waits},
		{"a volume", volumes},
		{"a router, a floating IP, a security group", reachable},
		{"a bottom id serves wherever a top id does", bottomIDs},
		{"the operator's lists", operators},
		{"everything deleted", deleteAll},
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
	d.as("admin", "user", "delete", "alice").OK(t)
	d.as("admin", "project", "delete", "acme").OK(t)
	cloud.NothingLeft(t, before, 2*time.Minute)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// addSites registers both regions as an operator does.
func (d *day) addSites() {
	d.t.Helper()
	both, err := os.ReadFile(d.clouds)
	if err != nil {
		d.t.Fatal(err)
	}
	sites, err := os.ReadFile(d.cloud.CloudsFile)
	if err != nil {
		d.t.Fatal(err)
	}
	file := filepath.Join(d.t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, append(both, strings.TrimPrefix(string(sites), "clouds:")...), 0o600); err != nil {
		d.t.Fatal(err)
	}
	env := []string{"OS_CLIENT_CONFIG_FILE=" + file}
	for _, name := range []string{"east", "west"} {
		if said := topproc.Headwater(d.t, env, "site", "add", name, "--os-cloud", name, "--dry-run", "--cloud", "admin"); !strings.Contains(said, "az1") {
			d.t.Errorf("the dry run does not tell the site's zones:\n%s", said)
		}
		topproc.Headwater(d.t, env, "site", "add", name, "--os-cloud", name, "--cloud", "admin")
	}
	list := topproc.Headwater(d.t, env, "site", "list", "-f", "json", "--cloud", "admin")
	if !strings.Contains(list, `"east"`) || !strings.Contains(list, `"west"`) {
		d.t.Errorf("headwater site list: %s", list)
	}
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(d.do("flavor", "list", "-f", "value", "-c", "Name"), "m1.small") { // taken over by the first poll
		if time.Now().After(deadline) {
			d.t.Fatal("the sites' flavors did not appear at Top")
		}
	}
}

func imageOnce(t *testing.T, d *day) {
	bytes := make([]byte, 3<<20)
	_, _ = rand.Read(bytes)
	dir := t.TempDir()
	up, down := filepath.Join(dir, "up.img"), filepath.Join(dir, "down.img")
	if err := os.WriteFile(up, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	d.do("image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", up, "hw-img")
	sum := md5.Sum(bytes) //nolint:gosec // as above
	if got := d.field("checksum", "image", "show", "hw-img"); got != hex.EncodeToString(sum[:]) {
		t.Errorf("checksum %s, want %x", got, sum)
	}
	d.do("image", "save", "--file", down, "hw-img")
	if got, err := os.ReadFile(down); err != nil || string(got) != string(bytes) {
		t.Errorf("the image came back with other bytes (%d, %v)", len(got), err)
	}
	// The sites' own public image is one image at Top.
	if got := strings.Count(d.do("image", "list", "-f", "value", "-c", "Name"), "tiny"); got != 1 {
		t.Errorf("the image tiny, public at both sites, is listed %d times", got)
	}
}

func bootThree(t *testing.T, d *day) {
	d.do("keypair", "create", "hw-key")
	d.do("security", "group", "create", "hw-sg")
	d.do("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", "hw-sg")
	for _, n := range []struct{ net, cidr string }{{"hw-east", "10.61.0.0/24"}, {"hw-west", "10.62.0.0/24"}, {"hw-any", "10.63.0.0/24"}} {
		d.do("network", "create", n.net)
		d.do("subnet", "create", "--network", n.net, "--subnet-range", n.cidr, n.net)
	}
	boot := func(region, name, net string, more ...string) {
		args := append([]string{"--os-region-name", region, "server", "create", "--flavor", "m1.tiny", "--image", "hw-img", "--network", net, "--key-name", "hw-key",
			"--security-group", "hw-sg", "--property", "who=me", "--wait", name}, more...)
		if got := d.field("status", args...); got != "ACTIVE" {
			t.Fatalf("server %s is %s after --wait, want ACTIVE", name, got)
		}
	}
	boot("Global", "hw-s-east", "hw-east", "--availability-zone", "east/az1")
	boot("west", "hw-s-west", "hw-west")
	boot("Global", "hw-s-any", "hw-any")
	if got := d.field("OS-EXT-AZ:availability_zone", "server", "show", "hw-s-east"); got != "east/az1" {
		t.Errorf("availability zone %q, want east/az1 exactly as it was given", got)
	}
	for region, name := range map[string]string{"east": "hw-s-east", "west": "hw-s-west"} {
		if _, status := d.at(region, name); status != "ACTIVE" {
			t.Errorf("server %s is %s in region %s itself", name, status, region)
		}
	}
	d.do("--os-region-name", "east", "server", "show", "hw-s-east")
	d.as("alice", "--os-region-name", "east", "server", "show", "hw-s-west").Fails(t)
	said := d.as("alice", "server", "create", "--flavor", "m1.tiny", "--image", "hw-img", "--network", "hw-east", "--availability-zone", "west", "hw-no").Fails(t)
	if !strings.Contains(said, "409") || !strings.Contains(said, "east") || !strings.Contains(said, "west") {
		t.Errorf("a server of west on a network of east: %s, want a 409 that names both sites", said)
	}
	if got := d.do("console", "log", "show", "hw-s-east"); !strings.Contains(got, "FAKE CONSOLE OUTPUT") {
		t.Errorf("console log: %q", got)
	}
	d.do("console", "url", "show", "hw-s-east")
}

func waits(t *testing.T, d *day) {
	d.do("server", "reboot", "--wait", "hw-s-any")
	d.reads("ACTIVE", "status", "server", "show", "hw-s-any")
	d.do("server", "rebuild", "--image", "tiny", "--wait", "hw-s-any")
	if got := d.field("image", "server", "show", "hw-s-any"); !strings.HasPrefix(got, "tiny") || d.field("status", "server", "show", "hw-s-any") != "ACTIVE" {
		t.Errorf("after rebuild --wait the server's image is %q", got)
	}
	d.do("server", "resize", "--flavor", "m1.small", "--wait", "hw-s-any")
	if got := d.field("status", "server", "show", "hw-s-any"); got != "VERIFY_RESIZE" {
		t.Errorf("after resize --wait the server is %s, want VERIFY_RESIZE", got)
	}
	d.do("server", "resize", "confirm", "hw-s-any")
	d.reads("ACTIVE", "status", "server", "show", "hw-s-any")
	if got := d.field("flavor", "server", "show", "hw-s-any"); !strings.HasPrefix(got, "m1.small") {
		t.Errorf("after the resize the flavor is %q", got)
	}
	for _, verb := range []struct{ verb, status string }{{"stop", "SHUTOFF"}, {"start", "ACTIVE"}, {"pause", "PAUSED"}, {"unpause", "ACTIVE"}, {"suspend", "SUSPENDED"}, {"resume", "ACTIVE"}} {
		d.do("server", verb.verb, "hw-s-west")
		d.reads(verb.status, "status", "server", "show", "hw-s-west")
	}
	d.do("server", "image", "create", "--name", "hw-snap", "--wait", "hw-s-west")
	d.reads("active", "status", "image", "show", "hw-snap")
}

func volumes(t *testing.T, d *day) {
	d.do("volume", "create", "--size", "1", "--availability-zone", "east", "hw-vol")
	d.reads("available", "status", "volume", "show", "hw-vol")
	said := d.as("alice", "server", "add", "volume", "hw-s-west", "hw-vol").Fails(t)
	if !strings.Contains(said, "east") || !strings.Contains(said, "west") {
		t.Errorf("a volume of east on a server of west: %s, want both sites named", said)
	}
	d.do("server", "add", "volume", "hw-s-east", "hw-vol")
	d.reads("in-use", "status", "volume", "show", "hw-vol")
	d.do("volume", "snapshot", "create", "--volume", "hw-vol", "--force", "hw-vsnap")
	d.reads("available", "status", "volume", "snapshot", "show", "hw-vsnap")
	d.do("server", "remove", "volume", "hw-s-east", "hw-vol")
	d.reads("available", "status", "volume", "show", "hw-vol")
}

func reachable(t *testing.T, d *day) {
	d.do("router", "create", "hw-r")
	d.do("router", "add", "subnet", "hw-r", "hw-east")
	d.do("router", "set", "--external-gateway", "public", "hw-r")
	ip := d.field("floating_ip_address", "floating", "ip", "create", "public") // at east: the project's one router to it is there
	d.do("server", "add", "floating", "ip", "hw-s-east", ip)
	if got := d.field("addresses", "server", "show", "hw-s-east"); !strings.Contains(got, ip) {
		t.Errorf("addresses %s do not hold the floating IP %s", got, ip)
	}
	d.reads("ACTIVE", "status", "floating", "ip", "show", ip)
	d.do("server", "remove", "floating", "ip", "hw-s-east", ip)
	d.do("floating", "ip", "delete", ip)
	d.do("router", "unset", "--external-gateway", "hw-r")
	d.do("router", "remove", "subnet", "hw-r", "hw-east")
	d.do("router", "delete", "hw-r")
}

func bottomIDs(t *testing.T, d *day) {
	bottom, _ := d.at("east", "hw-s-east")
	top := d.field("id", "server", "show", "hw-s-east")
	if bottom == top {
		t.Fatal("top and bottom id are the same: the test proves nothing")
	}
	if got := d.field("id", "server", "show", bottom); got != top {
		t.Errorf("server show %s = %s, want the top id %s", bottom, got, top)
	}
	// Cinder calls a volume available before Nova has forgotten it, and Nova refuses it until then.
	d.reads("[]", "volumes_attached", "server", "show", bottom)
	d.do("server", "add", "volume", bottom, "hw-vol")
	d.reads("in-use", "status", "volume", "show", "hw-vol")
	d.do("server", "remove", "volume", bottom, "hw-vol")
	d.reads("available", "status", "volume", "show", "hw-vol")
}

func operators(t *testing.T, d *day) {
	for _, args := range [][]string{{"hypervisor", "list", "-f", "value"}, {"compute", "service", "list", "-f", "value"}} {
		if got := d.as("admin", args...).OK(t); !strings.Contains(got, "east") || !strings.Contains(got, "west") {
			t.Errorf("openstack %s: %s, want each site as one host", strings.Join(args, " "), got)
		}
	}
	if got := d.do("availability", "zone", "list", "--compute", "-f", "value", "-c", "Zone Name"); !strings.Contains(got, "west/az2") {
		t.Errorf("availability zones: %s", got)
	}
	d.do("limits", "show", "--absolute")
	d.do("quota", "show")
}

func deleteAll(t *testing.T, d *day) {
	d.do("server", "delete", "--wait", "hw-s-east", "hw-s-west", "hw-s-any")
	d.do("volume", "snapshot", "delete", "hw-vsnap")
	d.do("volume", "delete", "hw-vol")
	d.do("network", "delete", "hw-east", "hw-west", "hw-any")
	d.do("security", "group", "delete", "hw-sg")
	d.do("keypair", "delete", "hw-key")
	d.do("image", "delete", "hw-img", "hw-snap")
	for _, list := range [][]string{{"server", "list"}, {"volume", "list"}, {"keypair", "list"}, {"port", "list"}} {
		if got := d.do(append(list, "-f", "value")...); got != "" {
			t.Errorf("openstack %s still shows:\n%s", strings.Join(list, " "), got)
		}
	}
}
