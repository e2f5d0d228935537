package emulator

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// startServer makes the record of one server and sets its build going.
func (c *Cloud) startServer(q *request, b *build, index int) *server {
	s := *b.server
	c.compute.number++
	s.row = row{ID: newID(), Project: b.server.Project}
	s.number, s.index = c.compute.number, index
	if b.max > 1 {
		s.name += "-" + strconv.Itoa(index+1)
	}
	if s.hostname == "" {
		s.hostname = hostName(s.name, s.ID)
	}
	s.created, s.updated = c.now(), c.now()
	s.vm, s.task = "building", "scheduling"
	if b.image != nil {
		s.disk = b.image.data
	}
	s.nets = b.nets
	c.compute.servers.add(&s)
	u := c.usageOf(s.Project)
	u.servers, u.cores, u.ram = u.servers+1, u.cores+s.flavor.vcpus, u.ram+s.flavor.ram
	if g, found := c.compute.groups.get(s.group); found {
		g.members = append(g.members, s.ID)
	}
	for _, x := range b.devices { // a given volume is reserved before the reply
		if v, found := c.volume.volumes.get(x.uuid); found && x.source == "volume" {
			c.reserveVolume(v)
		}
	}
	a := c.begin(q, &s, "create")
	c.spawn(&s, b, a)
	return &s
}

func hostName(name, id string) string {
	var out strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.':
			out.WriteRune(r)
		case r == ' ' || r == '_':
			out.WriteByte('-')
		}
	}
	h := strings.Trim(out.String(), ".-")
	if h == "" {
		return "Server-" + id
	}
	return h[:min(len(h), 63)]
}

// spawn takes a new server through its build.
func (c *Cloud) spawn(s *server, b *build, a *action) {
	third := c.cfg.Durations.Build / 3
	c.then(s, third, func() {
		forced := s.host
		s.host = nil
		if s.host = c.choose(s, forced); s.host == nil {
			a.failed, a.done = true, c.now()
			c.setFault(s, 500, "No valid host was found. ")
			c.freeReserved(s, b)
			return
		}
		c.take(s.host, s.flavor, 1)
		s.task = "networking"
		if err := c.wire(s, b); err != nil {
			a.failed, a.done = true, c.now()
			c.setFault(s, 500, "Build of instance "+s.ID+" aborted: "+err.Error())
			c.freeReserved(s, b)
			return
		}
		s.task = "spawning"
		c.then(s, 2*third, func() {
			if err := c.plugVolumes(s, b); err != nil {
				a.failed, a.done = true, c.now()
				c.setFault(s, 500, "Build of instance "+s.ID+" aborted: "+err.Error())
				return
			}
			s.vm, s.task, s.power, s.launched = "active", "", 1, c.now()
			a.done = c.now()
		})
	})
}

// choose returns the host with the most free memory that the server fits on; nil when none is.
func (c *Cloud) choose(s *server, forced *host) *host {
	var best *host
	g, grouped := c.compute.groups.get(s.group)
	for _, h := range c.hosts() {
		if forced != nil && h != forced || s.zone != "" && h.zone != s.zone || h.disabled {
			continue
		}
		if h.vcpus+s.flavor.vcpus > c.cfg.Capacity.VCPUs*16 || h.ram+s.flavor.ram > c.cfg.Capacity.MemoryMB*3/2 || h.disk+s.flavor.disk > c.cfg.Capacity.DiskGB {
			continue
		}
		if grouped && !c.groupAllows(g, s, h) {
			continue
		}
		if best == nil || h.ram < best.ram {
			best = h
		}
	}
	return best
}

func (c *Cloud) groupAllows(g *serverGroup, s *server, h *host) bool {
	for _, id := range g.members {
		o, found := c.compute.servers.get(id)
		if !found || o == s || o.host == nil {
			continue
		}
		if g.policy == "anti-affinity" && o.host == h || g.policy == "affinity" && o.host != h {
			return false
		}
	}
	return true
}

func (c *Cloud) take(h *host, f *flavor, sign int) {
	h.vcpus, h.ram, h.disk, h.used = h.vcpus+sign*f.vcpus, h.ram+sign*f.ram, h.disk+sign*f.disk, h.used+sign
}

// wire makes or takes the server's ports.
func (c *Cloud) wire(s *server, b *build) error {
	for _, r := range s.nets {
		if _, err := c.plugPort(s, r, b.sgIDs); err != nil {
			return fmt.Errorf("Failed to allocate the network(s) with error %w, not rescheduling.", err) //nolint:staticcheck // Nova's own sentence, shown to the tenant
		}
	}
	return nil
}

// plugPort gives a server a port: the one asked for, or a new one on the network.
func (c *Cloud) plugPort(s *server, r netRequest, groups []string) (*port, error) {
	zone := "nova"
	if s.host != nil {
		zone = s.host.zone
	}
	p := r.port
	if p != nil {
		if _, there := c.network.ports.get(p.ID); !there {
			return nil, neutronErr(404, "PortNotFound", "Port id "+p.ID+" could not be found.")
		}
		if p.deviceID != "" {
			return nil, neutronErr(409, "PortInUse", "Port "+p.ID+" is still in use.")
		}
		s.given = append(s.given, p.ID)
		c.setDevice(p, s.ID, "compute:"+zone)
	} else {
		p = &port{row: row{ID: newID(), Project: s.Project}, std: c.newStd(nil), network: r.network, mac: c.newMAC(r.network), adminUp: true, status: "DOWN", deviceID: s.ID,
			owner: "compute:" + zone, vnic: "normal", security: r.network.portSecurity, groups: groups}
		p.revision = 1
		if _, there := c.network.networks.get(r.network.ID); !there {
			return nil, neutronErr(404, "NetworkNotFound", "Network "+r.network.ID+" could not be found.")
		}
		if p.security && len(groups) == 0 {
			p.groups = []string{c.defaultGroup(s.Project).ID}
		}
		var want any
		if r.fixed != "" {
			want = []any{map[string]any{"ip_address": r.fixed}}
		}
		ips, err := c.pickAddresses(p, want, want != nil)
		if err != nil {
			return nil, err
		}
		p.ips = ips
		c.addPort(p)
	}
	if s.host != nil {
		p.host = s.host.name
	}
	c.touch(&p.std)
	c.portReady(p)
	return p, nil
}

