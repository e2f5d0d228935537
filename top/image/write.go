package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// The formats that Glance takes by default (glance/common/config.py).
var (
	diskFormats      = []string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
	containerFormats = []string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}
)

// fields are an image's members that its owner sets.
type fields struct {
	id, visibility string
	name           string
	spec           image.Spec
}

// set puts one member, as JSON, into the fields; wrong types and values are fault.BadRequest.
func (f *fields) set(name string, raw json.RawMessage) error {
	null := strings.TrimSpace(string(raw)) == "null"
	text := func(into *string, maxLen int) error {
		var s *string
		if err := json.Unmarshal(raw, &s); err != nil || s != nil && utf8.RuneCountInString(*s) > maxLen {
			return wire.BadRequest("Invalid value for property %s: a text of at most %d characters is wanted.", name, maxLen)
		}
		*into = ""
		if s != nil {
			*into = *s
		}
		return nil
	}
	number := func(into *int64) error {
		if err := json.Unmarshal(raw, into); null || err != nil || *into < 0 || *into > 1<<31-1 {
			return wire.BadRequest("Invalid value for property %s: a whole number from 0 to 2147483647 is wanted.", name)
		}
		return nil
	}
	flag := func(into *bool) error {
		if err := json.Unmarshal(raw, into); null || err != nil {
			return wire.BadRequest("Invalid value for property %s: true or false is wanted.", name)
		}
		return nil
	}
	oneOf := func(into *string, allowed []string) error {
		if err := text(into, 255); err != nil {
			return err
		}
		if !null && !slices.Contains(allowed, *into) {
			return wire.BadRequest("Invalid value '%s' for property %s: one of %v is wanted.", *into, name, allowed)
		}
		return nil
	}
	switch name {
	case "id":
		if err := text(&f.id, 36); err != nil || !uuidForm.MatchString(f.id) {
			return wire.BadRequest("Invalid image id format: a UUID is wanted.")
		}
		return nil
	case "name":
		return text(&f.name, 255)
	case "visibility":
		if null {
			return wire.BadRequest("Invalid value for property visibility: null is none of public, private, shared, community.")
		}
		return oneOf(&f.visibility, []string{image.Public, image.Private, image.Shared, image.Community})
	case "disk_format":
		return oneOf(&f.spec.DiskFormat, diskFormats)
	case "container_format":
		return oneOf(&f.spec.ContainerFormat, containerFormats)
	case "min_disk":
		return number(&f.spec.MinDisk)
	case "min_ram":
		return number(&f.spec.MinRAM)
	case "protected":
		return flag(&f.spec.Protected)
	case "os_hidden":
		return flag(&f.spec.Hidden)
	case "tags":
		return f.setTags(raw)
	}
	return f.property(name, raw)
}

func (f *fields) setTags(raw json.RawMessage) error {
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil || list == nil {
		return wire.BadRequest("Invalid value for property tags: a list of texts is wanted.")
	}
	if len(list) > maxTags {
		return fault.New(fault.TooLarge, "top/image", "The limit has been exceeded on the number of allowed image tags. Attempted: %d, Maximum: %d.", len(list), maxTags)
	}
	for _, t := range list {
		if t == "" || utf8.RuneCountInString(t) > 255 {
			return wire.BadRequest("Invalid tag: 1 to 255 characters are wanted.")
		}
	}
	slices.Sort(list)
	f.spec.Tags = slices.Compact(list)
	return nil
}

// The limits of Glance (glance/common/config.py: image_property_quota, image_tag_quota), and of a value's column.
const (
	maxProperties = 128
	maxTags       = 128
	maxValue      = 65535 // bytes
)

