package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// How long Top is watched at rest, after it had time to come to rest.
const (
	calmDown   = 15 * time.Second
	watchRest  = 30 * time.Second
	diffLimit  = 5 * time.Minute
	everySweep = time.Second // between full comparisons, when Top is to make one at once
)

// crowd is a Top over many emulated sites that hold many servers, all of them in its index.
type crowd struct {
	b       *bench
	names   []string
	sites   *proc
	urls    map[string]string
	top     *top
	dir     string
	project string // the tenant's at Top
	user    string
	kit     kit
}

// measureMemory prepares a database with rows for all servers of the sites, and
// watches Top with it: at rest, and during a comparison of everything.
func measureMemory(ctx context.Context, b *bench) (err error) {
	if b.world != nil { // two worlds at once would share two cores
		if err := b.world.pause(ctx); err != nil {
			return err
		}
	}
	c := &crowd{b: b, dir: filepath.Join(b.dir, "crowd")}
	for i := range b.manySites {
		c.names = append(c.names, fmt.Sprintf("site%02d", i))
	}
	if c.sites, c.urls, err = startSites(ctx, b.log, c.names...); err != nil {
		return err
	}
	defer c.sites.stop()
	defer func() {
		if c.top != nil {
			c.top.stop()
		}
	}()
	if err := c.populate(ctx); err != nil {
		return err
	}
	if err := c.atRest(ctx); err != nil {
		return err
	}
	return c.duringDiff(ctx)
}

// populate registers the sites at Top, boots one server at each, so that the project is there, fills the sites, and writes Top's rows.
func (c *crowd) populate(ctx context.Context) error {
	if err := c.found(ctx); err != nil {
		return err
	}
	c.top.stop()
	each := c.b.servers / len(c.names)
	began := time.Now()
	var all []*siteContent
	for _, name := range c.names {
		err := control(ctx, "POST", c.urls[name], "seed", object{
			"project": sites.MarkedName(ident.TopID(c.project)), "servers": each, "ports": 1, "name": name + "-", "image": "seed",
		})
		if err != nil {
			return err
		}
		content, err := readSite(ctx, name, emulated(name, c.urls[name]))
		if err != nil {
			return err
		}
		if len(content.servers) != each || len(content.ports) != each {
			return fmt.Errorf("site %s lists %d servers and %d ports of %d", name, len(content.servers), len(content.ports), each)
		}
		all = append(all, content)
	}
	c.b.say("sites filled and read in %v; writing Top's rows ...", time.Since(began).Truncate(time.Second))
	began = time.Now()
	if err := c.write(ctx, all); err != nil {
		return err
	}
	c.b.say("rows written in %v", time.Since(began).Truncate(time.Second))
	return nil
}

// found starts the Top for the first time.
func (c *crowd) found(ctx context.Context) error {
	var err error
	if c.top, err = c.b.startTop(ctx, c.dir, topSettings{}); err != nil {
		return err
	}
	admin, err := c.top.administrator(ctx)
	if err != nil {
		return err
	}
	for _, name := range c.names {
		if err := admin.addSite(ctx, name, emulated(name, c.urls[name])); err != nil {
			return err
		}
	}
	tenant, k, err := admin.prepare(ctx, c.top.url, "10.81.0.0/16")
	if err != nil {
		return err
	}
	c.project, c.user, c.kit = tenant.project, tenant.user, k
	for i, name := range c.names {
		k.zone = name
		if k.network, err = tenant.network(ctx, name, fmt.Sprintf("10.82.%d.0/24", i)); err != nil {
			return err
		}
		id, err := tenant.boot(ctx, k, "first-"+name)
		if err != nil {
			return err
		}
		if err := tenant.await(ctx, id, "ACTIVE", look); err != nil {
			return err
		}
	}
	return nil
}

