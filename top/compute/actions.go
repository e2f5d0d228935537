package compute

import (
	"context"
	"encoding/json"
	"net/http"
	"path"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// serverAction is one action of POST /servers/ID/action.
type serverAction struct {
	rule  string // "" is act_on_server
	first int    // minor version that brought it
	last  int    // minor version after which it was gone; 0 is none
	serve func(k *call, raw json.RawMessage) error
}

// serverActions are the actions by their member's name. What is missing here, Nova has removed or no tenant can ask.
var serverActions = map[string]serverAction{
	"os-start":            {serve: plain("os-start")},
	"os-stop":             {serve: plain("os-stop")},
	"pause":               {serve: plain("pause")},
	"unpause":             {serve: plain("unpause")},
	"suspend":             {serve: plain("suspend")},
	"resume":              {serve: plain("resume")},
	"shelve":              {serve: plain("shelve")},
	"shelveOffload":       {serve: plain("shelveOffload")},
	"unrescue":            {serve: plain("unrescue")},
	"restore":             {serve: plain("restore")},
	"trigger_crash_dump":  {first: 17, serve: plain("trigger_crash_dump")},
	"unshelve":            {serve: unshelve},
	"reboot":              {serve: reboot},
	"rescue":              {serve: rescue},
	"resize":              {serve: resize},
	"confirmResize":       {serve: confirmResize},
	"revertResize":        {serve: revertResize},
	"rebuild":             {serve: rebuild},
	"lock":                {serve: lock},
	"unlock":              {serve: unlock},
	"createImage":         {serve: createImage},
	"changePassword":      {serve: changePassword},
	"forceDelete":         {rule: "force_delete", serve: forceDelete},
	"os-resetState":       {rule: "reset_state", serve: resetState},
	"os-getConsoleOutput": {rule: "get_console", serve: consoleOutput},
	"os-getVNCConsole":    {rule: "get_console", last: 5, serve: oldConsole("vnc")},
	"os-getSPICEConsole":  {rule: "get_console", last: 5, serve: oldConsole("spice")},
	"os-getSerialConsole": {rule: "get_console", last: 5, serve: oldConsole("serial")},
	"os-getRDPConsole":    {rule: "get_console", last: 5, serve: oldConsole("rdp")},
	"os-getMKSConsole":    {rule: "get_console", first: 8, last: 8, serve: oldConsole("mks")},
	"addSecurityGroup":    {serve: group((*engine.Service).AddGroup)},
	"removeSecurityGroup": {serve: group((*engine.Service).RemoveGroup)},
	"addFloatingIp":       {last: lastFloating, serve: addFloatingIP},
	"removeFloatingIp":    {last: lastFloating, serve: removeFloatingIP},
	"os-migrate":          {rule: "migrate_server", serve: noMigration},
	"migrate":             {rule: "migrate_server", serve: noMigration},
	"os-migrateLive":      {rule: "migrate_server", serve: noMigration},
	"evacuate":            {rule: "migrate_server", serve: noMigration},
}

// actOnServer handles POST /servers/ID/action.
func actOnServer(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	if len(m) != 1 {
		return wire.BadRequest("There must be exactly one action in the request, and there are %d", len(m))
	}
	for name, raw := range m {
		a, ok := serverActions[name]
		if !ok || !k.v.AtLeast(a.first) || a.last > 0 && k.v.AtLeast(a.last+1) {
			return wire.BadRequest("There is no such action: %.100s", name)
		}
		rule := a.rule
		if rule == "" {
			rule = "act_on_server"
		}
		if err := k.who.Require(rule, ""); err != nil {
			return err
		}
		return a.serve(k, raw)
	}
	return nil
}

// id is the server that the path names.
func (k *call) id() string { return k.Param("id") }

func (k *call) accepted() error { return k.NoContent(http.StatusAccepted) }

// plain is an action without arguments.
func plain(name string) func(*call, json.RawMessage) error {
	return func(k *call, _ json.RawMessage) error {
		if err := k.h.service.Plain(k.ctx(), k.caller, k.id(), name, nil); err != nil {
			return err
		}
		return k.accepted()
	}
}

// arguments decodes an action's arguments, which must be an object.
func arguments(name string, raw json.RawMessage) (wire.Members, error) {
	var m wire.Members
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, wire.Invalid(name, raw)
	}
	return m, nil
}

