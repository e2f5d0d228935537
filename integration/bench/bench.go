package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// bench is one run.
type bench struct {
	options
	report  *report
	root    string // of the module
	dir     string // of the run
	stderr  io.Writer
	log     *os.File // of the emulated sites
	name    string   // of what is made at the real region
	world   *world   // what the first parts share, made at its first use
	peer    *peer    // nil until asked for
	peerErr error    // why there is none
}

func newBench(ctx context.Context, o options, stderr io.Writer) (*bench, error) {
	b := &bench{options: o, stderr: stderr, name: "B-bench-" + ident.NewHexID()[:8]}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	b.root = strings.TrimSpace(string(out))
	if b.dir, err = os.MkdirTemp("", "headwater-bench"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if b.log, err = os.Create(filepath.Join(b.dir, "sites.log")); err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	b.report = newReport(ctx, b.root)
	return b, nil
}

// build makes the headwater program, unless the command line has one.
func (b *bench) build(ctx context.Context) (err error) {
	if b.program == "" {
		b.program, err = b.goBuild(ctx, "headwater")
	}
	return err
}

// goBuild makes a program of ours in the run's folder.
func (b *bench) goBuild(ctx context.Context, name string) (string, error) {
	b.say("building %s ...", name)
	program := filepath.Join(b.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/"+name)
	cmd.Dir = b.root
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, said)
	}
	return program, nil
}

// say tells what the run is at, on the side: the report alone goes to stdout.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, time.Now().UTC().Format("15:04:05 ")+format+"\n", args...)
}

// note adds a line below the table.
func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.say("note: %s", text)
	b.report.notes = append(b.report.notes, text)
}

// cleanLimit bounds the clean-up of a run that was interrupted.
const cleanLimit = 6 * time.Minute