// property sets a custom property: a text, as Glance's schema has it.
func (f *fields) property(name string, raw json.RawMessage) error {
	if err := settable(name); err != nil {
		return err
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil || name == "" || utf8.RuneCountInString(name) > 255 || len(*s) > maxValue {
		return wire.BadRequest("Provided object does not match schema 'image': property %s must be a text.", name)
	}
	if f.spec.Properties == nil {
		f.spec.Properties = map[string]string{}
	}
	if f.spec.Properties[name] = *s; len(f.spec.Properties) > maxProperties {
		return fault.New(fault.TooLarge, "top/image", "The limit has been exceeded on the number of allowed image properties. Attempted: %d, Maximum: %d.", len(f.spec.Properties), maxProperties)
	}
	return nil
}

// settable refuses the names that are not the owner's to set.
func settable(name string) error {
	if readonly(name) {
		return fault.New(fault.Forbidden, "top/image", "Attribute '%s' is read-only.", name)
	}
	if reserved(name) {
		return fault.New(fault.Forbidden, "top/image", "Attribute '%s' is reserved.", name)
	}
	return nil
}

// create handles POST /v2/images.
func (h *Handler) create(c echo.Context) error {
	body, err := wire.Body(c)
	if err != nil {
		return err
	}
	var f fields
	var owner string
	for name, raw := range body {
		if name == "owner" { // an administrator may create for another project; null is one's own
			if err := json.Unmarshal(raw, &owner); err != nil {
				return wire.Invalid(name, raw)
			}
			continue
		}
		if err := f.set(name, raw); err != nil {
			return err
		}
	}
	who := auth.From(c)
	if err := who.Require("create_image", owner); err != nil {
		return err
	}
	caller := who.Caller()
	if owner != "" {
		caller.ProjectID = owner
	}
	r, err := h.service.Create(c.Request().Context(), caller, ident.TopID(f.id), f.name, f.visibility, f.spec)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", wire.Base(c, h.publicURL)+"/image/v2/images/"+string(r.ID))
	return h.answer(c, http.StatusCreated, r)
}

func (h *Handler) answer(c echo.Context, status int, r *index.Resource) error {
	out, err := h.views(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return c.JSON(status, out[0])
}

// patchType is the JSON-patch dialect of Glance; the older ones differ in how operations are spelled.
const patchType = "application/openstack-images-v2.1-json-patch"

// olderPatchType spells an operation as {"replace": "/name", "value": ...}.
const olderPatchType = "application/openstack-images-v2.0-json-patch"

// operation is one change of a patch.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// parsePatch reads a patch in one of Glance's two dialects.
func parsePatch(body io.Reader, older bool) ([]operation, error) {
	var list []wire.Members
	d := json.NewDecoder(body)
	if err := d.Decode(&list); err != nil || list == nil {
		return nil, wire.BadRequest("Request body must be a JSON array of operation objects.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, wire.BadRequest("Request body must be a JSON array of operation objects.")
	}
	ops := make([]operation, len(list))
	for i, m := range list {
		if m == nil {
			return nil, wire.BadRequest("Operations must be JSON objects.")
		}
		ops[i].Value = m["value"]
		if err := ops[i].name(m, older); err != nil {
			return nil, err
		}
		if ops[i].Op != "remove" && ops[i].Value == nil {
			return nil, wire.BadRequest("Operation \"%s\" requires a member named \"value\".", ops[i].Op)
		}
	}
	return ops, nil
}

func (o *operation) name(m wire.Members, older bool) error {
	if !older {
		if m["op"] == nil {
			return wire.BadRequest("Unable to find `op` in JSON Schema change. It must be one of the following: add, replace, remove.")
		}
		if err := errors.Join(json.Unmarshal(m["op"], &o.Op), json.Unmarshal(append(json.RawMessage{}, m["path"]...), &o.Path)); err != nil {
			return wire.BadRequest("Unable to find `path` in JSON Schema change")
		}
	}
	found := 0
	for _, op := range []string{"add", "replace", "remove"} {
		if raw, ok := m[op]; older && ok {
			o.Op = op
			if found++; json.Unmarshal(raw, &o.Path) != nil {
				return wire.BadRequest("Operation \"%s\" names no path.", op)
			}
		}
	}
	if older && found != 1 || !slices.Contains([]string{"add", "replace", "remove"}, o.Op) {
		return wire.BadRequest("Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".")
	}
	return nil
}

// patch handles PATCH /v2/images/{id}.
func (h *Handler) patch(c echo.Context) error {
	kind, _, _ := cut(c.Request().Header.Get("Content-Type"))
	if kind != patchType && kind != olderPatchType {
		c.Response().Header().Set("Accept-Patch", olderPatchType+", "+patchType)
		return unsupported(c)
	}
	ops, err := parsePatch(c.Request().Body, kind == olderPatchType)
	if err != nil {
		return err
	}
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	if err := who.Require("update_image", ""); err != nil {
		return err
	}
	r, err = h.service.Update(c.Request().Context(), who.Caller(), r.ID, func(r *index.Resource, spec *image.Spec) error {
		return apply(ops, r, spec)
	})
	if err != nil {
		return err
	}
	return h.answer(c, http.StatusOK, r)
}

// apply carries out a patch on an image.
func apply(ops []operation, r *index.Resource, spec *image.Spec) error {
	f := fields{name: r.Name, visibility: r.Visibility, spec: *spec}
	owner := r.ProjectID
	f.spec.Properties = map[string]string{}
	for k, v := range spec.Properties {
		f.spec.Properties[k] = v
	}
	for _, op := range ops {
		name, err := pointer(op.Path)
		if err != nil {
			return err
		}
		if name == "id" {
			return fault.New(fault.Forbidden, "top/image.patch", "Attribute '%s' is read-only.", name)
		}
		if err := settable(name); err != nil {
			return err
		}
		_, custom := f.spec.Properties[name]
		switch {
		case op.Op == "remove" && custom:
			delete(f.spec.Properties, name)
		case op.Op == "remove" && base(name):
			return fault.New(fault.Forbidden, "top/image.patch", "Property %s may not be removed.", name)
		case op.Op == "remove":
			return fault.New(fault.Conflict, "top/image.patch", "Property %s does not exist.", name)
		case op.Op == "replace" && !custom && !base(name):
			return fault.New(fault.Conflict, "top/image.patch", "Property %s does not exist.", name)
		case name == "owner":
			if json.Unmarshal(op.Value, &owner) != nil || owner == "" {
				return wire.Invalid(name, op.Value)
			}
		default:
			if err := f.set(name, op.Value); err != nil {
				return err
			}
		}
	}
	if r.Status != image.Queued && (f.spec.DiskFormat != spec.DiskFormat || f.spec.ContainerFormat != spec.ContainerFormat) {
		return fault.New(fault.Forbidden, "top/image.patch", "Attribute 'disk_format' or 'container_format' may not be changed once there is data.")
	}
	r.Name, r.Visibility, r.ProjectID = f.name, f.visibility, owner
	*spec = f.spec
	return nil
}

// base tells the members that every image has.
func base(name string) bool {
	switch name {
	case "name", "visibility", "disk_format", "container_format", "min_disk", "min_ram", "protected", "os_hidden", "tags", "owner":
		return true
	}
	return false
}

// delete handles DELETE /v2/images/{id}.
func (h *Handler) delete(c echo.Context) error {
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	if err := who.Require("delete_image", ""); err != nil {
		return err
	}
	if err := h.service.Delete(c.Request().Context(), who.Caller(), r.ID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// setActive handles POST /v2/images/{id}/actions/{deactivate,reactivate}.
func (h *Handler) setActive(active bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		who := auth.From(c)
		r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
		if err != nil {
			return err
		}
		if err := who.Require("update_image", ""); err != nil {
			return err
		}
		if err := h.service.SetActive(c.Request().Context(), who.Caller(), r.ID, active); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}

// addTag handles PUT /v2/images/{id}/tags/{tag}.
func (h *Handler) addTag(c echo.Context) error {
	tag := c.Param("tag")
	return h.retag(c, "update_image", func(list []string) ([]string, error) {
		raw, err := json.Marshal(append(slices.Clone(list), tag))
		if err != nil {
			return nil, fmt.Errorf("encode tags: %w", err)
		}
		var f fields
		err = f.setTags(raw)
		return f.spec.Tags, err
	})
}

// removeTag handles DELETE /v2/images/{id}/tags/{tag}.
func (h *Handler) removeTag(c echo.Context) error {
	tag := c.Param("tag")
	return h.retag(c, "update_image", func(list []string) ([]string, error) {
		if !slices.Contains(list, tag) {
			return nil, fault.New(fault.NotFound, "top/image.removeTag", "Tag %s could not be found.", tag)
		}
		return slices.DeleteFunc(slices.Clone(list), func(t string) bool { return t == tag }), nil
	})
}

func (h *Handler) retag(c echo.Context, rule string, change func([]string) ([]string, error)) error {
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	if err := who.Require(rule, ""); err != nil {
		return err
	}
	_, err = h.service.Update(c.Request().Context(), who.Caller(), r.ID, func(_ *index.Resource, spec *image.Spec) error {
		var err error
		spec.Tags, err = change(spec.Tags)
		return err
	})
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// pointer reads the path of an operation: one member (RFC 6901), no deeper.
func pointer(path string) (string, error) {
	name, ok := strings.CutPrefix(path, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", wire.BadRequest("Invalid JSON pointer for this resource: '%s'", path)
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(name), nil
}
