package emulator

import (
	"encoding/json"
	"slices"
	"strings"
)

// verb describes an action that moves a server from one state to another.
type verb struct {
	name  string   // as Nova calls it in errors and in the list of actions
	from  []string // vm_states that allow it
	tasks []string // task_states that allow it besides none
	task  string   // while it runs
	vm    string   // afterwards; "" keeps it
	power int8     // afterwards; -1 keeps it
}

func simpleVerbs() map[string]verb {
	return map[string]verb{
		"os-start": {name: "start", from: []string{"stopped"}, task: "powering-on", vm: "active", power: 1},
		"os-stop":  {name: "stop", from: []string{"active", "error"}, task: "powering-off", vm: "stopped", power: 4},
		"pause":    {name: "pause", from: []string{"active"}, task: "pausing", vm: "paused", power: 3},
		"unpause":  {name: "unpause", from: []string{"paused"}, task: "unpausing", vm: "active", power: 1},
		"suspend":  {name: "suspend", from: []string{"active"}, task: "suspending", vm: "suspended", power: 4},
		"resume":   {name: "resume", from: []string{"suspended"}, task: "resuming", vm: "active", power: 1},
		"unrescue": {name: "unrescue", from: []string{"rescued"}, task: "unrescuing", vm: "active", power: 1},
		"rescue":   {name: "rescue", from: []string{"active", "stopped", "error"}, task: "rescuing", vm: "rescued", power: 1},
	}
}

type actionFunc func(q *request, s *server, arg any) (*reply, error)

// serverAction handles POST /servers/{id}/action.
func (c *Cloud) serverAction(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	if len(q.body) != 1 {
		return nil, fail(400, "Malformed request body")
	}
	for name, arg := range q.body {
		if v, simple := simpleVerbs()[name]; simple {
			return c.simple(q, s, v, arg)
		}
		if f := c.actionFunc(q, name); f != nil {
			return f(q, s, arg)
		}
		return nil, fail(400, "There is no such action: "+name)
	}
	return nil, fail(400, "Malformed request body")
}

func (c *Cloud) actionFunc(q *request, name string) actionFunc {
	if strings.HasPrefix(name, "os-get") && strings.HasSuffix(name, "Console") {
		return c.oldConsole
	}
	return map[string]actionFunc{
		"reboot": c.reboot, "lock": c.lock, "unlock": c.unlock, "shelve": c.shelve, "shelveOffload": c.shelveOffload, "unshelve": c.unshelve,
		"resize": c.resize, "confirmResize": c.confirmResize, "revertResize": c.revertResize, "migrate": c.migrate, "rebuild": c.rebuild,
		"createImage": c.snapshotServer, "createBackup": c.backupServer, "os-getConsoleOutput": c.consoleOutput, "changePassword": c.changePassword, "os-resetState": c.resetState,
		"forceDelete": c.forceDelete, "addSecurityGroup": c.addServerGroup, "removeSecurityGroup": c.removeServerGroup, "restore": c.restore,
	}[name]
}

// may refuses a verb on a locked server and in the wrong state.
func may(q *request, s *server, name string, from []string, tasks ...string) error {
	if s.locked && !q.admin {
		return locked(s)
	}
	if s.task != "" && !slices.Contains(tasks, s.task) {
		return fail(409, "Cannot '"+name+"' instance "+s.ID+" while it is in task_state "+s.task)
	}
	if from != nil && !slices.Contains(from, s.vm) {
		return fail(409, "Cannot '"+name+"' instance "+s.ID+" while it is in vm_state "+s.vm)
	}
	return nil
}

func (c *Cloud) simple(q *request, s *server, v verb, arg any) (*reply, error) {
	if s.host == nil && s.task == "" { // Nova has no host to ask
		return nil, fail(409, "Instance "+s.ID+" is not ready")
	}
	if err := may(q, s, v.name, v.from, v.tasks...); err != nil {
		return nil, err
	}
	a := c.begin(q, s, v.name)
	s.task = v.task
	c.then(s, c.cfg.Durations.Action, func() { c.finish(s, a, v.vm, v.power) })
	if v.name == "rescue" {
		m, _ := arg.(map[string]any)
		pass := doc(m).str("adminPass")
		if pass == "" {
			pass = newHex()[:12]
		}
		return ok(object{{"adminPass", pass}})
	}
	return accepted(nil)
}

func (c *Cloud) finish(s *server, a *action, vm string, power int8) {
	if vm != "" {
		s.vm = vm
	}
	if power >= 0 {
		s.power = power
	}
	s.task = ""
	a.done = c.now()
}

