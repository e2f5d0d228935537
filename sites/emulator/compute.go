package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

type computeState struct {
	servers  *table[*server]
	gone     []*server // deleted, oldest deletion first; at most goneMax
	flavors  *table[*flavor]
	keys     map[string]map[string]*keypair // by user id, then name
	groups   *table[*serverGroup]
	hostList []*host
	quotas   map[string]map[string]int
	usage    map[string]*usage
	number   int // of the last server made: instance-0000000a
	keyNum   int
}

// goneMax bounds how many deleted servers changes-since can still show.
const goneMax = 50_000

type host struct {
	name, zone             string
	vcpus, ram, disk, used int
	disabled               bool
}

type usage struct{ servers, cores, ram int }

type flavor struct {
	row
	name, description                 string
	ram, vcpus, disk, ephemeral, swap int
	rxtx                              float64
	public, disabled                  bool
	specs                             map[string]string
	access                            map[string]bool
}

type server struct {
	row
	name, user, zone, key, hostname, description string
	imageID, group, reservation, userData        string
	rootDevice                                   string
	lockedReason                                 string
	flavor, oldFlavor                            *flavor
	host                                         *host
	created, updated, launched, terminated       time.Time
	vm, task                                     string
	meta                                         map[string]string
	tags, groupNames                             []string
	nets                                         []netRequest
	given                                        []string // ports of the tenant's, which outlive the server
	attached                                     []*attachment
	actions                                      []*action
	fault                                        *serverFault
	disk                                         []byte // of the image that it was booted from; shared with it
	gen                                          int    // counts verbs, so that what an overtaken one has scheduled does nothing
	number, index                                int
	power                                        int8
	locked, bfv, configDrive, noText, deleted    bool
	diskAuto                                     bool
	shelvedImage                                 string
	wasStopped                                   bool
	v4, v6                                       string
}

type serverFault struct {
	code             int
	message, details string
	at               time.Time
}

type action struct {
	name, request, user, project string
	at, done                     time.Time
	failed                       bool
}

type keypair struct {
	name, public, fingerprint, kind, user string
	created                               time.Time
	num                                   int
}

type serverGroup struct {
	row
	name, policy, user string
	rules              map[string]any
	members            []string
}

func (c *Cloud) hosts() []*host {
	if c.compute.hostList == nil {
		n := 0
		for _, zone := range c.cfg.Zones {
			for range c.cfg.HostsPerZone {
				n++
				c.compute.hostList = append(c.compute.hostList, &host{name: c.cfg.Name + "-compute" + strconv.Itoa(n), zone: zone})
			}
		}
	}
	return c.compute.hostList
}

func (c *Cloud) seedCompute() {
	s := &c.compute
	s.servers, s.flavors, s.groups = newTable[*server](), newTable[*flavor](), newTable[*serverGroup]()
	s.keys, s.quotas, s.usage = map[string]map[string]*keypair{}, map[string]map[string]int{}, map[string]*usage{}
	c.hosts()
	for _, f := range []flavor{{name: "m1.tiny", ram: 64, vcpus: 1, disk: 1}, {name: "m1.small", ram: 128, vcpus: 1, disk: 1}, {name: "m1.medium", ram: 256, vcpus: 2, disk: 1}} {
		f.row, f.public, f.rxtx = row{ID: newID()}, true, 1
		s.flavors.add(&f)
	}
}

func (c *Cloud) usageOf(project string) *usage {
	u := c.compute.usage[project]
	if u == nil {
		u = &usage{}
		c.compute.usage[project] = u
	}
	return u
}

// hostID is how Nova shows a host to a tenant.
func hostID(project string, h *host) string {
	if h == nil {
		return ""
	}
	sum := sha256.Sum224([]byte(project + h.name))
	return hex.EncodeToString(sum[:])
}

func policyError(rule string) error {
	return fail(http.StatusForbidden, "Policy doesn't allow os_compute_api:"+rule+" to be performed.")
}

func (c *Cloud) computeRoutes() {
	h := func(pattern string, f handler) { c.handle(computeSvc, pattern, needsToken, f) }
	o := func(pattern string, f handler) { c.handle(computeSvc, pattern, open, f) }
	o("GET /{$}", c.computeVersions)
	o("GET ", c.computeVersions)
	o("GET /v2.1", c.computeVersion)
	o("GET /v2.1/{$}", c.computeVersion)
	const s = " /v2.1/servers"
	h("GET"+s, c.listServers(false))
	h("GET"+s+"/detail", c.listServers(true))
	h("POST"+s, c.createServer)
	h("GET"+s+"/{id}", c.showServer)
	h("PUT"+s+"/{id}", c.updateServer)
	h("DELETE"+s+"/{id}", c.deleteServer)
	h("POST"+s+"/{id}/action", c.serverAction)
	h("POST"+s+"/{id}/remote-consoles", c.remoteConsole)
	h("GET"+s+"/{id}/ips", c.serverIPs)
	h("GET"+s+"/{id}/ips/{network}", c.serverIPs)
	h("GET"+s+"/{id}/topology", c.serverTopology)
	h("GET"+s+"/{id}/diagnostics", c.serverDiagnostics)
	h("GET"+s+"/{id}/os-security-groups", c.serverSecurityGroups)
	h("GET"+s+"/{id}/os-server-password", func(q *request) (*reply, error) {
		if _, err := c.serverAt(q); err != nil {
			return nil, err
		}
		return ok(object{{"password", ""}})
	})
	h("DELETE"+s+"/{id}/os-server-password", func(q *request) (*reply, error) { // there never is one
		if _, err := c.serverAt(q); err != nil {
			return nil, err
		}
		return &reply{status: 204}, nil
	})
	h("GET"+s+"/{id}/os-instance-actions", c.listActions)
	h("GET"+s+"/{id}/os-instance-actions/{request}", c.showAction)
	h("GET"+s+"/{id}/migrations", c.noMigrations)
	c.serverPartRoutes(h, s)
	c.flavorRoutes(h)
	c.keyRoutes(h)
	c.hostRoutes(h)
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		h(m+" /", unknownPath)
	}
}

