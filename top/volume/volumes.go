package volume

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/cascade/volume"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// maxName is the length of Cinder's names and descriptions; maxSize the greatest number of GiB that it takes.
const (
	maxName = 255
	maxSize = 1<<31 - 1
)

// unexpected is the fault for members that Cinder's schema does not have.
func unexpected(field string, in wire.Members) error {
	names := slices.Sorted(maps.Keys(in))
	return wire.BadRequest("Invalid input for field/attribute %s. Additional properties are not allowed ('%s' was unexpected)", field, strings.Join(names, "', '"))
}

func checkText(name, value string) error {
	if len(value) > 4*maxName || len([]rune(value)) > maxName {
		return wire.BadRequest("Invalid input for field/attribute %s. It has more than %d characters.", name, maxName)
	}
	return nil
}

// createVolume handles POST /volumes.
func (h *Handler) createVolume(c echo.Context) error {
	in, rest, err := wire.Object(c, "volume")
	if err != nil {
		return err
	}
	var req volume.CreateRequest
	var size *wire.Int
	var name, description, display, zone, typ, image, snapshot, source, imageID *string
	var multi wire.Bool
	err = in.TakeAll(wire.Field{Key: "size", Into: &size}, wire.Field{Key: "name", Into: &name}, wire.Field{Key: "display_name", Into: &display},
		wire.Field{Key: "description", Into: &description}, wire.Field{Key: "display_description", Into: &description},
		wire.Field{Key: "availability_zone", Into: &zone}, wire.Field{Key: "volume_type", Into: &typ},
		wire.Field{Key: "imageRef", Into: &image}, wire.Field{Key: "image_id", Into: &imageID}, wire.Field{Key: "snapshot_id", Into: &snapshot},
		wire.Field{Key: "source_volid", Into: &source}, wire.Field{Key: "metadata", Into: &req.Metadata}, wire.Field{Key: "multiattach", Into: &multi})
	if err != nil {
		return err
	}
	for _, member := range []string{"status", "attach_status", "user_id", "project_id", "source_replica"} {
		delete(in, member) // sent by old clients, without meaning since v2
	}
	if req.Extra = known(in); bool(multi) {
		return wire.BadRequest("multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. Contact your administrator to create a multiattach enabled volume type and use it to create multiattach volumes.")
	}
	for member, what := range map[string]string{"group_id": "Groups of volumes", "consistencygroup_id": "Groups of volumes", "backup_id": "Volumes made of backups"} {
		if _, there := req.Extra[member]; there {
			return wire.BadRequest("Invalid input for field/attribute %s. %s are not offered here.", member, what)
		}
	}
	if len(req.Extra) > 0 && version(c).AtLeast(53) {
		return unexpected("volume", in)
	}
	if req.Spread, err = hint(rest); err != nil {
		return err
	}
	if size != nil {
		if req.SizeGiB = int64(*size); req.SizeGiB <= 0 || req.SizeGiB > maxSize {
			return wire.BadRequest("Invalid input for field/attribute size. Value: %d. It must be a number of GiB from 1 to %d.", req.SizeGiB, int64(maxSize))
		}
	}
	req.Name, req.Description, req.Zone, req.Type = first(name, display), first(description), first(zone), first(typ)
	req.ImageID, req.SnapshotID, req.SourceID = first(image, imageID), first(snapshot), first(source)
	for field, value := range map[string]string{"name": req.Name, "description": req.Description} {
		if err := checkText(field, value); err != nil {
			return err
		}
	}
	who := auth.From(c)
	if err := who.Require("create_volume", ""); err != nil {
		return err
	}
	r, err := h.service.Create(c.Request().Context(), who.Caller(), req)
	if err != nil {
		return err
	}
	return h.answerChanged(c, http.StatusAccepted, r)
}

// hint reads the scheduler hints. Those of Cinder's name volumes of one site, which does not heed them for an
// ordinary volume of ours: they are refused, not dropped.
func hint(rest wire.Members) (spread bool, err error) {
	for _, key := range []string{"OS-SCH-HNT:scheduler_hints", "os:scheduler_hints"} {
		var hints map[string]any
		if err := rest.Take(key, &hints); err != nil {
			return false, err
		}
		for name := range hints {
			if name != "headwater:spread" {
				return false, wire.BadRequest("Invalid input for field/attribute %s. The hint %s is not offered here.", key, name)
			}
			spread = true
		}
	}
	if len(rest) > 0 {
		return false, unexpected("volume", rest)
	}
	return spread, nil
}

// known drops members that are null: they say nothing.
func known(in wire.Members) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for k, v := range in {
		if string(v) != "null" {
			out[k] = v
		}
	}
	return out
}