func (c *Cloud) reboot(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	kind := strings.ToUpper(doc(m).str("type"))
	from := []string{"active"}
	switch kind {
	case "SOFT":
	case "HARD":
		from = []string{"active", "stopped", "paused", "suspended", "error"}
	default:
		return nil, badField("type", doc(m)["type"], "'"+toText(doc(m)["type"])+"' is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']")
	}
	if err := may(q, s, "reboot", from, "rebooting"); err != nil {
		return nil, err
	}
	a := c.begin(q, s, "reboot")
	s.task = "rebooting"
	if kind == "HARD" {
		s.task = "rebooting_hard"
	}
	c.then(s, c.cfg.Durations.Action, func() { c.finish(s, a, "active", 1) })
	return accepted(nil)
}

func (c *Cloud) lock(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	s.locked, s.lockedReason = true, doc(m).str("locked_reason")
	c.note(q, s, "lock").done = c.now()
	c.touchServer(s)
	return accepted(nil)
}

func (c *Cloud) unlock(q *request, s *server, _ any) (*reply, error) {
	s.locked, s.lockedReason = false, ""
	c.note(q, s, "unlock").done = c.now()
	c.touchServer(s)
	return accepted(nil)
}

func (c *Cloud) shelve(q *request, s *server, _ any) (*reply, error) {
	if err := may(q, s, "shelve", []string{"active", "stopped", "paused", "suspended"}); err != nil {
		return nil, err
	}
	a := c.begin(q, s, "shelve")
	s.task = "shelving"
	if !s.bfv {
		i := c.snapshotImage(q, s, s.name+"-shelved", nil)
		s.shelvedImage = i.ID
		s.task = "shelving_image_uploading"
		c.setImageData(i, s.disk)
	}
	c.then(s, c.cfg.Durations.Action, func() {
		c.offload(s)
		c.finish(s, a, "shelved_offloaded", 4)
	})
	return accepted(nil)
}

func (c *Cloud) offload(s *server) {
	if s.host != nil {
		c.take(s.host, s.flavor, -1)
		s.host = nil
	}
}

func (c *Cloud) shelveOffload(q *request, s *server, _ any) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-shelve:shelve_offload")
	}
	if err := may(q, s, "shelveOffload", []string{"shelved"}); err != nil {
		return nil, err
	}
	a := c.begin(q, s, "shelveOffload")
	s.task = "shelving_offloading"
	c.then(s, c.cfg.Durations.Action, func() {
		c.offload(s)
		c.finish(s, a, "shelved_offloaded", 4)
	})
	return accepted(nil)
}

func (c *Cloud) unshelve(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	if err := may(q, s, "unshelve", []string{"shelved", "shelved_offloaded"}); err != nil {
		return nil, err
	}
	if z := doc(m).str("availability_zone"); z != "" && q.at(77) {
		if !slices.Contains(c.cfg.Zones, z) {
			return nil, fail(400, "The requested availability zone is not available")
		}
		s.zone = z
	}
	a := c.begin(q, s, "unshelve")
	s.task = "unshelving"
	c.then(s, c.cfg.Durations.Action, func() {
		if s.host = c.choose(s, nil); s.host == nil {
			s.task, a.failed, a.done = "", true, c.now()
			return
		}
		c.take(s.host, s.flavor, 1)
		if i, found := c.image.images.get(s.shelvedImage); found {
			c.dropImage(i)
		}
		s.shelvedImage, s.launched = "", c.now()
		c.finish(s, a, "active", 1)
	})
	return accepted(nil)
}

func (c *Cloud) resize(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	ref := toText(doc(m)["flavorRef"])
	f, err := c.flavorFor(q, ref)
	if err != nil {
		return nil, fail(400, "Flavor "+ref+" could not be found.")
	}
	if f == s.flavor {
		return nil, fail(400, "When resizing, instances must change flavor!")
	}
	if err := may(q, s, "resize", []string{"active", "stopped"}); err != nil {
		return nil, err
	}
	if f.disk == 0 && s.flavor.disk > 0 && !s.bfv {
		return nil, fail(400, "Resize to zero disk flavor is not allowed.")
	}
	if err := c.serverQuota(s.Project, 0, f.vcpus-s.flavor.vcpus, f.ram-s.flavor.ram); err != nil {
		return nil, err
	}
	c.startResize(q, s, f, "resize")
	return accepted(nil)
}