// serverPartRoutes are the routes of what hangs on a server.
func (c *Cloud) serverPartRoutes(h func(string, handler), s string) {
	h("GET"+s+"/{id}/tags", c.serverTags)
	h("PUT"+s+"/{id}/tags", c.serverTags)
	h("DELETE"+s+"/{id}/tags", c.serverTags)
	h("GET"+s+"/{id}/tags/{tag}", c.serverTag)
	h("PUT"+s+"/{id}/tags/{tag}", c.serverTag)
	h("DELETE"+s+"/{id}/tags/{tag}", c.serverTag)
	h("GET"+s+"/{id}/metadata", c.serverMetadata)
	h("POST"+s+"/{id}/metadata", c.serverMetadata)
	h("PUT"+s+"/{id}/metadata", c.serverMetadata)
	h("GET"+s+"/{id}/metadata/{key}", c.serverMeta)
	h("PUT"+s+"/{id}/metadata/{key}", c.serverMeta)
	h("DELETE"+s+"/{id}/metadata/{key}", c.serverMeta)
	h("GET"+s+"/{id}/os-interface", c.listInterfaces)
	h("POST"+s+"/{id}/os-interface", c.attachInterface)
	h("GET"+s+"/{id}/os-interface/{port}", c.showInterface)
	h("DELETE"+s+"/{id}/os-interface/{port}", c.detachInterface)
	h("GET"+s+"/{id}/os-volume_attachments", c.listVolumeAttachments)
	h("POST"+s+"/{id}/os-volume_attachments", c.attachVolume)
	h("GET"+s+"/{id}/os-volume_attachments/{volume}", c.showVolumeAttachment)
	h("PUT"+s+"/{id}/os-volume_attachments/{volume}", c.updateVolumeAttachment)
	h("DELETE"+s+"/{id}/os-volume_attachments/{volume}", c.detachVolume)
}

func (c *Cloud) computeVersions(q *request) (*reply, error) {
	link := func(v string) []object { return []object{{{"rel", "self"}, {"href", q.url("/" + v + "/")}}} }
	return ok(object{{"versions", []object{
		{{"id", "v2.0"}, {"status", "SUPPORTED"}, {"version", ""}, {"min_version", ""}, {"updated", "2011-01-21T11:33:21Z"}, {"links", link("v2")}},
		{{"id", "v2.1"}, {"status", "CURRENT"}, {"version", "2." + strconv.Itoa(c.cfg.ComputeMax)}, {"min_version", "2.1"}, {"updated", "2013-07-23T11:33:21Z"}, {"links", link("v2.1")}},
	}}})
}

func (c *Cloud) computeVersion(q *request) (*reply, error) {
	return ok(object{{"version", object{{"id", "v2.1"}, {"status", "CURRENT"}, {"version", "2." + strconv.Itoa(c.cfg.ComputeMax)}, {"min_version", "2.1"}, {"updated", "2013-07-23T11:33:21Z"},
		{"links", []object{{{"rel", "self"}, {"href", q.url("/v2.1/")}}, {{"rel", "describedby"}, {"type", "text/html"}, {"href", "http://docs.openstack.org/"}}}},
		{"media-types", []object{{{"base", "application/json"}, {"type", "application/vnd.openstack.compute+json;version=2.1"}}}}}}})
}

// serverAt returns the server of the path if the caller may see it.
func (c *Cloud) serverAt(q *request) (*server, error) {
	if s, found := c.compute.servers.get(q.path("id")); found && (q.admin || s.Project == q.project) {
		return s, nil
	}
	return nil, fail(404, "Instance "+q.path("id")+" could not be found.")
}

func (c *Cloud) touchServer(s *server) { s.updated = c.now() }

// begin notes that a verb has begun and overtakes what earlier ones have scheduled.
func (c *Cloud) begin(q *request, s *server, name string) *action {
	s.gen++
	c.touchServer(s)
	return c.note(q, s, name)
}

// note adds an entry to the server's list of actions.
func (c *Cloud) note(q *request, s *server, name string) *action {
	a := &action{name: name, request: q.id, user: q.user.ID, project: q.project, at: c.now()}
	s.actions = append(s.actions, a)
	return a
}

// then runs f after d, unless the server is gone or another verb has begun by then.
func (c *Cloud) then(s *server, d time.Duration, f func()) {
	gen := s.gen
	c.after(d, func() {
		if s.gen == gen && !s.deleted {
			f()
			c.touchServer(s)
		}
	})
}

func (c *Cloud) setFault(s *server, code int, message string) {
	s.vm, s.task = "error", ""
	s.fault = &serverFault{code: code, message: message, at: c.now()}
}
