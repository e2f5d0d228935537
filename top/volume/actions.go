package volume

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// actor handles one action of POST /volumes/{id}/action.
type actor func(h *Handler, c echo.Context, r *index.Resource, args wire.Members) error

// rule is what an action wants of the caller, and what it does.
type rule struct {
	rule string
	do   actor
}

// actions are the actions of a volume.
var actions = map[string]rule{
	"os-extend":                   {"act_on_volume", (*Handler).extend},
	"os-retype":                   {"act_on_volume", (*Handler).retype},
	"os-set_bootable":             {"act_on_volume", (*Handler).setBootable},
	"os-update_readonly_flag":     {"act_on_volume", (*Handler).setReadonly},
	"os-volume_upload_image":      {"act_on_volume", (*Handler).uploadImage},
	"os-reset_status":             {"reset_state", (*Handler).resetStatus},
	"os-force_detach":             {"reset_state", refuse("Detach the volume through the compute API; what is left at the site is its operator's to end.")},
	"os-force_delete":             {"reset_state", (*Handler).forceDelete},
	"os-set_image_metadata":       {"act_on_volume", (*Handler).setImageMetadata},
	"os-unset_image_metadata":     {"act_on_volume", (*Handler).unsetImageMetadata},
	"os-show_image_metadata":      {"get_volume", (*Handler).imageMetadata},
	"os-reimage":                  {"act_on_volume", refuse("Volumes are re-imaged at the site by its operator only.")},
	"os-attach":                   {"act_on_volume", refuse("Attach the volume through the compute API: only a server can have it.")},
	"os-detach":                   {"act_on_volume", refuse("Detach the volume through the compute API.")},
	"os-migrate_volume":           {"migrate_server", refuse("Where a volume lies within its site is the site's own to say.")},
	"os-initialize_connection":    {"act_on_volume", refuse("Connections to volumes are made at their site only.")},
	"os-terminate_connection":     {"act_on_volume", refuse("Connections to volumes are made at their site only.")},
	"os-reserve":                  {"act_on_volume", refuse("Volumes are reserved by attaching them through the compute API.")},
	"os-unreserve":                {"act_on_volume", refuse("Volumes are reserved by attaching them through the compute API.")},
	"os-begin_detaching":          {"act_on_volume", refuse("Detach the volume through the compute API.")},
	"os-roll_detaching":           {"act_on_volume", refuse("Detach the volume through the compute API.")},
	"os-extend_volume_completion": {"reset_state", refuse("Only a site's own compute service says this.")},
}

func refuse(sentence string) actor {
	return func(_ *Handler, _ echo.Context, r *index.Resource, _ wire.Members) error {
		return &fault.Error{Op: "top/volume.act", Site: string(r.Site), Kind: fault.Conflict, Msg: sentence}
	}
}

// snapshotActions are the actions of POST /snapshots/{id}/action; both are an administrator's.
var snapshotActions = map[string]rule{
	"os-reset_status": {"reset_state", (*Handler).resetStatus},
	"os-force_delete": {"reset_state", func(h *Handler, c echo.Context, r *index.Resource, _ wire.Members) error {
		if err := h.service.DeleteSnapshot(c.Request().Context(), auth.From(c).Caller(), string(r.ID), true); err != nil {
			return err
		}
		return c.NoContent(http.StatusAccepted)
	}},
}

// act handles POST /volumes/{id}/action and /snapshots/{id}/action.
func (h *Handler) act(kind sites.Kind, actions map[string]rule) echo.HandlerFunc {
	return func(c echo.Context) error { return h.actOn(c, kind, actions) }
}

func (h *Handler) actOn(c echo.Context, kind sites.Kind, actions map[string]rule) error {
	body, err := wire.Body(c)
	if err != nil {
		return err
	}
	if len(body) != 1 {
		return wire.BadRequest("The request names %d actions: exactly one is wanted.", len(body))
	}
	for name, raw := range body {
		a, ok := actions[name]
		if !ok {
			return wire.BadRequest("There is no such action: %s", name)
		}
		args := wire.Members{}
		if string(raw) != "null" && json.Unmarshal(raw, &args) != nil {
			return wire.Invalid(name, raw)
		}
		who := auth.From(c)
		r, err := h.service.Find(c.Request().Context(), who.Caller(), kind, c.Param("id"))
		if err != nil {
			return err
		}
		if err := who.Require(a.rule, r.ProjectID); err != nil {
			return err
		}
		return a.do(h, c, r, args)
	}
	return nil
}

