package compute

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/placement"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

// createServer handles POST /servers.
func createServer(k *call) error {
	inner, rest, err := wire.Object(k.Context, "server")
	if err != nil {
		return err
	}
	in, err := k.readCreate(inner, rest)
	if err != nil {
		return err
	}
	made, err := k.h.service.CreateServers(k.ctx(), k.caller, in.req)
	if err != nil {
		return err
	}
	if in.reservation {
		return k.JSON(http.StatusAccepted, object{"reservation_id": made[0].Spec.Reservation})
	}
	one := made[0]
	links := k.links("servers", string(one.ID))
	k.Response().Header().Set("Location", links[0].Href)
	view := object{"id": one.ID, "links": links, "OS-DCF:diskConfig": one.Spec.DiskConfig, "adminPass": one.Spec.AdminPass}
	view["security_groups"] = in.groups
	return k.JSON(http.StatusAccepted, object{"server": view})
}

// created is a decoded create request.
type created struct {
	req         engine.CreateRequest
	reservation bool
	groups      any // security_groups as they were written
}

// Explain says where placement would put the servers of a normal create request,
// and why, by the code that a create uses; it records nothing.
func (h *Handler) Explain(ctx context.Context, caller sites.Caller, body map[string]any, by engine.Explainer) (placement.Explanation, error) {
	req, err := parseCreate(caller, body)
	if err != nil {
		return placement.Explanation{}, err
	}
	return h.service.Explain(ctx, caller, req, by)
}

// parseCreate reads a create request as the newest microversion does, but that networks may be absent.
func parseCreate(caller sites.Caller, body map[string]any) (engine.CreateRequest, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return engine.CreateRequest{}, wire.BadRequest("The body is no JSON object.")
	}
	var outer, inner wire.Members
	if err := json.Unmarshal(raw, &outer); err != nil {
		return engine.CreateRequest{}, wire.BadRequest("The body is no JSON object.")
	}
	if err := outer.Take("server", &inner); err != nil || inner == nil {
		return engine.CreateRequest{}, wire.BadRequest("The body has no member \"server\".")
	}
	k := &call{v: dialect.Max, caller: caller, explains: true}
	in, err := k.readCreate(inner, outer)
	return in.req, err
}

func (k *call) readCreate(m, rest wire.Members) (created, error) {
	in := created{}
	r := &in.req
	var key, zone, hostname, pass, disk *string
	var minCount, maxCount *wire.Int
	var configDrive, reservation wire.Bool
	var description wire.Optional[string]
	var groups []struct {
		Name string `json:"name"`
	}
	in.groups = []object{{"name": "default"}}
	if raw, ok := m["security_groups"]; ok {
		in.groups = raw
	}
	var name, userData *string
	var flavor *ref
	fields := []wire.Field{
		{Key: "name", Into: &name}, {Key: "flavorRef", Into: &flavor}, {Key: "imageRef", Into: &r.Image}, {Key: "adminPass", Into: &pass},
		{Key: "metadata", Into: &r.Metadata}, {Key: "OS-DCF:diskConfig", Into: &disk}, {Key: "accessIPv4", Into: &r.AccessIPv4}, {Key: "accessIPv6", Into: &r.AccessIPv6},
		{Key: "availability_zone", Into: &zone}, {Key: "config_drive", Into: &configDrive}, {Key: "key_name", Into: &key}, {Key: "min_count", Into: &minCount},
		{Key: "max_count", Into: &maxCount}, {Key: "return_reservation_id", Into: &reservation}, {Key: "security_groups", Into: &groups}, {Key: "user_data", Into: &userData},
	}
	for minor, f := range map[int]wire.Field{
		19: {Key: "description", Into: &description}, 52: {Key: "tags", Into: &r.Tags}, 63: {Key: "trusted_image_certificates", Into: &r.TrustedCerts}, 90: {Key: "hostname", Into: &hostname},
	} {
		if k.v.AtLeast(minor) {
			fields = append(fields, f)
		}
	}
	if err := m.TakeAll(fields...); err != nil {
		return in, err
	}
	if err := k.readDevices(m, rest, r); err != nil {
		return in, err
	}
	if name == nil || flavor == nil {
		missing := "name"
		if name != nil {
			missing = "flavorRef"
		}
		return in, wire.BadRequest("Invalid input for field/attribute server. '%s' is a required property", missing)
	}
	r.Name, r.Flavor, r.Description = *name, path.Base(string(*flavor)), description.Value
	if !k.v.AtLeast(19) {
		r.Description = name
	}
	r.Image = path.Base("/" + r.Image)
	if r.Image == "/" {
		r.Image = ""
	}
	r.KeyName, r.Zone, r.Hostname, r.AdminPass, r.UserData = deref(key), deref(zone), deref(hostname), deref(pass), deref(userData)
	if r.DiskConfig = deref(disk); disk == nil {
		r.DiskConfig = "MANUAL"
	}
	r.ConfigDrive, in.reservation = bool(configDrive), bool(reservation)
	for _, g := range groups {
		if g.Name != "" && !slices.Contains(r.Groups, g.Name) {
			r.Groups = append(r.Groups, g.Name)
		}
	}
	r.Extra = m
	if err := checkAll(checkName("name", name), checkHostname(hostname), checkDiskConfig(disk), checkMetadata(r.Metadata), checkName("availability_zone", zone),
		checkDescription(description.Value), checkIP("accessIPv4", &r.AccessIPv4, 4), checkIP("accessIPv6", &r.AccessIPv6, 6), k.checkHosts(r)); err != nil {
		return in, err
	}
	if r.UserData != "" {
		if err := checkUserData(r.UserData); err != nil {
			return in, err
		}
	}
	return in, checkCounts(r, minCount, maxCount)
}

