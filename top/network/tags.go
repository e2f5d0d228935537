package network

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

const mostTags = 50 // of a resource (neutron/extensions/tagging.py)

func tagsOf(r *row) ([]string, error) {
	c, err := network.SpecOf[network.Common](r)
	return list(c.Tags), err
}

// setTags replaces a row's tags.
func (h *Handler) setTags(c echo.Context, col *collection, r *row, tags []string) error {
	if len(tags) > mostTags {
		return invalid("tags", "a resource has at most 50 tags")
	}
	_, err := col.update(c.Request().Context(), auth.From(c).Caller(), network.Change{ID: string(r.ID), Fields: network.Fields{"tags": tags}})
	return err
}

func (h *Handler) listTags(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := h.lookUp(c, col, "get")
		if err != nil {
			return err
		}
		tags, err := tagsOf(r)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]any{"tags": tags})
	}
}

func (h *Handler) replaceTags(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		m, err := body(c)
		if err != nil {
			return err
		}
		if _, ok := m["tags"]; !ok {
			return invalid("tags", convertReason+"Invalid tags body")
		}
		checked, reason := listOf(text(60))(m["tags"])
		if reason != "" {
			return invalid("tags", reason)
		}
		r, err := h.lookUp(c, col, "update")
		if err != nil {
			return err
		}
		var tags []string
		for _, t := range checked.([]any) { //nolint:forcetypeassert // what listOf made
			t, _ := t.(string)
			if slices.Contains(tags, t) {
				return invalid("tags", convertReason+"Duplicate items in the list: '"+t+"'")
			}
			tags = append(tags, t)
		}
		if err := h.setTags(c, col, r, tags); err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]any{"tags": list(tags)})
	}
}

func (h *Handler) clearTags(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := h.lookUp(c, col, "update")
		if err != nil {
			return err
		}
		if err := h.setTags(c, col, r, nil); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}

// oneTag looks a row and its tags up for a verb on one tag.
func (h *Handler) oneTag(c echo.Context, col *collection, verb string) (*row, []string, error) {
	r, err := h.lookUp(c, col, verb)
	if err != nil {
		return nil, nil, err
	}
	tags, err := tagsOf(r)
	return r, tags, err
}

func tagNotFound(tag string) error {
	return faultjson.Typed("TagNotFound", fault.New(fault.NotFound, "top/network", "Tag %.60s could not be found.", tag))
}

func (h *Handler) hasTag(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		_, tags, err := h.oneTag(c, col, "get")
		if err != nil {
			return err
		}
		if !slices.Contains(tags, c.Param("tag")) {
			return tagNotFound(c.Param("tag"))
		}
		return c.NoContent(http.StatusNoContent)
	}
}

func (h *Handler) addTag(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := anyJSON(c); err != nil {
			return err
		}
		tag, reason := text(60)(c.Param("tag"))
		if reason != "" {
			return invalid("tag", reason)
		}
		r, tags, err := h.oneTag(c, col, "update")
		if err != nil {
			return err
		}
		if name, _ := tag.(string); !slices.Contains(tags, name) {
			if err := h.setTags(c, col, r, append(tags, name)); err != nil {
				return err
			}
		}
		return c.NoContent(http.StatusCreated)
	}
}

func (h *Handler) removeTag(col *collection) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, tags, err := h.oneTag(c, col, "update")
		if err != nil {
			return err
		}
		i := slices.Index(tags, c.Param("tag"))
		if i < 0 {
			return tagNotFound(c.Param("tag"))
		}
		if err := h.setTags(c, col, r, slices.Delete(tags, i, i+1)); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}