func (c *Cloud) migrate(q *request, s *server, _ any) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-migrate-server:migrate")
	}
	if err := may(q, s, "migrate", []string{"active", "stopped"}); err != nil {
		return nil, err
	}
	c.startResize(q, s, s.flavor, "migrate")
	return accepted(nil)
}

func (c *Cloud) startResize(q *request, s *server, f *flavor, name string) {
	a := c.begin(q, s, name)
	s.wasStopped = s.vm == "stopped"
	s.task = "resize_prep"
	c.then(s, c.cfg.Durations.Resize/2, func() {
		s.task = "resize_migrating"
		c.then(s, c.cfg.Durations.Resize/2, func() {
			s.oldFlavor = s.flavor
			c.swapFlavor(s, f)
			s.launched = c.now()
			c.finish(s, a, "resized", -1)
		})
	})
}

// swapFlavor moves the server's share of host and quota to another size.
func (c *Cloud) swapFlavor(s *server, f *flavor) {
	u := c.usageOf(s.Project)
	u.cores, u.ram = u.cores+f.vcpus-s.flavor.vcpus, u.ram+f.ram-s.flavor.ram
	if s.host != nil {
		c.take(s.host, s.flavor, -1)
		c.take(s.host, f, 1)
	}
	s.flavor = f
}

func (c *Cloud) afterResize(s *server) (vm string, power int8) {
	if s.wasStopped {
		return "stopped", 4
	}
	return "active", 1
}

func (c *Cloud) confirmResize(q *request, s *server, _ any) (*reply, error) {
	if err := may(q, s, "confirmResize", []string{"resized"}); err != nil {
		return nil, err
	}
	a := c.begin(q, s, "confirmResize")
	s.oldFlavor = nil
	vm, power := c.afterResize(s)
	c.then(s, c.cfg.Durations.Resize/2, func() { c.finish(s, a, vm, power) })
	return noContent()
}

func (c *Cloud) revertResize(q *request, s *server, _ any) (*reply, error) {
	if err := may(q, s, "revertResize", []string{"resized"}); err != nil {
		return nil, err
	}
	a := c.begin(q, s, "revertResize")
	s.task = "resize_reverting"
	c.then(s, c.cfg.Durations.Resize, func() {
		if s.oldFlavor != nil {
			c.swapFlavor(s, s.oldFlavor)
		}
		s.oldFlavor, s.launched = nil, c.now()
		vm, power := c.afterResize(s)
		c.finish(s, a, vm, power)
	})
	return accepted(nil)
}

func (c *Cloud) rebuild(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	d := doc(m)
	img, found := c.image.images.get(d.str("imageRef"))
	if !found || !c.imageSeen(img, q.project, q.admin) {
		return nil, fail(400, "Cannot find image for rebuild")
	}
	if err := may(q, s, "rebuild", []string{"active", "stopped", "error"}); err != nil {
		return nil, err
	}
	b := &build{server: &server{flavor: s.flavor}}
	if err := b.useImage(img); err != nil {
		return nil, err
	}
	if d.has("name") {
		if err := checkServerName(d["name"]); err != nil {
			return nil, err
		}
		s.name = d.str("name")
	}
	if d.has("metadata") {
		s.meta = d.stringMap("metadata")
	}
	if d.has("description") && q.at(19) {
		s.description, s.noText = d.str("description"), d["description"] == nil
	}
	if d.has("key_name") && q.at(54) {
		s.key = d.str("key_name")
	}
	if d.has("user_data") && q.at(57) {
		s.userData = d.str("user_data")
	}
	a := c.begin(q, s, "rebuild")
	stopped := s.vm == "stopped"
	s.task, s.imageID, s.disk, s.fault = "rebuilding", img.ID, img.data, nil
	c.then(s, c.cfg.Durations.Action, func() {
		s.launched = c.now()
		c.finish(s, a, "active", 1)
		if stopped {
			s.vm, s.power = "stopped", 4
		}
	})
	pass := d.str("adminPass")
	if pass == "" {
		pass = newHex()[:12]
	}
	v := c.serverView(q, s, viewRebuild)
	if q.at(54) {
		v = append(v, kv{"key_name", orNil(s.key)})
	}
	if q.at(57) {
		v = append(v, kv{"user_data", orNil(s.userData)})
	}
	rep := &reply{status: 202, body: object{{"server", append(v, kv{"adminPass", pass})}}}
	return rep.set("Location", q.url("/v2.1/servers/"+s.ID)), nil
}

const consoleText = "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE"