func reboot(k *call, raw json.RawMessage) error {
	var in struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return wire.Invalid("reboot", raw)
	}
	hard := false
	switch in.Type {
	case "HARD", "Hard", "hard":
		hard = true
	case "SOFT", "Soft", "soft":
	default:
		return wire.Invalid("type", in.Type)
	}
	if err := k.h.service.Reboot(k.ctx(), k.caller, k.id(), hard); err != nil {
		return err
	}
	return k.accepted()
}

func unshelve(k *call, raw json.RawMessage) error {
	var in struct {
		Zone wire.Optional[string] `json:"availability_zone"`
		Host *string               `json:"host"`
	}
	if string(raw) != "null" {
		if err := json.Unmarshal(raw, &in); err != nil || !k.v.AtLeast(77) {
			return wire.Invalid("unshelve", raw)
		}
	}
	if in.Host != nil {
		if !k.v.AtLeast(91) {
			return wire.Invalid("unshelve", raw)
		}
		return wire.BadRequest("A server does not change its site, which is its host here, and the hosts inside a site are not to be chosen: unshelve it in a zone of the site.")
	}
	var zone *string
	if in.Zone.Set {
		text := deref(in.Zone.Value)
		zone = &text
	}
	if err := k.h.service.Unshelve(k.ctx(), k.caller, k.id(), zone); err != nil {
		return err
	}
	return k.accepted()
}

func rescue(k *call, raw json.RawMessage) error {
	var in struct {
		Pass  string `json:"adminPass"`
		Image string `json:"rescue_image_ref"`
	}
	if err := json.Unmarshal(raw, &in); err != nil { // null is allowed
		return wire.Invalid("rescue", raw)
	}
	pass, err := k.h.service.Rescue(k.ctx(), k.caller, k.id(), in.Pass, in.Image)
	if err != nil {
		return err
	}
	return k.ok(object{"adminPass": pass})
}

