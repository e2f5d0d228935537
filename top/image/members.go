package image

import (
	"context"
	"net/http"
	"sort"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/wire"
)

func viewMember(r *index.Resource, project, status string, at image.Times) map[string]any {
	return map[string]any{
		"image_id": string(r.ID), "member_id": project, "status": status, "schema": "/v2/schemas/member",
		"created_at": stamp(at.Created), "updated_at": stamp(at.Updated),
	}
}

// shared finds an image and its members that the caller may see: all for the owner, else the caller's own.
func (h *Handler) shared(c echo.Context, rule string) (*index.Resource, image.Spec, error) {
	var spec image.Spec
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return nil, spec, err
	}
	if err := who.Require(rule, ""); err != nil {
		return nil, spec, err
	}
	if err := r.Decode(&spec); err != nil {
		return nil, spec, err
	}
	if r.Visibility != image.Shared {
		return nil, spec, fault.New(fault.Forbidden, "top/image", "Only shared images have members.")
	}
	caller := who.Caller()
	if !caller.Admin() && caller.ProjectID != r.ProjectID {
		own := map[string]string{}
		if status, ok := spec.Members[caller.ProjectID]; ok {
			own[caller.ProjectID] = status
		}
		spec.Members = own
	}
	return r, spec, nil
}

// listMembers handles GET /v2/images/{id}/members.
func (h *Handler) listMembers(c echo.Context) error {
	r, spec, err := h.shared(c, "get_image_member")
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for project, status := range spec.Members {
		list = append(list, viewMember(r, project, status, spec.MemberTimes[project]))
	}
	sort.Slice(list, func(i, j int) bool { return list[i]["member_id"].(string) < list[j]["member_id"].(string) })
	return c.JSON(http.StatusOK, map[string]any{"members": list, "schema": "/v2/schemas/members"})
}

// showMember handles GET /v2/images/{id}/members/{project}.
func (h *Handler) showMember(c echo.Context) error {
	r, spec, err := h.shared(c, "get_image_member")
	if err != nil {
		return err
	}
	project := c.Param("member")
	status, ok := spec.Members[project]
	if !ok {
		return fault.New(fault.NotFound, "top/image.showMember", "%s not found in the member list of the image %s.", project, r.ID)
	}
	return c.JSON(http.StatusOK, viewMember(r, project, status, spec.MemberTimes[project]))
}

// addMember handles POST /v2/images/{id}/members.
func (h *Handler) addMember(c echo.Context) error {
	var project string
	err := h.member(c, "member", &project, "Member to be added not specified")
	if err != nil {
		return err
	}
	return h.setMember(c, "create_image_member", project, func(ctx context.Context, caller sites.Caller, id ident.TopID) (image.Times, string, error) {
		at, err := h.service.AddMember(ctx, caller, id, project)
		return at, "pending", err
	})
}

// answerMember handles PUT /v2/images/{id}/members/{project}.
func (h *Handler) answerMember(c echo.Context) error {
	var status string
	err := h.member(c, "status", &status, "Status not specified")
	if err != nil {
		return err
	}
	return h.setMember(c, "update_image_member", c.Param("member"), func(ctx context.Context, caller sites.Caller, id ident.TopID) (image.Times, string, error) {
		at, err := h.service.AnswerMember(ctx, caller, id, c.Param("member"), status)
		return at, status, err
	})
}

// member reads the one text of a request about a member.
func (h *Handler) member(c echo.Context, key string, into *string, missing string) error {
	body, err := wire.Body(c)
	if err != nil {
		return err
	}
	if err := body.Take(key, into); err != nil {
		return err
	}
	if *into == "" || utf8.RuneCountInString(*into) > 255 {
		return wire.BadRequest("%s", missing)
	}
	return nil
}

func (h *Handler) setMember(c echo.Context, rule, project string, set func(context.Context, sites.Caller, ident.TopID) (image.Times, string, error)) error {
	who := auth.From(c)
	r, err := h.service.Find(c.Request().Context(), who.Caller(), c.Param("image"))
	if err != nil {
		return err
	}
	if err := who.Require(rule, ""); err != nil {
		return err
	}
	at, status, err := set(c.Request().Context(), who.Caller(), r.ID)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, viewMember(r, project, status, at))
}

// removeMember handles DELETE /v2/images/{id}/members/{project}.
func (h *Handler) removeMember(c echo.Context) error {
	r, _, err := h.shared(c, "delete_image_member")
	if err != nil {
		return err
	}
	if err := h.service.RemoveMember(c.Request().Context(), auth.From(c).Caller(), r.ID, c.Param("member")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
