package emulator

import (
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// netRequest is one entry of "networks".
type netRequest struct {
	network *network
	port    *port
	fixed   string
	tag     string
}

// blockDevice is one entry of block_device_mapping_v2.
type blockDevice struct {
	source, dest, uuid string
	boot               bool
	size               int
	deleteToo          bool
	volumeType, tag    string
}

// build is a checked request for servers.
type build struct {
	server   *server // the pattern for all of them
	nets     []netRequest
	devices  []blockDevice
	min, max int
	image    *image
	sgIDs    []string
}

var uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// serverMembers are the members of "server" in a POST; the number is the microversion that brought it, or took it away when negative.
func serverMembers() map[string]int {
	return map[string]int{"name": 1, "imageRef": 1, "flavorRef": 1, "adminPass": 1, "metadata": 1, "networks": 1, "OS-DCF:diskConfig": 1, "accessIPv4": 1, "accessIPv6": 1,
		"personality": -57, "availability_zone": 1, "block_device_mapping": 1, "block_device_mapping_v2": 1, "config_drive": 1, "key_name": 1, "max_count": 1, "min_count": 1,
		"return_reservation_id": 1, "security_groups": 1, "user_data": 1, "description": 19, "tags": 52, "trusted_image_certificates": 63, "host": 74, "hypervisor_hostname": 74, "hostname": 90}
}

func badField(name string, value any, why string) error {
	return fail(400, "Invalid input for field/attribute "+name+". Value: "+toText(value)+". "+why)
}

func checkServerBody(q *request) (doc, error) {
	d := q.body.sub("server")
	if d == nil {
		return nil, fail(400, "'server' is a required property")
	}
	known := serverMembers()
	for _, k := range sortedKeys(d) {
		since, found := known[k]
		if !found || since > q.minor || since < 0 && q.minor >= -since {
			return nil, badField("server", string(appendJSON(nil, map[string]any(d))), "Additional properties are not allowed ('"+k+"' was unexpected)")
		}
	}
	if !d.has("name") || !d.has("flavorRef") || q.at(37) && !d.has("networks") {
		missing := "networks"
		if !d.has("flavorRef") {
			missing = "flavorRef"
		}
		if !d.has("name") {
			missing = "name"
		}
		return nil, badField("server", string(appendJSON(nil, map[string]any(d))), "'"+missing+"' is a required property")
	}
	if err := checkServerName(d["name"]); err != nil {
		return nil, err
	}
	if img, given := d["imageRef"]; given {
		if text, isText := img.(string); !isText || text != "" && !uuidPattern.MatchString(text) {
			return nil, badField("imageRef", img, "'"+toText(img)+"' is not valid under any of the given schemas")
		}
	}
	return d, checkServerParts(q, d)
}

func checkServerName(v any) error {
	name, isText := v.(string)
	switch {
	case !isText:
		return badField("name", v, toText(v)+" is not of type 'string'")
	case name == "":
		return badField("name", v, "'' is too short")
	case len([]rune(name)) > 255:
		return badField("name", v, "'"+name+"' is too long")
	}
	return nil
}

func checkServerParts(q *request, d doc) error {
	for k, v := range d.sub("metadata") {
		if text, isText := v.(string); !isText || len(text) > 255 || k == "" || len(k) > 255 {
			return badField("metadata", string(appendJSON(nil, v)), "'"+toText(v)+"' is not of type 'string' or too long")
		}
	}
	if d.has("metadata") && d.sub("metadata") == nil {
		return badField("metadata", d["metadata"], toText(d["metadata"])+" is not of type 'object'")
	}
	if len(d.sub("metadata")) > 128 {
		return fail(403, "Maximum number of metadata items exceeds 128")
	}
	for _, t := range anyStrings(d.list("tags")) {
		if t == "" || len(t) > 60 || strings.ContainsAny(t, ",/") {
			return badField("tags", t, "'"+t+"' is not a valid tag")
		}
	}
	if len(d.list("tags")) > 50 {
		return badField("tags", "", "is too long")
	}
	if n, isNumber := d.num("min_count"); d.has("min_count") && (!isNumber || n < 1) {
		return badField("min_count", d["min_count"], toText(d["min_count"])+" is less than the minimum of 1")
	}
	if n, isNumber := d.num("max_count"); d.has("max_count") && (!isNumber || n < 1) {
		return badField("max_count", d["max_count"], toText(d["max_count"])+" is less than the minimum of 1")
	}
	return nil
}

func sortedKeys(d doc) []string {
	keys := make([]string, 0, len(d))
	for k := range d {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// createServer handles POST /servers.
func (c *Cloud) createServer(q *request) (*reply, error) {
	d, err := checkServerBody(q)
	if err != nil {
		return nil, err
	}
	b, err := c.planBuild(q, d)
	if err != nil {
		return nil, err
	}
	if err := c.serverQuota(q.project, b.max, b.max*b.server.flavor.vcpus, b.max*b.server.flavor.ram); err != nil {
		return nil, err
	}
	var first *server
	for i := range b.max {
		s := c.startServer(q, b, i)
		if first == nil {
			first = s
		}
	}
	if d.truth("return_reservation_id", false) {
		return accepted(object{{"reservation_id", b.server.reservation}})
	}
	groups := []object{}
	for _, name := range b.server.groupNames {
		groups = append(groups, object{{"name", name}})
	}
	if len(groups) == 0 {
		groups = append(groups, object{{"name", "default"}})
	}
	password := d.str("adminPass")
	if password == "" {
		password = newHex()[:12]
	}
	rep := &reply{status: 202, body: object{{"server", object{{"id", first.ID}, {"links", q.bothLinks("servers", first.ID)}, {"OS-DCF:diskConfig", first.diskConfig()},
		{"security_groups", groups}, {"adminPass", password}}}}}
	return rep.set("Location", q.url("/v2.1/servers/"+first.ID)), nil
}

// planBuild checks everything that a request refers to.
func (c *Cloud) planBuild(q *request, d doc) (*build, error) {
	b := &build{min: 1, max: 1}
	s := &server{user: q.user.ID, name: d.str("name"), key: d.str("key_name"), description: d.str("description"), userData: d.str("user_data"), meta: d.stringMap("metadata"),
		tags: anyStrings(d.list("tags")), v4: d.str("accessIPv4"), v6: d.str("accessIPv6"), reservation: "r-" + newHex()[:8], configDrive: d.truth("config_drive", false),
		diskAuto: d.str("OS-DCF:diskConfig") == "AUTO", hostname: d.str("hostname")}
	s.Project = q.project
	b.server = s
	s.noText = !d.has("description") || d["description"] == nil
	if len(s.tags) == 0 {
		s.tags = nil
	}
	if n, given := d.num("min_count"); given {
		b.min, b.max = n, n
	}
	if n, given := d.num("max_count"); given {
		b.max = n
	}
	if b.min > b.max {
		return nil, fail(400, "min_count must be <= max_count")
	}
	var err error
	if s.flavor, err = c.flavorFor(q, toText(d["flavorRef"])); err != nil {
		return nil, fail(400, "Flavor "+toText(d["flavorRef"])+" could not be found.")
	}
	if err := c.planZone(q, s, d); err != nil {
		return nil, err
	}
	if s.key != "" && c.compute.keys[q.user.ID][s.key] == nil {
		return nil, fail(400, "Invalid key_name provided.")
	}
	if err := c.planDisks(q, b, d); err != nil {
		return nil, err
	}
	if err := c.planGroups(q, b, d); err != nil {
		return nil, err
	}
	if err := c.planHints(q, s); err != nil {
		return nil, err
	}
	return b, c.planNetworks(q, b, d)
}

func (c *Cloud) planZone(q *request, s *server, d doc) error {
	zone := d.str("availability_zone")
	zone, forced, _ := strings.Cut(zone, ":")
	s.zone = zone
	if forced != "" {
		if !q.admin {
			return policyError("servers:create:forced_host")
		}
		for _, h := range c.hosts() {
			if h.name == strings.TrimPrefix(forced, ":") {
				s.host, s.zone = h, h.zone
				return nil
			}
		}
		return fail(400, "Compute host "+forced+" could not be found.")
	}
	if zone != "" && !slices.Contains(c.cfg.Zones, zone) {
		return fail(400, "The requested availability zone is not available")
	}
	return nil
}

func (c *Cloud) planHints(q *request, s *server) error {
	hints := q.body.sub("os:scheduler_hints")
	if hints == nil {
		hints = q.body.sub("OS-SCH-HNT:scheduler_hints")
	}
	id := hints.str("group")
	if id == "" {
		return nil
	}
	if !uuidPattern.MatchString(id) {
		return badField("group", id, "'"+id+"' is not a 'uuid'")
	}
	g, found := c.compute.groups.get(id)
	if !found || g.Project != q.project && !q.admin {
		return fail(400, "Instance group "+id+" could not be found.")
	}
	s.group = id
	return nil
}

// planDisks decides what the server boots from.
func (c *Cloud) planDisks(q *request, b *build, d doc) error {
	id := d.str("imageRef")
	for _, one := range d.list("block_device_mapping_v2") {
		m, _ := one.(map[string]any)
		if err := c.planDevice(q, b, doc(m)); err != nil {
			return err
		}
	}
	for _, one := range d.list("block_device_mapping") {
		m, _ := one.(map[string]any)
		b.devices = append(b.devices, blockDevice{source: "volume", dest: "volume", uuid: doc(m).str("volume_id"), boot: len(b.devices) == 0 && id == "", deleteToo: doc(m).truth("delete_on_termination", false)})
	}
	booting := slices.ContainsFunc(b.devices, func(x blockDevice) bool { return x.boot })
	if id == "" {
		if !booting {
			return fail(400, "Missing imageRef attribute")
		}
		b.server.bfv = true
		return nil
	}
	img, found := c.image.images.get(id)
	if !found || !c.imageSeen(img, q.project, q.admin) {
		return fail(400, "Can not find requested image")
	}
	return b.useImage(img)
}

func (b *build) useImage(img *image) error {
	f := b.server.flavor
	switch {
	case img.status != "active":
		return fail(400, "Image "+img.ID+" is not active.")
	case img.minRAM > f.ram:
		return fail(400, "Flavor's memory is too small for requested image.")
	case img.minDisk > f.disk && f.disk > 0:
		return fail(400, "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "+strconv.Itoa(f.disk<<30)+" bytes, minimum size is "+strconv.Itoa(img.minDisk<<30)+" bytes.")
	}
	b.image, b.server.imageID = img, img.ID
	return nil
}

func (c *Cloud) planDevice(q *request, b *build, m doc) error {
	index, isNumber := m.num("boot_index")
	x := blockDevice{source: m.str("source_type"), dest: m.str("destination_type"), uuid: m.str("uuid"), boot: isNumber && index == 0, deleteToo: m.truth("delete_on_termination", false),
		volumeType: m.str("volume_type"), tag: m.str("tag")}
	x.size, _ = m.num("volume_size")
	if x.dest == "" {
		x.dest = "volume"
	}
	invalid := func(why string) error { return fail(400, "Block Device Mapping is Invalid: "+why) }
	switch x.source {
	case "volume":
		v, found := c.volume.volumes.get(x.uuid)
		if !found || v.Project != q.project && !q.admin {
			return invalid("failed to get volume " + x.uuid + ".")
		}
		if v.status != "available" && !(v.status == "in-use" && v.multiattach) {
			return fail(400, "Invalid volume: Volume "+v.ID+" status must be 'available' or 'reserved', but the current status is '"+v.status+"'.")
		}
	case "image":
		img, found := c.image.images.get(x.uuid)
		if !found || !c.imageSeen(img, q.project, q.admin) {
			return invalid("failed to get image " + x.uuid + ".")
		}
		if x.dest == "local" { // the image in another spelling
			return nil
		}
		if x.size == 0 {
			x.size = max(1, b.server.flavor.disk)
		}
	case "snapshot":
		sn, found := c.volume.snapshots.get(x.uuid)
		if !found || sn.Project != q.project && !q.admin {
			return invalid("failed to get snapshot " + x.uuid + ".")
		}
		x.size = max(x.size, sn.size)
	case "blank":
		if x.dest == "local" {
			return nil
		}
		if x.size == 0 {
			return invalid("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")
		}
	default:
		return badField("source_type", x.source, "'"+x.source+"' is not one of ['volume', 'image', 'snapshot', 'blank']")
	}
	b.devices = append(b.devices, x)
	return nil
}

func (c *Cloud) planGroups(q *request, b *build, d doc) error {
	for _, one := range d.list("security_groups") {
		m, _ := one.(map[string]any)
		name := doc(m).str("name")
		var hits []string
		for _, g := range c.network.groups.of(q.project) {
			if g.ID == name || g.name == name {
				hits = append(hits, g.ID)
			}
		}
		if len(hits) == 0 && name == "default" {
			hits = []string{c.defaultGroup(q.project).ID}
		}
		if len(hits) == 0 {
			return fail(400, "Unable to find security_group with name or id '"+name+"'")
		}
		if len(hits) > 1 {
			return fail(409, "Multiple security_groups found matching name '"+name+"'. Use an ID to be more specific.")
		}
		b.server.groupNames = append(b.server.groupNames, name)
		b.sgIDs = append(b.sgIDs, hits[0])
	}
	return nil
}

func (c *Cloud) planNetworks(q *request, b *build, d doc) error {
	switch v := d["networks"].(type) {
	case string:
		if v == "auto" {
			return c.autoNetwork(q, b, true)
		}
		if v != "none" {
			return badField("networks", v, "'"+v+"' is not valid under any of the given schemas")
		}
		return nil
	case []any:
		for _, one := range v {
			m, _ := one.(map[string]any)
			r, err := c.planNetwork(q, b, doc(m))
			if err != nil {
				return err
			}
			b.nets = append(b.nets, r)
		}
		if len(v) > 0 {
			return nil
		}
	}
	return c.autoNetwork(q, b, false)
}

// autoNetwork takes the only network that the project has.
func (c *Cloud) autoNetwork(q *request, b *build, asked bool) error {
	var mine []*network
	for _, n := range c.network.networks.all {
		if n.usedBy(q) && !n.external && len(n.subnets) > 0 {
			mine = append(mine, n)
		}
	}
	switch {
	case len(mine) == 1:
		b.nets = []netRequest{{network: mine[0]}}
	case len(mine) > 1:
		return fail(409, "Multiple possible networks found, use a Network ID to be more specific.")
	case asked:
		return fail(400, "Unable to automatically allocate a network for project "+q.project)
	}
	return nil
}

func (c *Cloud) planNetwork(q *request, b *build, m doc) (netRequest, error) {
	r := netRequest{fixed: m.str("fixed_ip"), tag: m.str("tag")}
	if id := m.str("port"); id != "" {
		p, found := c.network.ports.get(id)
		if !found || !q.admin && p.Project != q.project && p.network.Project != q.project {
			return r, fail(400, "Port id "+id+" could not be found.")
		}
		if p.deviceID != "" || slices.ContainsFunc(b.nets, func(o netRequest) bool { return o.port == p }) {
			return r, fail(409, "Port "+id+" is still in use.")
		}
		if b.max > 1 {
			return r, fail(400, "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.")
		}
		r.port, r.network = p, p.network
		return r, nil
	}
	id := m.str("uuid")
	n, found := c.network.networks.get(id)
	if !found || !n.seenBy(q) {
		return r, fail(400, "Network "+id+" could not be found.")
	}
	if n.external && !n.usedBy(q) && !q.admin {
		return r, fail(403, "It is not allowed to create an interface on external network "+id)
	}
	if len(n.subnets) == 0 {
		return r, fail(400, "Network "+id+" requires a subnet in order to boot instances on.")
	}
	if limit := c.netLimit("port", q.project); limit >= 0 && c.netUsed("port", q.project)+b.max > limit {
		return r, fail(403, "Maximum number of ports exceeded")
	}
	r.network = n
	return r, nil
}
