package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/wire"
)

const imagesPath = "/image/v2/images"

// imageBase are the members of an image of Glance that are no properties (nova/image/glance.py, _translate_from_glance).
var imageBase = []string{
	"id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value", "owner", "size", "virtual_size",
	"min_ram", "min_disk", "disk_format", "container_format", "created_at", "updated_at", "tags", "self", "file", "schema", "locations", "direct_url", "stores",
}

func properties(i object) object {
	out := object{}
	for name, v := range i {
		if !slices.Contains(imageBase, name) && !strings.HasPrefix(name, "headwater:") { // Top's own, which nobody writes
			out[name] = v
		}
	}
	return out
}

func (k *call) imageLinks(id string) []object {
	return []object{
		{"rel": "self", "href": k.versioned() + "/images/" + id}, {"rel": "bookmark", "href": k.bare() + "/images/" + id},
		{"rel": "alternate", "type": "application/vnd.openstack.image", "href": strings.Replace(wire.Base(k.Context, k.h.public), "/compute", "", 1) + "/image/images/" + id},
	}
}

func (k *call) briefImage(i object) object {
	return object{"id": i["id"], "name": i["name"], "links": k.imageLinks(text(i["id"]))}
}

// oldImage shows an image as Nova did (nova/api/openstack/compute/views/images.py).
func (k *call) oldImage(i object) object {
	status, known := map[string]string{"active": "ACTIVE", "queued": "SAVING", "saving": "SAVING", "deleted": "DELETED", "pending_delete": "DELETED", "killed": "ERROR"}[text(i["status"])]
	if !known {
		status = "UNKNOWN"
	}
	progress := map[string]int{"active": 100, "queued": 25, "saving": 50}[text(i["status"])]
	meta := properties(i)
	out := object{
		"id": i["id"], "name": i["name"], "minRam": i["min_ram"], "minDisk": i["min_disk"], "metadata": meta, "created": i["created_at"],
		"updated": i["updated_at"], "status": status, "progress": progress, "OS-EXT-IMG-SIZE:size": i["size"], "links": k.imageLinks(text(i["id"])),
	}
	if server := text(meta["instance_uuid"]); server != "" {
		out["server"] = object{"id": server, "links": k.links("servers", server)}
	}
	if auto := meta["auto_disk_config"]; auto != nil {
		out["OS-DCF:diskConfig"] = map[bool]string{true: "AUTO", false: "MANUAL"}[strings.EqualFold(fmt.Sprint(auto), "true")]
	}
	return out
}

// listImages handles GET /images and /images/detail.
func listImages(detail bool) func(*call) error {
	return func(k *call) error {
		p, err := k.page()
		if err != nil {
			return err
		}
		q := url.Values{"limit": {fmt.Sprint(p.Limit)}}
		if p.Marker != "" {
			q.Set("marker", p.Marker)
		}
		asked := k.QueryParams()
		for name, glance := range map[string]string{"name": "name", "status": "status", "minRam": "min_ram", "minDisk": "min_disk", "server": "instance_uuid", "type": "image_type"} {
			if value := asked.Get(name); value != "" {
				q.Set(glance, value[strings.LastIndex(value, "/")+1:])
			}
		}
		if s := q.Get("status"); s != "" {
			q.Set("status", strings.ToLower(s))
		}
		if since := asked.Get("changes-since"); since != "" {
			q.Set("updated_at", "gte:"+since)
		}
		for name := range asked {
			if property, ok := strings.CutPrefix(name, "property-"); ok {
				q.Set(property, asked.Get(name))
			}
		}
		list, err := k.many(imagesPath, "images", q)
		if err != nil {
			return err
		}
		show, path := k.briefImage, "images"
		if detail {
			show, path = k.oldImage, "images/detail"
		}
		body, last := object{"images": each(list, show)}, ""
		if len(list) > 0 {
			last = text(list[len(list)-1]["id"])
		}
		k.next(body, "images", path, p, len(list), last)
		return k.ok(body)
	}
}

