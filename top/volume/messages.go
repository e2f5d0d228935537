package volume

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

// messageLife is how long Cinder keeps a message (message_ttl, 30 days). Ours lasts as long as what it is about.
const messageLife = 30 * 24 * time.Hour

// A volume's body has no place for a reason. Cinder tells reasons as messages (3.3): one for
// each volume or snapshot that is in error.

// listMessages handles GET /messages.
func (h *Handler) listMessages(c echo.Context) error {
	who := auth.From(c)
	if err := messagesOffered(c); err != nil {
		return err
	}
	if err := who.Require("get_volume", ""); err != nil {
		return err
	}
	out := []map[string]any{}
	for _, kind := range []sites.Kind{sites.Volume, sites.Snapshot} {
		caller := who.Caller()
		rows, err := h.service.List(c.Request().Context(), index.Query{
			Kind: kind, Project: caller.ProjectID, Pin: caller.Pin, In: map[index.Field][]string{index.ByState: {string(index.Failed)}},
			Match: func(r *index.Resource) bool { return r.Fault != nil }, Limit: wire.MaxLimit,
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			out = append(out, h.viewMessage(c, r))
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"messages": out})
}

// showMessage handles GET /messages/{id}: a message has the id of what it is about.
func (h *Handler) showMessage(c echo.Context) error {
	if err := messagesOffered(c); err != nil {
		return err
	}
	for _, kind := range []sites.Kind{sites.Volume, sites.Snapshot} {
		r, err := h.find(c, kind, "get")
		if err == nil && r.Fault != nil {
			return c.JSON(http.StatusOK, map[string]any{"message": h.viewMessage(c, r)})
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return fault.New(fault.NotFound, "top/volume.showMessage", "Message %s could not be found.", c.Param("id"))
}

func messagesOffered(c echo.Context) error {
	if !version(c).AtLeast(3) {
		return fault.New(fault.NotFound, "top/volume", "The resource could not be found.")
	}
	return nil
}

func (h *Handler) viewMessage(c echo.Context, r *index.Resource) map[string]any {
	resource := map[sites.Kind]string{sites.Volume: "VOLUME", sites.Snapshot: "VOLUME_SNAPSHOT"}[r.Kind]
	versioned, bare := h.endpoint(c)
	text := r.Fault.Message
	if r.Fault.Site != "" {
		text = "site " + string(r.Fault.Site) + ": " + text
	}
	return map[string]any{
		"id": string(r.ID), "event_id": resource + "_" + resource + "_001_001", "user_message": text, "message_level": "ERROR",
		"resource_type": resource, "resource_uuid": string(r.ID), "request_id": orNil(r.Fault.RequestID),
		"created_at": wire.Micros(r.Fault.At), "guaranteed_until": wire.Micros(r.Fault.At.Add(messageLife)),
		"links": wire.SelfLinks(versioned, bare, "messages", string(r.ID)),
	}
}