// close deletes what the run made at the real region, stops what it started and removes its folder.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanLimit)
	defer cancel()
	b.say("cleaning up ...")
	var errs []error
	if b.world != nil {
		errs = append(errs, b.world.close(ctx))
	}
	if b.peer != nil {
		errs = append(errs, b.peer.close(ctx))
	}
	errs = append(errs, b.log.Close())
	if b.keep {
		b.say("kept %s", b.dir)
	} else {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// realDir is where the scripts of integration/realcloud keep the real regions.
func realDir() string {
	if dir := os.Getenv("REALCLOUD_DIR"); dir != "" {
		return dir
	}
	return "/var/tmp/realcloud"
}

// peer is a real OpenStack region, with a project of this run in it.
type peer struct {
	account account // the administrator's
	admin   *cloud
	tenant  *cloud
	kit     kit // without a zone
	down    []string
}

// real returns the peer, made at the first call; nil when there is none, which a note then says.
func (b *bench) realRegion(ctx context.Context) *peer {
	if b.peer != nil || b.peerErr != nil {
		return b.peer
	}
	if b.real == "" {
		b.peerErr = errors.New("none was asked for")
		return nil
	}
	if b.peer, b.peerErr = b.findPeer(ctx); b.peerErr != nil {
		b.note("no real region to compare with: %v", b.peerErr)
		b.peer = nil
	}
	return b.peer
}

func (b *bench) findPeer(ctx context.Context) (*peer, error) {
	p := &peer{}
	var err error
	if p.account, err = fromClouds(b.clouds, b.real); err != nil || !answers(ctx, p.account.authURL) {
		if p.down, err = b.bringUp(ctx); err != nil {
			return nil, err
		}
		if p.account, err = fromClouds(b.clouds, b.real); err != nil {
			return nil, err
		}
	}
	if p.admin, err = signIn(ctx, p.account); err != nil {
		return nil, err
	}
	if p.tenant, err = p.admin.tenant(ctx, b.name, adminPassword, p.account); err != nil {
		return nil, err
	}
	if p.kit.flavor, err = p.tenant.flavor(ctx); err != nil {
		return nil, err
	}
	if p.kit.image, err = p.tenant.image(ctx, b.name); err != nil {
		return nil, err
	}
	p.kit.network, err = p.tenant.network(ctx, b.name, "10.77.0.0/16")
	return p, err
}

// fromClouds reads an account from a clouds.yaml.
func fromClouds(file, name string) (account, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return account{}, fmt.Errorf("read the real regions' accounts: %w", err)
	}
	var in struct {
		Clouds map[string]struct {
			Region string `yaml:"region_name"`
			Auth   struct {
				URL      string `yaml:"auth_url"`
				Username string `yaml:"username"`
				Password string `yaml:"password"`
				Project  string `yaml:"project_name"`
			} `yaml:"auth"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(data, &in); err != nil {
		return account{}, fmt.Errorf("read %s: %w", file, err)
	}
	c, ok := in.Clouds[name]
	if !ok {
		return account{}, fmt.Errorf("%s has no cloud %s", file, name)
	}
	return account{authURL: c.Auth.URL, region: c.Region, user: c.Auth.Username, password: c.Auth.Password, project: c.Auth.Project}, nil
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

// bringUp starts the real region and returns the command that stops it again.
func (b *bench) bringUp(ctx context.Context) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("starting one needs root")
	}
	b.say("starting the real region %s ...", b.real)
	script := filepath.Join(b.root, "integration", "realcloud", "up")
	if said, err := exec.CommandContext(ctx, script, b.real).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start %s: %w: %s", b.real, err, tail(said, 500))
	}
	return []string{filepath.Join(filepath.Dir(script), "down"), b.real}, nil
}

func tail(text []byte, n int) []byte { return bytes.TrimSpace(text[max(0, len(text)-n):]) }

// close deletes the run's project and all that is in it.
func (p *peer) close(ctx context.Context) error {
	if p.down != nil {
		if said, err := exec.CommandContext(ctx, p.down[0], p.down[1:]...).CombinedOutput(); err != nil { //nolint:gosec // our own script
			return fmt.Errorf("stop the real region: %w: %s", err, tail(said, 500))
		}
		return nil
	}
	errs := []error{p.empty(ctx)}
	for _, step := range []struct{ service, path string }{
		{"network", "/networks/" + p.kit.network}, {"image", "/images/" + p.kit.image},
	} {
		errs = append(errs, p.tenant.call(ctx, "DELETE", step.service, step.path, nil, nil))
	}
	var groups struct {
		Groups []struct{ ID string } `json:"security_groups"`
	}
	errs = append(errs, p.admin.call(ctx, "GET", "network", "/security-groups?project_id="+p.tenant.project, nil, &groups))
	errs = append(errs, p.admin.call(ctx, "DELETE", "identity", "/users/"+p.tenant.user, nil, nil),
		p.admin.call(ctx, "DELETE", "compute", "/os-quota-sets/"+p.tenant.project, nil, nil),
		p.admin.call(ctx, "DELETE", "network", "/quotas/"+p.tenant.project, nil, nil),
		p.admin.call(ctx, "DELETE", "identity", "/projects/"+p.tenant.project, nil, nil))
	for _, g := range groups.Groups {
		errs = append(errs, p.admin.call(ctx, "DELETE", "network", "/security-groups/"+g.ID, nil, nil))
	}
	return errors.Join(errs...)
}

// empty deletes all servers of the run's project and waits until they are gone.
func (p *peer) empty(ctx context.Context) error {
	asked := map[string]bool{}
	return until(ctx, time.Second, "the servers to be gone", func() (bool, error) {
		var page struct{ Servers []struct{ ID string } }
		if err := p.tenant.call(ctx, "GET", "compute", "/servers?limit=1000", nil, &page); err != nil {
			return false, err
		}
		for _, s := range page.Servers {
			if asked[s.ID] {
				continue
			}
			asked[s.ID] = true
			if err := p.tenant.call(ctx, "DELETE", "compute", "/servers/"+s.ID, nil, nil); err != nil && !notFound(err) {
				return false, err
			}
		}
		return len(page.Servers) == 0, nil
	})
}

// world is one Top over two emulated sites and, if there is one, the real region, with a tenant that may have all it wants.
type world struct {
	b      *bench
	sites  *proc
	urls   map[string]string
	top    *top
	admin  *cloud
	tenant *cloud
	kit    kit    // of a server at Top, without a zone
	direct *cloud // the site one's, as an ordinary tenant of its own
	own    kit    // of a server straight at the site one
}

// theWorld makes the world at its first use.
func (b *bench) theWorld(ctx context.Context) (*world, error) {
	if b.world != nil {
		return b.world, nil
	}
	w := &world{b: b}
	b.world = w // close cleans up also what a failure leaves
	var err error
	if w.sites, w.urls, err = startSites(ctx, b.log, "one", "two"); err != nil {
		return nil, err
	}
	if w.top, err = b.startTop(ctx, filepath.Join(b.dir, "top"), topSettings{}); err != nil {
		return nil, err
	}
	if w.admin, err = w.top.administrator(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{"one", "two"} {
		if err := w.admin.addSite(ctx, name, emulated(name, w.urls[name])); err != nil {
			return nil, err
		}
	}
	if w.tenant, w.kit, err = w.admin.prepare(ctx, w.top.url, "10.78.0.0/16"); err != nil {
		return nil, err
	}
	return w, w.prepareDirect(ctx)
}

// prepareDirect makes a tenant straight at the emulated site one.
func (w *world) prepareDirect(ctx context.Context) error {
	at := emulated("one", w.urls["one"])
	admin, err := signIn(ctx, at)
	if err != nil {
		return err
	}
	w.direct, err = admin.tenant(ctx, "direct", adminPassword, at)
	if err != nil {
		return err
	}
	if w.own.flavor, err = w.direct.flavor(ctx); err != nil {
		return err
	}
	if w.own.image, err = w.direct.image(ctx, "direct"); err != nil {
		return err
	}
	w.own.network, err = w.direct.network(ctx, "direct", "10.79.0.0/16")
	return err
}

func (w *world) close(ctx context.Context) error {
	var err error
	if w.top != nil && w.b.peer != nil && w.admin != nil {
		err = w.dropReal(ctx)
	}
	if w.top != nil {
		w.top.stop()
	}
	w.sites.stop()
	return err
}

// pause stops the world's processes for a part that wants the machine for itself; what it made at the real region goes before.
func (w *world) pause(ctx context.Context) error {
	err := w.close(ctx)
	w.b.world = nil
	return err
}

// emulated is the administrator of an emulated site.
func emulated(name, url string) account {
	return account{authURL: url + "/identity/v3", region: name, user: "admin", password: "secret", project: "admin"}
}

// administrator signs in at Top as its operator.
func (t *top) administrator(ctx context.Context) (*cloud, error) {
	c, err := signIn(ctx, account{authURL: t.url + "/identity/v3", region: "Global", user: "admin", password: adminPassword, project: "admin"})
	if err == nil {
		c.url["operator"] = t.url + "/v1"
	}
	return c, err
}

// addSite registers a site at Top.
func (c *cloud) addSite(ctx context.Context, name string, a account) error {
	return c.call(ctx, "POST", "operator", "/sites", object{"name": name, "tenancy": "project", "credential": object{
		"auth_url": a.authURL, "region_name": a.region, "username": a.user, "password": a.password, "user_domain_id": "default",
		"project_name": a.project, "project_domain_id": "default",
	}}, nil)
}

// patience bounds a wait for something that takes Top a few seconds.
const patience = 2 * time.Minute

// prepare makes a tenant at Top with an image and a network, once the sites' flavors have appeared.
func (c *cloud) prepare(ctx context.Context, url, cidr string) (*cloud, kit, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var k kit
	t, err := c.tenant(ctx, "bench", adminPassword, account{authURL: url + "/identity/v3", region: "Global"})
	if err != nil {
		return nil, k, err
	}
	err = until(ctx, 100*time.Millisecond, "the sites' flavors to appear at Top", func() (bool, error) {
		k.flavor, err = t.flavor(ctx)
		return k.flavor != "", err
	})
	if err != nil {
		return nil, k, err
	}
	if k.image, err = t.image(ctx, "bench"); err != nil {
		return nil, k, err
	}
	k.network, err = t.network(ctx, "bench", cidr)
	return t, k, err
}

// realName is the name of the real region as a site of Top.
const realName = "real"

// addReal registers the real region at Top, once, and returns a kit for servers there.
func (w *world) addReal(ctx context.Context, p *peer) (kit, error) {
	k := kit{flavor: w.kit.flavor, image: w.kit.image, zone: realName}
	err := w.admin.call(ctx, "GET", "operator", "/sites/"+realName, nil, nil)
	if notFound(err) {
		err = w.admin.addSite(ctx, realName, p.account)
	}
	if err != nil {
		return k, err
	}
	var have struct{ Networks []struct{ ID string } }
	if err := w.tenant.call(ctx, "GET", "network", "/networks?name=real", nil, &have); err != nil {
		return k, err
	}
	if len(have.Networks) > 0 {
		k.network = have.Networks[0].ID
		return k, nil
	}
	k.network, err = w.tenant.network(ctx, "real", "10.80.0.0/24")
	return k, err
}

// dropReal deletes what Top made at the real region.
func (w *world) dropReal(ctx context.Context) error {
	err := w.admin.call(ctx, "GET", "operator", "/sites/"+realName, nil, nil)
	if notFound(err) {
		return nil
	}
	if err == nil {
		err = w.admin.call(ctx, "DELETE", "operator", "/sites/"+realName+"?resources=purge", nil, nil)
	}
	if err != nil {
		return fmt.Errorf("remove the real region from Top: %w", err)
	}
	return until(ctx, 500*time.Millisecond, "the real region to be purged", func() (bool, error) {
		err := w.admin.call(ctx, "GET", "operator", "/sites/"+realName, nil, nil)
		if notFound(err) {
			return true, nil
		}
		return false, err
	})
}

// control calls what an emulated site offers beside OpenStack.
func control(ctx context.Context, method, url, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/_emulator/"+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	req.Header.Set("X-Emulator-Token", controlToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", path, resp.Status, answer)
	}
	return err
}