// unplugPort takes a port from its server: one that Nova made goes, the tenant's own stays.
func (c *Cloud) unplugPort(s *server, p *port) {
	if i := slices.Index(s.given, p.ID); i >= 0 {
		s.given = slices.Delete(s.given, i, i+1)
		c.setDevice(p, "", "")
		p.host, p.status = "", "DOWN"
		c.touch(&p.std)
		return
	}
	c.dropPort(p)
}

// plugVolumes makes and attaches what block_device_mapping_v2 asked for.
func (c *Cloud) plugVolumes(s *server, b *build) error {
	for _, x := range b.devices {
		v, found := c.volume.volumes.get(x.uuid)
		if x.source != "volume" {
			v = c.newVolume(s.Project, s.user, "", x.size)
			v.status, v.bootable = "available", x.boot
			c.fillVolume(v, x)
			c.volume.volumes.add(v)
		} else if !found {
			return errors.New("Volume " + x.uuid + " could not be found.") //nolint:staticcheck // Nova's own sentence, shown to the tenant
		}
		a := c.attach(v, s, "")
		a.deleteToo, a.tag = x.deleteToo, x.tag
		if x.boot {
			s.rootDevice = a.device
		}
	}
	if s.rootDevice == "" {
		s.rootDevice = "/dev/sda"
	}
	return nil
}

// freeReserved gives back volumes that a failed build had reserved.
func (c *Cloud) freeReserved(s *server, b *build) {
	for _, x := range b.devices {
		if v, found := c.volume.volumes.get(x.uuid); found && x.source == "volume" && v.status == "reserved" && len(v.attachments) == 0 {
			v.status, v.updated = "available", c.now()
		}
	}
}

// deleteServer handles DELETE /servers/{id}.
func (c *Cloud) deleteServer(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	if s.locked && !q.admin {
		return nil, locked(s)
	}
	if s.task != "deleting" {
		c.startDelete(q, s)
	}
	return noContent()
}

func locked(s *server) error { return fail(409, "Instance "+s.ID+" is locked") }

func (c *Cloud) startDelete(q *request, s *server) {
	a := c.begin(q, s, "delete")
	s.task = "deleting"
	c.then(s, c.cfg.Durations.Delete, func() {
		c.endServer(s)
		a.done = c.now()
	})
}

// endServer frees everything that a server holds and keeps it as deleted for changes-since.
func (c *Cloud) endServer(s *server) {
	for _, p := range slices.Clone(c.network.byDevice[s.ID]) {
		c.unplugPort(s, p)
	}
	for _, at := range slices.Clone(s.attached) {
		v := at.volume
		c.detach(at)
		if at.deleteToo {
			c.dropVolume(v)
		}
	}
	if s.host != nil {
		c.take(s.host, s.flavor, -1)
	}
	u := c.usageOf(s.Project)
	u.servers, u.cores, u.ram = u.servers-1, u.cores-s.flavor.vcpus, u.ram-s.flavor.ram
	if g, found := c.compute.groups.get(s.group); found {
		g.members = slices.DeleteFunc(g.members, func(id string) bool { return id == s.ID })
	}
	for _, v := range c.volume.volumes.of(s.Project) { // reserved for a build that never got there
		if v.status == "reserved" && v.reservedFor == s.ID {
			v.status = "available"
		}
	}
	c.compute.servers.remove(s)
	s.vm, s.task, s.power, s.deleted = "deleted", "", 0, true
	s.terminated = c.now()
	s.meta, s.tags, s.disk, s.attached, s.nets = nil, nil, nil, nil, nil
	c.touchServer(s)
	if len(c.compute.gone) >= goneMax {
		c.compute.gone = slices.Delete(c.compute.gone, 0, goneMax/10)
	}
	c.compute.gone = append(c.compute.gone, s)
}

// updateServer handles PUT /servers/{id}.
func (c *Cloud) updateServer(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("server")
	if d == nil {
		return nil, fail(400, "'server' is a required property")
	}
	for k := range d {
		known := slices.Contains([]string{"name", "OS-DCF:diskConfig", "accessIPv4", "accessIPv6"}, k) || k == "description" && q.at(19) || k == "hostname" && q.at(90)
		if !known {
			return nil, badField("server", string(appendJSON(nil, map[string]any(d))), "Additional properties are not allowed ('"+k+"' was unexpected)")
		}
	}
	if d.has("name") {
		if err := checkServerName(d["name"]); err != nil {
			return nil, err
		}
		s.name = d.str("name")
	}
	if d.has("description") {
		s.description, s.noText = d.str("description"), d["description"] == nil
	}
	if d.has("hostname") {
		s.hostname = d.str("hostname")
	}
	if d.has("accessIPv4") {
		s.v4 = d.str("accessIPv4")
	}
	if d.has("accessIPv6") {
		s.v6 = d.str("accessIPv6")
	}
	if d.has("OS-DCF:diskConfig") {
		s.diskAuto = d.str("OS-DCF:diskConfig") == "AUTO"
	}
	c.touchServer(s)
	return ok(object{{"server", c.serverView(q, s, viewRebuild)}})
}