// ref is an id as a text or a number (Nova's flavor_ref).
type ref string

// UnmarshalJSON reads it.
func (r *ref) UnmarshalJSON(raw []byte) error {
	var n json.Number
	if err := json.Unmarshal(raw, &n); err == nil && raw[0] != '"' {
		*r = ref(n.String())
		return nil
	}
	return json.Unmarshal(raw, (*string)(r))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func checkCounts(r *engine.CreateRequest, low, high *wire.Int) error {
	for field, n := range map[string]*wire.Int{"min_count": low, "max_count": high} {
		if n != nil && *n < 1 {
			return wire.BadRequest("Invalid input for field/attribute %s. Value: %d. %d is less than the minimum of 1", field, *n, *n)
		}
	}
	r.Min = 1
	if low != nil {
		r.Min = int(*low)
	}
	if r.Max = r.Min; high != nil {
		r.Max = int(*high)
	}
	if r.Min > r.Max {
		return wire.BadRequest("min_count must be <= max_count")
	}
	if r.Max > 1000 {
		return wire.BadRequest("max_count must be <= 1000")
	}
	for i, t := range r.Tags {
		if err := checkTag(t); err != nil {
			return err
		}
		if slices.Contains(r.Tags[:i], t) {
			return wire.BadRequest("Invalid input for field/attribute tags. Value: %s is there twice", t)
		}
	}
	if len(r.Tags) > 50 {
		return wire.BadRequest("Invalid input for field/attribute tags. There are more than 50")
	}
	return nil
}

// checkHosts reads what names a host: a site is the only host there is (top/README.md: Hosts), and only administrators name one.
func (k *call) checkHosts(r *engine.CreateRequest) error {
	zone, host, forced := strings.Cut(r.Zone, ":")
	named := ""
	for _, key := range []string{"host", "hypervisor_hostname"} {
		raw, ok := r.Extra[key]
		if !ok {
			continue
		}
		delete(r.Extra, key)
		if err := json.Unmarshal(raw, &named); err != nil {
			return wire.Invalid(key, raw)
		}
	}
	if !forced && named == "" {
		return nil
	}
	if !k.caller.Admin() {
		return fault.New(fault.Forbidden, "top/compute", "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.")
	}
	if forced {
		r.Zone = zone
		named, _, _ = strings.Cut(host, ":")
	}
	if r.Zone == "" {
		r.Zone = named
	}
	if site, _, _ := strings.Cut(r.Zone, "/"); named != "" && site != named {
		return wire.BadRequest("Host %s is not in the availability zone \"%s\"", named, r.Zone)
	}
	return nil
}

func (k *call) readDevices(m, rest wire.Members, r *engine.CreateRequest) error {
	for _, read := range []func(wire.Members, *engine.CreateRequest) error{k.readNetworks, k.readBlocks, readLegacyBlocks, k.readFiles} {
		if err := read(m, r); err != nil {
			return err
		}
	}
	for _, key := range []string{"os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"} {
		if err := rest.Take(key, &r.Hints); err != nil {
			return err
		}
	}
	if _, ok := r.Hints["group"].(string); !ok && r.Hints["group"] != nil {
		return wire.Invalid("group", r.Hints["group"])
	}
	return closed(rest)
}

func (k *call) readNetworks(m wire.Members, r *engine.CreateRequest) error {
	raw, ok := m["networks"]
	if !ok {
		if k.v.AtLeast(37) && !k.explains {
			return wire.BadRequest("Invalid input for field/attribute server. 'networks' is a required property")
		}
		return nil
	}
	delete(m, "networks")
	var mode string
	if json.Unmarshal(raw, &mode) == nil {
		if !k.v.AtLeast(37) || mode != "auto" && mode != "none" {
			return wire.Invalid("networks", raw)
		}
		r.NetworkMode = mode
		return nil
	}
	var list []struct {
		UUID  string  `json:"uuid"`
		Port  *string `json:"port"`
		Fixed string  `json:"fixed_ip"`
		Tag   string  `json:"tag"`
	}
	if err := json.Unmarshal(raw, &list); err != nil || list == nil {
		return wire.Invalid("networks", raw)
	}
	for _, n := range list {
		if n.Tag != "" && k.v.AtLeast(37) && !k.v.AtLeast(42) {
			return wire.BadRequest("Additional properties are not allowed ('tag' was unexpected)")
		}
		if n.UUID == "" && deref(n.Port) == "" {
			return wire.BadRequest("Bad networks format: network uuid is not in proper format (%s)", n.UUID)
		}
		if err := checkIP("fixed_ip", &n.Fixed, version(n.Fixed)); err != nil {
			return err
		}
		r.Networks = append(r.Networks, engine.NetworkRequest{Network: n.UUID, Port: deref(n.Port), FixedIP: n.Fixed, Tag: n.Tag})
	}
	if len(list) > 0 {
		r.NetworkMode = "list"
	}
	return nil
}

func version(ip string) int {
	if strings.Contains(ip, ":") {
		return 6
	}
	return 4
}

// blockBody is an entry of block_device_mapping_v2.
type blockBody struct {
	Source      string          `json:"source_type"`
	Destination string          `json:"destination_type"`
	UUID        string          `json:"uuid"`
	Image       string          `json:"image_id"`
	Volume      string          `json:"volume_id"`
	Snapshot    string          `json:"snapshot_id"`
	BootIndex   json.RawMessage `json:"boot_index"`
	Size        *wire.Int       `json:"volume_size"`
	Type        *string         `json:"volume_type"`
	Delete      wire.Bool       `json:"delete_on_termination"`
	Device      *string         `json:"device_name"`
	Format      *string         `json:"guest_format"`
	DeviceType  *string         `json:"device_type"`
	Bus         *string         `json:"disk_bus"`
	Tag         *string         `json:"tag"`
	NoDevice    any             `json:"no_device"`
}

func (k *call) readBlocks(m wire.Members, r *engine.CreateRequest) error {
	var list []blockBody
	if err := m.Take("block_device_mapping_v2", &list); err != nil {
		return err
	}
	for _, b := range list {
		if b.Type != nil && !k.v.AtLeast(67) {
			return wire.BadRequest("Additional properties are not allowed ('volume_type' was unexpected)")
		}
		out := engine.BlockRequest{
			Source: b.Source, Destination: b.Destination, ID: b.UUID, Delete: bool(b.Delete), Type: deref(b.Type), Device: deref(b.Device),
			Format: deref(b.Format), DeviceType: deref(b.DeviceType), Bus: deref(b.Bus), Tag: deref(b.Tag),
		}
		for source, id := range map[string]string{"image": b.Image, "volume": b.Volume, "snapshot": b.Snapshot} {
			if id != "" {
				out.Source, out.ID = source, id
			}
		}
		if out.Source != "blank" && out.ID == "" {
			return wire.BadRequest("Block Device Mapping is Invalid: Missing device UUID.")
		}
		if b.Size != nil {
			out.SizeGiB = int64(*b.Size)
		}
		if text := strings.Trim(string(b.BootIndex), `"`); text != "" && text != "null" {
			var n wire.Int
			if err := n.UnmarshalJSON(b.BootIndex); err != nil || n < -1 || n > 1000 {
				return wire.Invalid("boot_index", b.BootIndex)
			}
			i := int(n)
			out.BootIndex = &i
		}
		r.Blocks = append(r.Blocks, out)
	}
	return nil
}

// readLegacyBlocks reads block_device_mapping, the first form: volumes and snapshots; without an image the first one boots.
func readLegacyBlocks(m wire.Members, r *engine.CreateRequest) error {
	var list []blockBody
	if err := m.Take("block_device_mapping", &list); err != nil {
		return err
	}
	if len(list) > 0 && len(r.Blocks) > 0 {
		return wire.BadRequest("Using different block_device_mapping syntaxes is not allowed in the same request.")
	}
	for i, b := range list {
		out := engine.BlockRequest{Source: "volume", Destination: "volume", ID: b.Volume, Delete: bool(b.Delete), Device: deref(b.Device)}
		if b.Snapshot != "" {
			out.Source, out.ID = "snapshot", b.Snapshot
		}
		if b.Size != nil {
			out.SizeGiB = int64(*b.Size)
		}
		if i == 0 && r.Image == "" {
			zero := 0
			out.BootIndex = &zero
		}
		r.Blocks = append(r.Blocks, out)
	}
	return nil
}

func (k *call) readFiles(m wire.Members, r *engine.CreateRequest) error {
	if k.v.AtLeast(57) {
		if _, ok := m["personality"]; ok {
			return wire.BadRequest("Additional properties are not allowed ('personality' was unexpected)")
		}
		return nil
	}
	if err := m.Take("personality", &r.Personality); err != nil {
		return err
	}
	if len(r.Personality) > 5 {
		return fault.New(fault.OverQuota, "top/compute", "Quota exceeded, too many injected files.")
	}
	for _, f := range r.Personality {
		if len(f.Path) > 255 || len(f.Contents) > 14000 {
			return fault.New(fault.OverQuota, "top/compute", "Quota exceeded, a file to inject is too large.")
		}
	}
	return nil
}