// pass passes an action on to the site.
func (h *Handler) pass(c echo.Context, r *index.Resource, code int, d volume.Deed) error {
	if err := h.service.Act(c.Request().Context(), auth.From(c).Caller(), r.Kind, string(r.ID), d); err != nil {
		return err
	}
	return c.NoContent(code)
}

func (h *Handler) setBootable(c echo.Context, r *index.Resource, args wire.Members) error {
	var on *wire.Bool
	if err := args.Take("bootable", &on); err != nil {
		return err
	}
	if on == nil {
		return wire.BadRequest("Invalid input for field/attribute os-set_bootable. 'bootable' is a required property")
	}
	return h.pass(c, r, http.StatusOK, volume.Deed{Name: "os-set_bootable", Args: sites.Body{"bootable": bool(*on)}, Done: func(r *index.Resource) error {
		r.Observed["bootable"] = strconv.FormatBool(bool(*on))
		return nil
	}})
}

func (h *Handler) setReadonly(c echo.Context, r *index.Resource, args wire.Members) error {
	var on *wire.Bool
	if err := args.Take("readonly", &on); err != nil {
		return err
	}
	if on == nil {
		return wire.BadRequest("Invalid input for field/attribute os-update_readonly_flag. 'readonly' is a required property")
	}
	return h.pass(c, r, http.StatusAccepted, volume.Deed{Name: "os-update_readonly_flag", Args: sites.Body{"readonly": bool(*on)}, Done: func(r *index.Resource) error {
		shown, _ := r.Observed["metadata"].(map[string]any)
		if shown = maps.Clone(shown); shown == nil {
			shown = map[string]any{}
		}
		// Python's spelling, as Cinder stores it; who looks right afterwards sees it.
		shown["readonly"] = map[bool]string{true: "True", false: "False"}[bool(*on)]
		r.Observed["metadata"] = shown
		return nil
	}})
}

