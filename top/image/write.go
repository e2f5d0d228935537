package image

import (
	"encoding/json"
	"fmt"
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
		if err := json.Unmarshal(raw, into); err != nil || *into < 0 || *into > 1<<31-1 {
			return wire.BadRequest("Invalid value for property %s: a whole number from 0 to 2147483647 is wanted.", name)
		}
		return nil
	}
	flag := func(into *bool) error {
		if err := json.Unmarshal(raw, into); err != nil {
			return wire.BadRequest("Invalid value for property %s: true or false is wanted.", name)
		}
		return nil
	}
	oneOf := func(into *string, allowed []string) error {
		if err := text(into, 255); err != nil {
			return err
		}
		if *into != "" && !slices.Contains(allowed, *into) {
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
	if err := json.Unmarshal(raw, &list); err != nil {
		return wire.BadRequest("Invalid value for property tags: a list of texts is wanted.")
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

// property sets a custom property: a text, as Glance's schema has it.
func (f *fields) property(name string, raw json.RawMessage) error {
	if readonly(name) {
		return fault.New(fault.Forbidden, "top/image", "Attribute '%s' is read-only.", name)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || name == "" || len(name) > 255 {
		return wire.BadRequest("Provided object does not match schema 'image': property %s must be a text.", name)
	}
	if f.spec.Properties == nil {
		f.spec.Properties = map[string]string{}
	}
	f.spec.Properties[name] = s
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
		if name == "owner" { // an administrator may create for another project
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
	out, err := h.view(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return c.JSON(status, out)
}

// patchType is the JSON-patch dialect of Glance; the older ones differ in how operations are spelled.
const patchType = "application/openstack-images-v2.1-json-patch"

// operation is one change of a patch.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// patch handles PATCH /v2/images/{id}.
func (h *Handler) patch(c echo.Context) error {
	kind, _, _ := cut(c.Request().Header.Get("Content-Type"))
	if kind != patchType && kind != "application/openstack-images-v2.0-json-patch" {
		return wire.BadRequest("Unsupported Content-Type %q: %s is wanted.", kind, patchType)
	}
	var ops []operation
	if err := json.NewDecoder(c.Request().Body).Decode(&ops); err != nil {
		return wire.BadRequest("Request body must be a JSON array of operation objects.")
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
	f.spec.Properties = map[string]string{}
	for k, v := range spec.Properties {
		f.spec.Properties[k] = v
	}
	for _, op := range ops {
		name, err := pointer(op.Path)
		if err != nil {
			return err
		}
		if readonly(name) || name == "id" {
			return fault.New(fault.Forbidden, "top/image.patch", "Attribute '%s' is read-only.", name)
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
		case op.Op == "add" || op.Op == "replace":
			if err := f.set(name, op.Value); err != nil {
				return err
			}
		default:
			return wire.BadRequest("Operations must be one of add, replace and remove; %q is none.", op.Op)
		}
	}
	if r.Status != image.Queued && (f.spec.DiskFormat != spec.DiskFormat || f.spec.ContainerFormat != spec.ContainerFormat) {
		return fault.New(fault.Forbidden, "top/image.patch", "Attribute 'disk_format' or 'container_format' may not be changed once there is data.")
	}
	r.Name, r.Visibility = f.name, f.visibility
	*spec = f.spec
	return nil
}

// base tells the members that every image has.
func base(name string) bool {
	switch name {
	case "name", "visibility", "disk_format", "container_format", "min_disk", "min_ram", "protected", "os_hidden", "tags":
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