// glanceImage asks Glance for the image that the path names.
func (k *call) glanceImage() (object, error) {
	got, err := k.elsewhere(http.MethodGet, imagesPath+"/"+url.PathEscape(k.id()), nil, nil)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "top/compute", "Image not found.")
	}
	return got, err
}

func showImage(k *call) error {
	i, err := k.glanceImage()
	if err != nil {
		return err
	}
	return k.ok(object{"image": k.oldImage(i)})
}

func deleteImage(k *call) error {
	if _, err := k.glanceImage(); err != nil {
		return err
	}
	if _, err := k.elsewhere(http.MethodDelete, imagesPath+"/"+url.PathEscape(k.id()), nil, nil); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

func listImageMeta(k *call) error {
	i, err := k.glanceImage()
	if err != nil {
		return err
	}
	return k.ok(object{"metadata": properties(i)})
}

func showImageMetum(k *call) error {
	i, err := k.glanceImage()
	if err != nil {
		return err
	}
	key := k.Param("key")
	v, ok := properties(i)[key]
	if !ok {
		return errNoRoute
	}
	return k.ok(object{"meta": object{key: v}})
}

// writeImageMeta handles POST, which adds, and PUT, which replaces.
func writeImageMeta(whole bool) func(*call) error {
	return func(k *call) error {
		m, err := k.object("metadata")
		if err != nil {
			return err
		}
		meta, err := metaOf(m)
		if err != nil {
			return err
		}
		i, err := k.glanceImage()
		if err != nil {
			return err
		}
		have := properties(i)
		for name, v := range have {
			if _, replaced := meta[name]; !replaced && !whole {
				meta[name] = v
			}
		}
		if err := k.patchImage(have, meta); err != nil {
			return err
		}
		return k.ok(object{"metadata": meta})
	}
}

func metaOf(m wire.Members) (object, error) {
	out := object{}
	for name, raw := range m {
		var value string
		if err := json.Unmarshal(raw, &value); err != nil || name == "" || len(name) > 255 || len(value) > 255 {
			return nil, wire.Invalid(name, raw)
		}
		out[name] = value
	}
	return out, nil
}

func putImageMetum(k *call) error {
	m, err := k.object("meta")
	if err != nil {
		return err
	}
	meta, err := metaOf(m)
	if err != nil {
		return err
	}
	key := k.Param("key")
	value, ok := meta[key]
	if !ok || len(meta) != 1 {
		return wire.BadRequest("Request body and URI mismatch")
	}
	i, err := k.glanceImage()
	if err != nil {
		return err
	}
	have := properties(i)
	want := object{key: value}
	for name, v := range have {
		if name != key {
			want[name] = v
		}
	}
	if err := k.patchImage(have, want); err != nil {
		return err
	}
	return k.ok(object{"meta": meta})
}

func deleteImageMetum(k *call) error {
	i, err := k.glanceImage()
	if err != nil {
		return err
	}
	have := properties(i)
	if _, ok := have[k.Param("key")]; !ok {
		return fault.New(fault.NotFound, "top/compute", "Invalid metadata key")
	}
	want := object{}
	for name, v := range have {
		if name != k.Param("key") {
			want[name] = v
		}
	}
	if err := k.patchImage(have, want); err != nil {
		return err
	}
	return k.NoContent(http.StatusNoContent)
}

// patchImage makes the properties of an image others than they are.
func (k *call) patchImage(have, want object) error {
	patch := []object{}
	path := strings.NewReplacer("~", "~0", "/", "~1")
	for name, v := range want {
		was, there := have[name]
		switch {
		case !there:
			patch = append(patch, object{"op": "add", "path": "/" + path.Replace(name), "value": v})
		case was != v:
			patch = append(patch, object{"op": "replace", "path": "/" + path.Replace(name), "value": v})
		}
	}
	for name := range have {
		if _, stays := want[name]; !stays {
			patch = append(patch, object{"op": "remove", "path": "/" + path.Replace(name)})
		}
	}
	if len(patch) == 0 {
		return nil
	}
	_, err := k.elsewhere(http.MethodPatch, imagesPath+"/"+url.PathEscape(k.id()), nil, patch)
	return err
}
