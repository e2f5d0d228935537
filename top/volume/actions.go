package volume

import (
	"encoding/json"
	"maps"
	"net/http"

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

// actions are the actions and the rule that each wants.
var actions = map[string]struct {
	rule string
	do   actor
}{
	"os-extend":                   {"act_on_volume", (*Handler).extend},
	"os-retype":                   {"act_on_volume", (*Handler).retype},
	"os-set_bootable":             {"act_on_volume", forward("os-set_bootable", "")},
	"os-update_readonly_flag":     {"act_on_volume", forward("os-update_readonly_flag", "")},
	"os-volume_upload_image":      {"act_on_volume", (*Handler).uploadImage},
	"os-reset_status":             {"reset_state", forward("os-reset_status", "")},
	"os-force_detach":             {"reset_state", forward("os-force_detach", "")},
	"os-force_delete":             {"reset_state", (*Handler).forceDelete},
	"os-set_image_metadata":       {"act_on_volume", forward("os-set_image_metadata", "")},
	"os-unset_image_metadata":     {"act_on_volume", forward("os-unset_image_metadata", "")},
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

// act handles POST /volumes/{id}/action.
func (h *Handler) act(c echo.Context) error {
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
		r, err := h.service.Find(c.Request().Context(), who.Caller(), sites.Volume, c.Param("id"))
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

// forward passes an action on whose arguments hold no reference.
func forward(name, status string) actor {
	return func(h *Handler, c echo.Context, r *index.Resource, args wire.Members) error {
		if err := h.service.Act(c.Request().Context(), auth.From(c).Caller(), string(r.ID), name, status, args); err != nil {
			return err
		}
		if name == "os-set_bootable" || name == "os-set_image_metadata" || name == "os-unset_image_metadata" {
			return c.NoContent(http.StatusOK)
		}
		return c.NoContent(http.StatusAccepted)
	}
}

func (h *Handler) extend(c echo.Context, r *index.Resource, args wire.Members) error {
	var size wire.Int
	if err := args.Take("new_size", &size); err != nil {
		return err
	}
	if size <= 0 {
		return wire.BadRequest("Invalid input for field/attribute new_size. It must be a positive number of GiB.")
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
	meta, _ := r.Observed["volume_image_metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	return c.JSON(http.StatusOK, map[string]any{"metadata": meta})
}

func (h *Handler) uploadImage(c echo.Context, r *index.Resource, args wire.Members) error {
	req := volume.UploadRequest{DiskFormat: "raw", ContainerFormat: "bare"}
	var force wire.Bool
	err := args.TakeAll(wire.Field{Key: "image_name", Into: &req.Name}, wire.Field{Key: "disk_format", Into: &req.DiskFormat},
		wire.Field{Key: "container_format", Into: &req.ContainerFormat}, wire.Field{Key: "force", Into: &force})
	if err != nil {
		return err
	}
	if req.Name == "" {
		return wire.BadRequest("Invalid input for field/attribute image_name. 'image_name' is a required property")
	}
	req.Force = bool(force)
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
	return c.JSON(http.StatusAccepted, map[string]any{"os-volume_upload_image": out})
}
