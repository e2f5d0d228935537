package compute

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"

	engine "github.com/headwater-cloud/headwater/cascade/compute"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

func (k *call) flavor(f *engine.Flavor, detail bool) object {
	o := object{"id": f.ID, "name": f.Name, "links": k.links("flavors", string(f.ID))}
	if k.v.AtLeast(55) {
		o["description"] = orNull(f.Description)
	}
	if !detail {
		return o
	}
	o["ram"], o["disk"], o["vcpus"] = f.Spec.RAM, f.Spec.Disk, f.Spec.VCPUs
	o["swap"] = any(f.Spec.Swap)
	if f.Spec.Swap == 0 && !k.v.AtLeast(75) {
		o["swap"] = ""
	}
	o["OS-FLV-EXT-DATA:ephemeral"], o["OS-FLV-DISABLED:disabled"] = f.Spec.Ephemeral, false
	o["os-flavor-access:is_public"], o["rxtx_factor"] = f.Spec.Public, f.Spec.RxTx
	if k.v.AtLeast(61) {
		o["extra_specs"] = orEmpty(f.Spec.Extra)
	}
	return o
}

func listFlavors(detail bool) func(*call) error {
	return func(k *call) error {
		p, err := k.page()
		if err != nil {
			return err
		}
		q := engine.FlavorQuery{Marker: p.Marker, Limit: p.Limit}
		if err := k.flavorFilters(&q); err != nil {
			return err
		}
		list := []*engine.Flavor{}
		if p.Limit > 0 {
			if list, err = k.h.service.Flavors(k.ctx(), k.caller, q); err != nil {
				return err
			}
		}
		views := make([]object, len(list))
		for i, f := range list {
			views[i] = k.flavor(f, detail)
		}
		body := object{"flavors": views}
		path := "flavors"
		if detail {
			path = "flavors/detail"
		}
		if len(list) > 0 {
			k.next(body, "flavors", path, p, len(list), string(list[len(list)-1].ID))
		}
		return k.ok(body)
	}
}

func (k *call) flavorFilters(q *engine.FlavorQuery) error {
	in := k.QueryParams()
	for key, to := range map[string]*int64{"minRam": &q.MinRAM, "minDisk": &q.MinDisk} {
		if !in.Has(key) {
			continue
		}
		n, err := strconv.ParseInt(in.Get(key), 10, 64)
		if err != nil {
			return wire.BadRequest("Invalid %s filter [%s]", key, in.Get(key))
		}
		*to = n
	}
	yes := true
	q.Public = &yes
	if k.caller.Admin() && in.Has("is_public") {
		if text := in.Get("is_public"); text == "None" || text == "none" {
			q.Public = nil
		} else {
			var b wire.Bool
			if err := b.UnmarshalJSON([]byte(text)); err != nil {
				return wire.BadRequest("Invalid is_public filter [%s]", text)
			}
			q.Public = (*bool)(&b)
		}
	}
	fields := map[string]index.Field{"flavorid": index.ByID, "id": index.ByID, "name": index.ByName, "created_at": index.ByCreated, "updated_at": index.ByUpdated}
	field, ok := fields[in.Get("sort_key")]
	if !ok {
		field = index.ByID
	}
	if dir := in.Get("sort_dir"); dir != "" && dir != "asc" && dir != "desc" {
		return wire.BadRequest("Invalid sort_dir %s", dir)
	}
	q.Sort = []index.Sort{{Field: field, Desc: in.Get("sort_dir") == "desc"}}
	return nil
}

func (k *call) findFlavor() (*engine.Flavor, error) {
	return k.h.service.Flavor(k.ctx(), k.caller, k.Param("id"))
}

func showFlavor(k *call) error {
	f, err := k.findFlavor()
	if err != nil {
		return err
	}
	return k.ok(object{"flavor": k.flavor(f, true)})
}

var flavorID = regexp.MustCompile(`^[a-zA-Z0-9. _-]{1,255}$`)