// first is the first text that says something, without the white space around it, which Cinder takes away.
func first(values ...*string) string {
	for _, v := range values {
		if v != nil && *v != "" {
			return strings.TrimSpace(*v)
		}
	}
	return ""
}

func (h *Handler) answerVolume(c echo.Context, status int, r *index.Resource) error {
	out, err := h.viewVolume(c, r)
	if err != nil {
		return err
	}
	return c.JSON(status, map[string]any{"volume": out})
}

func (h *Handler) answerChanged(c echo.Context, status int, r *index.Resource) error {
	out, err := h.viewChanged(c, r)
	if err != nil {
		return err
	}
	return c.JSON(status, map[string]any{"volume": out})
}

// find looks a resource up and then checks the rule: what is not there comes before what is not allowed.
func (h *Handler) find(c echo.Context, kind sites.Kind, verb string) (*index.Resource, error) {
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), kind, c.Param("id"))
	if err != nil {
		return nil, err
	}
	return r, who.Require(verb+"_"+kindRule(kind), r.ProjectID)
}

// showVolume handles GET /volumes/{id}.
func (h *Handler) showVolume(c echo.Context) error {
	r, err := h.find(c, sites.Volume, "get")
	if err != nil {
		return err
	}
	return h.answerVolume(c, http.StatusOK, r)
}

// update handles PUT /volumes/{id} and /snapshots/{id}.
func (h *Handler) update(kind sites.Kind) echo.HandlerFunc {
	return func(c echo.Context) error {
		in, _, err := wire.Object(c, string(kind))
		if err != nil {
			return err
		}
		var ch volume.Change
		var meta map[string]string
		var display, displayDescription *string
		err = in.TakeAll(wire.Field{Key: "name", Into: &ch.Name}, wire.Field{Key: "description", Into: &ch.Description},
			wire.Field{Key: "display_name", Into: &display}, wire.Field{Key: "display_description", Into: &displayDescription},
			wire.Field{Key: "metadata", Into: &meta})
		if err != nil {
			return err
		}
		if len(in) > 0 {
			return unexpected(string(kind), in)
		}
		if meta != nil {
			ch.Metadata = func(map[string]string) (map[string]string, error) { return meta, nil }
		}
		if ch.Name == nil {
			ch.Name = display
		}
		if ch.Description == nil {
			ch.Description = displayDescription
		}
		for field, value := range map[string]*string{"name": ch.Name, "description": ch.Description} {
			if value != nil {
				*value = strings.TrimSpace(*value)
				if err := checkText(field, *value); err != nil {
					return err
				}
			}
		}
		r, err := h.find(c, kind, "update")
		if err != nil {
			return err
		}
		r, err = h.service.Update(c.Request().Context(), auth.From(c).Caller(), kind, string(r.ID), ch)
		if err != nil {
			return err
		}
		if kind == sites.Snapshot {
			return h.answerSnapshot(c, http.StatusOK, r, false)
		}
		return h.answerChanged(c, http.StatusOK, r)
	}
}

// deleteVolume handles DELETE /volumes/{id}.
func (h *Handler) deleteVolume(c echo.Context) error {
	r, err := h.find(c, sites.Volume, "delete")
	if err != nil {
		return err
	}
	withSnapshots := isTrue(c.QueryParam("cascade"))
	force := isTrue(c.QueryParam("force")) && auth.From(c).Caller().Admin()
	if err := h.service.Delete(c.Request().Context(), auth.From(c).Caller(), string(r.ID), withSnapshots, force); err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}

func isTrue(s string) bool { return s == "True" || s == "true" || s == "1" }

// summary handles GET /volumes/summary (3.12).
func (h *Handler) summary(c echo.Context) error {
	if !version(c).AtLeast(12) {
		return fault.New(fault.NotFound, "top/volume.summary", "Volume summary could not be found.")
	}
	who := auth.From(c)
	if err := who.Require("get_volume", ""); err != nil {
		return err
	}
	q, err := h.query(c, sites.Volume)
	if err != nil {
		return err
	}
	q.Limit, q.Marker = 0, ""
	rows, err := h.service.List(c.Request().Context(), q)
	if err != nil {
		return err
	}
	var size int64
	values := map[string][]string{}
	for _, r := range rows {
		var spec volume.Spec
		if err := r.Decode(&spec); err != nil {
			return err
		}
		size += spec.SizeGiB
		for k, v := range spec.Metadata {
			if !slices.Contains(values[k], v) {
				values[k] = append(values[k], v)
			}
		}
	}
	out := map[string]any{"total_count": len(rows), "total_size": size}
	if version(c).AtLeast(36) {
		out["metadata"] = values
	}
	return c.JSON(http.StatusOK, map[string]any{"volume-summary": out})
}