func (c *Cloud) consoleOutput(q *request, s *server, arg any) (*reply, error) {
	if s.vm == "building" {
		return nil, fail(409, "Instance "+s.ID+" is not ready")
	}
	m, _ := arg.(map[string]any)
	lines := strings.Split(consoleText, "\n")
	if n, given := doc(m).num("length"); given && n >= 0 && n < len(lines) {
		lines = lines[len(lines)-n:]
	}
	return ok(object{{"output", strings.Join(lines, "\n")}})
}

func (c *Cloud) changePassword(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	if doc(m).str("adminPass") == "" {
		return nil, badField("changePassword", string(mustJSON(arg)), "'adminPass' is a required property")
	}
	if err := may(q, s, "changePassword", []string{"active"}); err != nil {
		return nil, err
	}
	c.note(q, s, "changePassword").done = c.now()
	return accepted(nil)
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return raw
}

func (c *Cloud) resetState(q *request, s *server, arg any) (*reply, error) {
	if !q.admin {
		return nil, policyError("os-admin-actions:reset_state")
	}
	m, _ := arg.(map[string]any)
	state := doc(m).str("state")
	if state != "active" && state != "error" {
		return nil, badField("state", state, "'"+state+"' is not one of ['active', 'error']")
	}
	c.begin(q, s, "resetState").done = c.now()
	s.vm, s.task = state, ""
	return accepted(nil)
}

func (c *Cloud) forceDelete(q *request, s *server, _ any) (*reply, error) {
	if s.locked && !q.admin {
		return nil, locked(s)
	}
	c.startDelete(q, s)
	return accepted(nil)
}

func (c *Cloud) restore(q *request, s *server, _ any) (*reply, error) {
	return nil, fail(409, "Cannot 'restore' instance "+s.ID+" while it is in vm_state "+s.vm)
}

func (c *Cloud) groupByName(q *request, name string) *secGroup {
	for _, g := range c.network.groups.of(q.project) {
		if g.name == name || g.ID == name {
			return g
		}
	}
	return nil
}

func (c *Cloud) addServerGroup(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	g := c.groupByName(q, doc(m).str("name"))
	if g == nil {
		return nil, fail(404, "Security group "+doc(m).str("name")+" not found for project "+q.project+".")
	}
	for _, p := range c.network.byDevice[s.ID] {
		if !slices.Contains(p.groups, g.ID) && p.security {
			p.groups = append(slices.Clone(p.groups), g.ID)
			c.touch(&p.std)
		}
	}
	return accepted(nil)
}

func (c *Cloud) removeServerGroup(q *request, s *server, arg any) (*reply, error) {
	m, _ := arg.(map[string]any)
	g := c.groupByName(q, doc(m).str("name"))
	hit := false
	for _, p := range c.network.byDevice[s.ID] {
		if g != nil && slices.Contains(p.groups, g.ID) {
			p.groups = slices.DeleteFunc(slices.Clone(p.groups), func(id string) bool { return id == g.ID })
			c.touch(&p.std)
			hit = true
		}
	}
	if !hit {
		return nil, fail(404, "Security group "+doc(m).str("name")+" not associated with the instance "+s.ID)
	}
	return accepted(nil)
}

func (c *Cloud) oldConsole(q *request, s *server, arg any) (*reply, error) {
	if q.at(6) {
		return nil, fail(404, "The resource could not be found.")
	}
	m, _ := arg.(map[string]any)
	return ok(object{{"console", object{{"type", doc(m).str("type")}, {"url", consoleURL(q)}}}})
}

func consoleURL(q *request) string {
	return q.base + "/vnc_auto.html?path=%3Ftoken%3D" + newID()
}

// remoteConsole handles POST /servers/{id}/remote-consoles.
func (c *Cloud) remoteConsole(q *request) (*reply, error) {
	s, err := c.serverAt(q)
	if err != nil {
		return nil, err
	}
	d := q.body.sub("remote_console")
	protocol, kind := d.str("protocol"), d.str("type")
	known := map[string][]string{"vnc": {"novnc"}, "spice": {"spice-html5"}, "rdp": {"rdp-html5"}, "serial": {"serial"}, "mks": {"webmks"}}
	if known[protocol] == nil {
		return nil, badField("protocol", protocol, "'"+protocol+"' is not one of ['vnc', 'spice', 'rdp', 'serial', 'mks']")
	}
	if protocol != "vnc" || kind != "novnc" {
		return nil, fail(400, "Invalid console type "+kind)
	}
	if s.vm == "building" || s.host == nil {
		return nil, fail(409, "Instance not yet ready")
	}
	return ok(object{{"remote_console", object{{"protocol", protocol}, {"type", kind}, {"url", consoleURL(q)}}}})
}