// atRest watches a Top with nothing to do but its loops.
func (c *crowd) atRest(ctx context.Context) error {
	var err error
	if c.top, err = c.b.startTop(ctx, c.dir, topSettings{}); err != nil {
		return err
	}
	tenant, err := c.tenant(ctx)
	if err != nil {
		return err
	}
	c.b.say("watching Top at rest ...")
	rss, cpu, err := c.watch(ctx, watchRest)
	if err != nil {
		return err
	}
	how := fmt.Sprintf("Top with its default settings (polls every 5 s) over %d emulated sites that hold %d servers with a port each, all in its index; "+
		"rows prepared in the database by index.Store and binding.Store; %v after its start, for %v", len(c.names), c.b.servers, calmDown, watchRest)
	size := fmt.Sprintf("%d sites, %d servers", len(c.names), c.b.servers)
	c.b.report.aim(figure{Name: "memory of Top at rest, " + size, Unit: "MiB", Ours: new(rss), How: how + "; the highest resident set seen"}, lower, 500)
	c.b.report.add(figure{Name: "CPU of Top at rest, " + size, Unit: "% of a core", Ours: new(cpu), How: how})
	for _, read := range []struct {
		name, path string
		n          int
	}{{"list of 1000 servers with details", "/servers/detail?limit=1000", 10}, {"GET server", "", 200}} {
		if read.path == "" {
			var page struct{ Servers []struct{ ID string } }
			if err := tenant.call(ctx, "GET", "compute", "/servers?limit=1", nil, &page); err != nil {
				return err
			}
			read.path = "/servers/" + page.Servers[0].ID
		}
		o, err := get(ctx, tenant, read.path, 1, read.n, 0)
		if err != nil {
			return err
		}
		c.b.report.add(figure{Name: read.name + ", p50, " + size, Unit: "ms", Ours: new(at(o.times, .5)), How: "one client, all cores; " + spread(o.times)})
	}
	c.top.stop()
	return nil
}

func (c *crowd) tenant(ctx context.Context) (*cloud, error) {
	return signIn(ctx, account{authURL: c.top.url + "/identity/v3", region: "Global", user: "bench", password: adminPassword, project: "bench"})
}

// watch returns the highest memory and the mean use of a core in a while, after Top has calmed down.
func (c *crowd) watch(ctx context.Context, length time.Duration) (rss, cpu float64, err error) {
	calm, end := time.Now().Add(calmDown), time.Now().Add(calmDown+length)
	used, since := time.Duration(0), time.Time{}
	err = until(ctx, 500*time.Millisecond, "Top at rest", func() (bool, error) {
		now := time.Now()
		if now.Before(calm) {
			return false, nil
		}
		if since.IsZero() {
			used, since = c.top.cpu(), now
		}
		m, _ := c.top.memory()
		rss = max(rss, m)
		return now.After(end), nil
	})
	cpu = 100 * (c.top.cpu() - used).Seconds() / time.Since(since).Seconds()
	return rss, cpu, err
}

// duringDiff watches a Top that compares everything at once.
func (c *crowd) duringDiff(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, diffLimit)
	defer cancel()
	var err error
	if c.top, err = c.b.startTop(ctx, c.dir, topSettings{inventory: everySweep, diff: everySweep}); err != nil {
		return err
	}
	c.b.say("watching Top compare everything ...")
	began, busy := time.Now(), c.top.cpu()
	err = until(ctx, 250*time.Millisecond, "every site to be compared", func() (bool, error) {
		done, failed, err := c.polls(ctx)
		if err == nil && failed > 0 {
			err = errors.New("a comparison failed: see top.log")
		}
		return done >= len(c.names), err
	})
	if err != nil {
		return err
	}
	took, used := time.Since(began), c.top.cpu()-busy
	_, peak := c.top.memory()
	how := fmt.Sprintf("the same Top made to compare all servers, ports, networks, ... of all sites at once: it took %s s and %s s of CPU; VmHWM", number(took.Seconds()), number(used.Seconds()))
	c.b.report.aim(figure{Name: "memory of Top during a full comparison, peak", Unit: "MiB", Ours: new(peak), How: how}, lower, 500)
	c.b.report.add(figure{Name: "full comparison of all sites", Unit: "s", Ours: new(took.Seconds()), How: how})
	tenant, err := c.tenant(ctx)
	if err != nil {
		return err
	}
	var page struct{ Servers []struct{ ID string } }
	if err := tenant.call(ctx, "GET", "compute", "/servers?status=ERROR&limit=1", nil, &page); err != nil || len(page.Servers) > 0 {
		return errors.Join(err, fmt.Errorf("%d servers are in ERROR after the comparison", len(page.Servers)))
	}
	return nil
}

// polls reads from /metrics how many turns of sites ended, and how.
func (c *crowd) polls(ctx context.Context) (done, failed int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.top.url+"/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("read metrics: %w", err)
	}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "headwater_inventory_polls_total{")
		if !ok {
			continue
		}
		n, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if strings.Contains(rest, `outcome="done"`) && n > 0 {
			done++
		} else if n > 0 {
			failed++
		}
	}
	return done, failed, resp.Body.Close()
}