func createFlavor(k *call) error {
	m, err := k.object("flavor")
	if err != nil {
		return err
	}
	spec := engine.FlavorSpec{RxTx: 1, Public: true}
	var name, description *string
	var id wire.Optional[ref]
	var ram, cpus, disk *wire.Int
	var swap, ephemeral wire.Int
	var isPublic *wire.Bool
	var factor *number
	fields := []wire.Field{
		{Key: "name", Into: &name}, {Key: "id", Into: &id}, {Key: "ram", Into: &ram}, {Key: "vcpus", Into: &cpus}, {Key: "disk", Into: &disk}, {Key: "swap", Into: &swap},
		{Key: "OS-FLV-EXT-DATA:ephemeral", Into: &ephemeral}, {Key: "os-flavor-access:is_public", Into: &isPublic}, {Key: "rxtx_factor", Into: &factor},
	}
	if k.v.AtLeast(55) {
		fields = append(fields, wire.Field{Key: "description", Into: &description})
	}
	if err := checkAll(m.TakeAll(fields...), closed(m), checkName("name", name)); err != nil {
		return err
	}
	if name == nil || ram == nil || cpus == nil || disk == nil {
		return wire.BadRequest("Invalid input for field/attribute flavor. 'name', 'ram', 'vcpus' and 'disk' are required properties")
	}
	if *ram < 1 || *cpus < 1 || *disk < 0 || swap < 0 || ephemeral < 0 || max(*ram, *cpus, *disk, swap, ephemeral) > 0x7fffffff {
		return wire.BadRequest("Invalid input for field/attribute flavor. A size is out of its range")
	}
	spec.Size = engine.Size{VCPUs: int64(*cpus), RAM: int64(*ram), Disk: int64(*disk), Ephemeral: int64(ephemeral), Swap: int64(swap)}
	if isPublic != nil {
		spec.Public = bool(*isPublic)
	}
	if factor != nil {
		if spec.RxTx = float64(*factor); spec.RxTx <= 0 {
			return wire.Invalid("rxtx_factor", spec.RxTx)
		}
	}
	text := ""
	if id.Value != nil {
		if text = string(*id.Value); !flavorID.MatchString(text) {
			return wire.Invalid("id", text)
		}
	}
	f, err := k.h.service.CreateFlavor(k.ctx(), k.caller, text, *name, deref(description), spec)
	if err != nil {
		return err
	}
	return k.ok(object{"flavor": k.flavor(f, true)})
}

// number is a JSON number, or one in a text.
type number float64

// UnmarshalJSON reads it.
func (n *number) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	f, err := strconv.ParseFloat(text, 64)
	*n = number(f)
	return err
}

func updateFlavor(k *call) error {
	m, err := k.object("flavor")
	if err != nil {
		return err
	}
	var description wire.Optional[string]
	if err := checkAll(m.Take("description", &description), closed(m)); err != nil {
		return err
	}
	if !description.Set {
		return wire.BadRequest("Invalid input for field/attribute flavor. 'description' is a required property")
	}
	f, err := k.h.service.UpdateFlavor(k.ctx(), k.caller, k.Param("id"), "flavor.update", func(f *engine.Flavor) error {
		f.Description = deref(description.Value)
		return nil
	})
	if err != nil {
		return err
	}
	return k.ok(object{"flavor": k.flavor(f, true)})
}

func deleteFlavor(k *call) error {
	if err := k.h.service.DeleteFlavor(k.ctx(), k.caller, k.Param("id")); err != nil {
		return err
	}
	return k.accepted()
}

func listSpecs(k *call) error {
	f, err := k.findFlavor()
	if err != nil {
		return err
	}
	return k.ok(object{"extra_specs": orEmpty(f.Spec.Extra)})
}

func noSpec(k *call) error {
	return fault.New(fault.NotFound, "top/compute", "Flavor %s has no extra specs with key %s.", k.Param("id"), k.Param("key"))
}