func resize(k *call, raw json.RawMessage) error {
	var in struct {
		Flavor ref     `json:"flavorRef"`
		Disk   *string `json:"OS-DCF:diskConfig"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.Flavor == "" {
		return wire.Invalid("resize", raw)
	}
	if err := checkDiskConfig(in.Disk); err != nil {
		return err
	}
	if err := k.h.service.Resize(k.ctx(), k.caller, k.id(), path.Base(string(in.Flavor)), deref(in.Disk)); err != nil {
		return err
	}
	return k.accepted()
}

func confirmResize(k *call, _ json.RawMessage) error {
	if err := k.h.service.ConfirmResize(k.ctx(), k.caller, k.id()); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func revertResize(k *call, _ json.RawMessage) error {
	if err := k.h.service.RevertResize(k.ctx(), k.caller, k.id()); err != nil {
		return err
	}
	return k.accepted()
}

func rebuild(k *call, raw json.RawMessage) error {
	m, err := arguments("rebuild", raw)
	if err != nil {
		return err
	}
	b, err := k.readRebuild(m)
	if err != nil {
		return err
	}
	one, pass, err := k.h.service.RebuildServer(k.ctx(), k.caller, k.id(), b)
	if err != nil {
		return err
	}
	s, err := k.look([]*engine.Server{one})
	if err != nil {
		return err
	}
	s.single, s.brief = true, !k.v.AtLeast(75)
	view := k.server(one, s)
	view["adminPass"] = pass
	if k.v.AtLeast(54) {
		view["key_name"] = orNull(one.KeyName)
	}
	if k.v.AtLeast(57) {
		view["user_data"] = orNull(one.Spec.UserData)
		delete(view, "OS-EXT-SRV-ATTR:user_data") // a rebuild shows it by its plain name alone, to an administrator too
	}
	k.Response().Header().Set("Location", k.links("servers", string(one.ID))[0].Href)
	return k.JSON(http.StatusAccepted, object{"server": view})
}

func (k *call) readRebuild(m wire.Members) (engine.Rebuild, error) {
	b := engine.Rebuild{Reimage: k.v.AtLeast(93)}
	var description, key, userData wire.Optional[string]
	var certs wire.Optional[[]string]
	var pass *string
	var ephemeral *wire.Bool
	fields := []wire.Field{
		{Key: "imageRef", Into: &b.Image}, {Key: "adminPass", Into: &pass}, {Key: "name", Into: &b.Name}, {Key: "metadata", Into: &b.Metadata},
		{Key: "preserve_ephemeral", Into: &ephemeral}, {Key: "OS-DCF:diskConfig", Into: &b.DiskConfig}, {Key: "accessIPv4", Into: &b.AccessIPv4}, {Key: "accessIPv6", Into: &b.AccessIPv6},
	}
	for minor, f := range map[int]wire.Field{
		19: {Key: "description", Into: &description}, 54: {Key: "key_name", Into: &key}, 57: {Key: "user_data", Into: &userData},
		63: {Key: "trusted_image_certificates", Into: &certs}, 90: {Key: "hostname", Into: &b.Hostname},
	} {
		if k.v.AtLeast(minor) {
			fields = append(fields, f)
		}
	}
	if !k.v.AtLeast(57) {
		fields = append(fields, wire.Field{Key: "personality", Into: &b.Personality})
	}
	if err := m.TakeAll(fields...); err != nil {
		return b, err
	}
	if err := closed(m); err != nil {
		return b, err
	}
	if b.Image == "" {
		return b, wire.BadRequest("Invalid input for field/attribute rebuild. 'imageRef' is a required property")
	}
	b.Image, b.AdminPass, b.Ephemeral = path.Base(b.Image), deref(pass), (*bool)(ephemeral)
	for o, to := range map[*wire.Optional[string]]***string{&description: &b.Description, &key: &b.KeyName, &userData: &b.UserData} {
		if o.Set {
			*to = &o.Value
		}
	}
	if certs.Set {
		b.TrustedCerts = &[]string{}
		if certs.Value != nil {
			b.TrustedCerts = certs.Value
		}
	}
	if userData.Value != nil {
		if err := checkUserData(*userData.Value); err != nil {
			return b, err
		}
	}
	return b, checkAll(checkName("name", b.Name), checkMetadata(b.Metadata), checkHostname(b.Hostname), checkDiskConfig(b.DiskConfig),
		checkIP("accessIPv4", b.AccessIPv4, 4), checkIP("accessIPv6", b.AccessIPv6, 6), checkDescription(description.Value))
}

func lock(k *call, raw json.RawMessage) error {
	var in struct {
		Reason *string `json:"locked_reason"`
	}
	if string(raw) != "null" && k.v.AtLeast(73) {
		if err := json.Unmarshal(raw, &in); err != nil || len(deref(in.Reason)) > 255 {
			return wire.Invalid("lock", raw)
		}
	}
	if err := k.h.service.Lock(k.ctx(), k.caller, k.id(), in.Reason); err != nil {
		return err
	}
	return k.accepted()
}

func unlock(k *call, _ json.RawMessage) error {
	if err := k.h.service.Unlock(k.ctx(), k.caller, k.id()); err != nil {
		return err
	}
	return k.accepted()
}

func createImage(k *call, raw json.RawMessage) error {
	var in struct {
		Name     *string           `json:"name"`
		Metadata map[string]string `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.Name == nil {
		return wire.Invalid("createImage", raw)
	}
	if err := checkAll(checkName("name", in.Name), checkMetadata(in.Metadata)); err != nil {
		return err
	}
	image, err := k.h.service.CreateImage(k.ctx(), k.caller, k.id(), *in.Name, in.Metadata)
	if err != nil {
		return err
	}
	if k.v.AtLeast(45) {
		return k.JSON(http.StatusAccepted, object{"image_id": image})
	}
	k.Response().Header().Set("Location", wire.Base(k.Context, k.h.public)+"/image/images/"+string(image))
	return k.accepted()
}

func changePassword(k *call, raw json.RawMessage) error {
	var in struct {
		Pass *string `json:"adminPass"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.Pass == nil {
		return wire.BadRequest("Invalid input for field/attribute changePassword. 'adminPass' is a required property")
	}
	if err := k.h.service.Plain(k.ctx(), k.caller, k.id(), "changePassword", object{"adminPass": *in.Pass}); err != nil {
		return err
	}
	return k.accepted()
}

func forceDelete(k *call, _ json.RawMessage) error {
	if err := k.h.service.Delete(k.ctx(), k.caller, k.id()); err != nil {
		return err
	}
	return k.accepted()
}

func resetState(k *call, raw json.RawMessage) error {
	var in struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.State != "active" && in.State != "error" {
		return wire.Invalid("state", raw)
	}
	if err := k.h.service.ResetState(k.ctx(), k.caller, k.id(), in.State); err != nil {
		return err
	}
	return k.accepted()
}

func consoleOutput(k *call, raw json.RawMessage) error {
	var in struct {
		Length *wire.Int `json:"length"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return wire.Invalid("os-getConsoleOutput", raw)
	}
	lines := 0
	if in.Length != nil {
		lines = int(*in.Length)
	}
	out, err := k.h.service.ConsoleOutput(k.ctx(), k.caller, k.id(), lines)
	if err != nil {
		return err
	}
	return k.ok(object{"output": out})
}

// oldConsole is an action that remote-consoles replaced with 2.6.
func oldConsole(protocol string) func(*call, json.RawMessage) error {
	return func(k *call, raw json.RawMessage) error {
		var in struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &in); err != nil || in.Type == "" {
			return wire.Invalid("type", raw)
		}
		c, err := k.h.service.RemoteConsole(k.ctx(), k.caller, k.id(), protocol, in.Type)
		if err != nil {
			return err
		}
		return k.ok(object{"console": object{"type": c.Type, "url": c.URL}})
	}
}