// resetStatus forces statuses: an administrator's, at the site as well.
func (h *Handler) resetStatus(c echo.Context, r *index.Resource, args wire.Members) error {
	pass := sites.Body{}
	for _, member := range []string{"status", "attach_status", "migration_status"} {
		var text string
		if err := args.Take(member, &text); err != nil {
			return err
		}
		if text != "" {
			pass[member] = text
		}
	}
	if len(pass) == 0 {
		return wire.BadRequest("Invalid input for field/attribute os-reset_status. Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	status, _ := pass["status"].(string)
	return h.pass(c, r, http.StatusAccepted, volume.Deed{Name: "os-reset_status", Args: pass, Admin: true, Done: func(r *index.Resource) error {
		if status != "" { // Cinder has set it when it answers: who looks next must not see the one before
			r.Status = status
		}
		return nil
	}})
}

func (h *Handler) setImageMetadata(c echo.Context, r *index.Resource, args wire.Members) error {
	var meta map[string]string
	if err := args.Take("metadata", &meta); err != nil {
		return err
	}
	if meta == nil {
		return wire.BadRequest("Invalid input for field/attribute os-set_image_metadata. 'metadata' is a required property")
	}
	for k := range meta {
		if k == sites.ImageMarker || k == "image_id" {
			return wire.BadRequest("The image metadata key %q is not to be set.", k)
		}
	}
	all := imageMetadata(r)
	for k, v := range meta {
		all[k] = v
	}
	err := h.service.Act(c.Request().Context(), auth.From(c).Caller(), r.Kind, string(r.ID), volume.Deed{
		Name: "os-set_image_metadata", Args: sites.Body{"metadata": meta}, Done: func(r *index.Resource) error {
			r.Observed["volume_image_metadata"] = all
			return nil
		},
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"metadata": all})
}

func (h *Handler) unsetImageMetadata(c echo.Context, r *index.Resource, args wire.Members) error {
	var key string
	if err := args.Take("key", &key); err != nil {
		return err
	}
	if key == "" || key == sites.ImageMarker || key == "image_id" {
		return wire.BadRequest("Invalid input for field/attribute key. Value: %s.", key)
	}
	return h.pass(c, r, http.StatusOK, volume.Deed{Name: "os-unset_image_metadata", Args: sites.Body{"key": key}, Done: func(r *index.Resource) error {
		all := imageMetadata(r)
		delete(all, key)
		r.Observed["volume_image_metadata"] = all
		return nil
	}})
}

func imageMetadata(r *index.Resource) map[string]any {
	meta, _ := r.Observed["volume_image_metadata"].(map[string]any)
	if meta = maps.Clone(meta); meta == nil {
		meta = map[string]any{}
	}
	return meta
}

func (h *Handler) extend(c echo.Context, r *index.Resource, args wire.Members) error {
	var size wire.Int
	if err := args.Take("new_size", &size); err != nil {
		return err
	}
	if size <= 0 || size > maxSize {
		return wire.BadRequest("Invalid input for field/attribute new_size. Value: %d. It must be a number of GiB from 1 to %d.", size, int64(maxSize))
	}
	if r.Status == "in-use" && !version(c).AtLeast(42) {
		return wire.BadRequest("Invalid volume: Volume %s status must be '['available']' to extend, currently in-use.", r.ID)
	}
	if err := h.service.Extend(c.Request().Context(), auth.From(c).Caller(), string(r.ID), int64(size)); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

func (h *Handler) retype(c echo.Context, r *index.Resource, args wire.Members) error {
	var typ, policy string
	if err := args.TakeAll(wire.Field{Key: "new_type", Into: &typ}, wire.Field{Key: "migration_policy", Into: &policy}); err != nil {
		return err
	}
	if err := h.service.Retype(c.Request().Context(), auth.From(c).Caller(), string(r.ID), typ, policy); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

func (h *Handler) forceDelete(c echo.Context, r *index.Resource, _ wire.Members) error {
	if err := h.service.Delete(c.Request().Context(), auth.From(c).Caller(), string(r.ID), false, true); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

func (h *Handler) imageMetadata(c echo.Context, r *index.Resource, _ wire.Members) error {
	return c.JSON(http.StatusOK, map[string]any{"metadata": imageMetadata(r)})
}

func (h *Handler) uploadImage(c echo.Context, r *index.Resource, args wire.Members) error {
	req := volume.UploadRequest{DiskFormat: "raw", ContainerFormat: "bare"}
	var force, protected wire.Bool
	var visibility string
	err := args.TakeAll(wire.Field{Key: "visibility", Into: &visibility}, wire.Field{Key: "protected", Into: &protected},
		wire.Field{Key: "image_name", Into: &req.Name}, wire.Field{Key: "disk_format", Into: &req.DiskFormat},
		wire.Field{Key: "container_format", Into: &req.ContainerFormat}, wire.Field{Key: "force", Into: &force})
	if err != nil {
		return err
	}
	if req.Name == "" {
		return wire.BadRequest("Invalid input for field/attribute image_name. 'image_name' is a required property")
	}
	if visibility != "" && !slices.Contains([]string{"public", "private", "shared", "community"}, visibility) {
		return wire.BadRequest("Invalid input for field/attribute visibility. Value: %s. '%s' is not one of ['community', 'public', 'private', 'shared']", visibility, visibility)
	}
	if req.Force = bool(force); version(c).AtLeast(1) {
		req.Visibility, req.Protected = visibility, bool(protected)
	}
	who := auth.From(c)
	if err := who.Require("create_image", ""); err != nil {
		return err
	}
	image, told, err := h.service.Upload(c.Request().Context(), who.Caller(), string(r.ID), req)
	if err != nil {
		return err
	}
	out := map[string]any{}
	maps.Copy(out, told)
	out["id"], out["image_id"], out["image_name"], out["status"] = string(r.ID), string(image.ID), req.Name, "uploading"
	delete(out, "volume_type") // with the site's own id of the type in it
	if version(c).AtLeast(1) {
		out["protected"], out["visibility"] = req.Protected, image.Visibility
	}
	return c.JSON(http.StatusAccepted, map[string]any{"os-volume_upload_image": out})
}