func showSpec(k *call) error {
	f, err := k.findFlavor()
	if err != nil {
		return err
	}
	v, ok := f.Spec.Extra[k.Param("key")]
	if !ok {
		return noSpec(k)
	}
	return k.ok(map[string]string{k.Param("key"): v})
}

// setSpecs changes extra specs.
func (k *call) setSpecs(change func(map[string]string) error) error {
	_, err := k.h.service.UpdateFlavor(k.ctx(), k.caller, k.Param("id"), "flavor.extra_specs", func(f *engine.Flavor) error {
		now := map[string]string{}
		for key, v := range f.Spec.Extra {
			now[key] = v
		}
		f.Spec.Extra = now
		return change(now)
	})
	return err
}

func createSpecs(k *call) error {
	specs, err := k.wholeObject("extra_specs")
	if err != nil {
		return err
	}
	err = k.setSpecs(func(now map[string]string) error {
		for key, v := range specs {
			now[key] = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.ok(object{"extra_specs": specs})
}

func putSpec(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	key, value := k.Param("key"), ""
	if _, ok := m[key]; !ok || len(m) != 1 {
		return wire.BadRequest("Request body and URI mismatch")
	}
	if err := m.Take(key, &value); err != nil {
		return err
	}
	if err := k.setSpecs(func(now map[string]string) error { now[key] = value; return nil }); err != nil {
		return err
	}
	return k.ok(map[string]string{key: value})
}

func deleteSpec(k *call) error {
	err := k.setSpecs(func(now map[string]string) error {
		if _, ok := now[k.Param("key")]; !ok {
			return noSpec(k)
		}
		delete(now, k.Param("key"))
		return nil
	})
	if err != nil {
		return err
	}
	return k.NoContent(http.StatusOK)
}

func accessView(f *engine.Flavor) object {
	out := []object{}
	for _, p := range f.Spec.Access {
		out = append(out, object{"flavor_id": f.ID, "tenant_id": p})
	}
	return object{"flavor_access": out}
}

func listAccess(k *call) error {
	f, err := k.findFlavor()
	if err != nil {
		return err
	}
	if f.Spec.Public {
		return fault.New(fault.NotFound, "top/compute", "Access list not available for public flavors.")
	}
	return k.ok(accessView(f))
}

// changeAccess handles POST /flavors/ID/action: addTenantAccess and removeTenantAccess.
func changeAccess(k *call) error {
	m, err := wire.Body(k.Context)
	if err != nil {
		return err
	}
	var add, remove *struct {
		Tenant string `json:"tenant"`
	}
	if err := checkAll(m.TakeAll(wire.Field{Key: "addTenantAccess", Into: &add}, wire.Field{Key: "removeTenantAccess", Into: &remove}), closed(m)); err != nil {
		return err
	}
	if (add == nil) == (remove == nil) || add != nil && add.Tenant == "" || remove != nil && remove.Tenant == "" {
		return wire.BadRequest("There is no such action: name addTenantAccess or removeTenantAccess with a tenant")
	}
	f, err := k.h.service.UpdateFlavor(k.ctx(), k.caller, k.Param("id"), "flavor.access", func(f *engine.Flavor) error {
		switch {
		case f.Spec.Public:
			return fault.New(fault.Conflict, "top/compute", "Can not add access to a public flavor.")
		case add != nil && slices.Contains(f.Spec.Access, add.Tenant):
			return fault.New(fault.Conflict, "top/compute", "Flavor access already exists for flavor %s and project %s combination.", f.ID, add.Tenant)
		case add != nil:
			f.Spec.Access = append(f.Spec.Access, add.Tenant)
		case !slices.Contains(f.Spec.Access, remove.Tenant):
			return fault.New(fault.NotFound, "top/compute", "Flavor access not found for %s / %s combination.", f.ID, remove.Tenant)
		default:
			f.Spec.Access = slices.DeleteFunc(f.Spec.Access, func(p string) bool { return p == remove.Tenant })
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.ok(accessView(f))
}