// remoteConsole handles POST /servers/ID/remote-consoles (2.6).
func remoteConsole(k *call) error {
	m, err := k.object("remote_console")
	if err != nil {
		return err
	}
	var protocol, kind string
	if err := m.TakeAll(wire.Field{Key: "protocol", Into: &protocol}, wire.Field{Key: "type", Into: &kind}); err != nil {
		return err
	}
	kinds := map[string][]string{"vnc": {"novnc", "xvpvnc"}, "spice": {"spice-html5"}, "rdp": {"rdp-html5"}, "serial": {"serial"}, "mks": {"webmks"}}
	fits := false
	for _, one := range kinds[protocol] {
		fits = fits || one == kind
	}
	if !fits {
		return wire.BadRequest("Invalid input for field/attribute remote_console. Protocol %.20q has no console of type %.20q.", protocol, kind)
	}
	c, err := k.h.service.RemoteConsole(k.ctx(), k.caller, k.id(), protocol, kind)
	if err != nil {
		return err
	}
	return k.ok(object{"remote_console": c})
}

func group(change func(*engine.Service, context.Context, sites.Caller, string, string) error) func(*call, json.RawMessage) error {
	return func(k *call, raw json.RawMessage) error {
		var in struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(raw, &in); err != nil || in.Name == "" {
			return wire.Invalid("name", raw)
		}
		if err := change(k.h.service, k.ctx(), k.caller, k.id(), in.Name); err != nil {
			return err
		}
		return k.accepted()
	}
}

// noMigration refuses moves between hosts: a site is one host here, and what happens inside one is its operator's.
func noMigration(k *call, _ json.RawMessage) error {
	if _, err := k.h.service.Server(k.ctx(), k.caller, k.id()); err != nil {
		return err
	}
	return fault.New(fault.BadRequest, "top/compute", "Servers are not moved between the hosts of a site through Top: ask the site.")
}
