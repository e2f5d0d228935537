package identity

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
)

// subjectHeader carries the token that is made, shown or revoked.
const subjectHeader = "X-Subject-Token"

// issueToken handles POST /v3/auth/tokens.
func (h *Handler) issueToken(c echo.Context) error {
	data, err := body(c)
	if err != nil {
		return err
	}
	login, err := parseAuth(data)
	if err != nil {
		return err
	}
	login.RemoteAddr = auth.RemoteAddr(c)
	issued, err := h.store.Login(c.Request().Context(), login)
	if err != nil {
		return err
	}
	h.cfg.Auth.Enter(c, issued.Token, issued.Secret) // so that the audit says who logged in
	view, err := h.viewToken(c, issued.Token)
	if err != nil {
		return err
	}
	c.Response().Header().Set(subjectHeader, issued.Secret.Reveal())
	c.Response().Header().Set("Vary", auth.TokenHeader)
	return c.JSON(http.StatusCreated, view)
}

// showToken handles GET and HEAD /v3/auth/tokens.
func (h *Handler) showToken(c echo.Context) error {
	text, err := subject(c)
	if err != nil {
		return err
	}
	expired := queryFlag(c, "allow_expired")
	t, err := h.store.Inspect(c.Request().Context(), text, expired != nil && *expired)
	if err != nil {
		return err
	}
	if err := requireSelf(c, t.User.ID, "identity:validate_token"); err != nil {
		return err
	}
	view, err := h.viewToken(c, t)
	if err != nil {
		return err
	}
	c.Response().Header().Set(subjectHeader, text)
	c.Response().Header().Set("Vary", auth.TokenHeader)
	return c.JSON(http.StatusOK, view)
}

// revokeToken handles DELETE /v3/auth/tokens.
func (h *Handler) revokeToken(c echo.Context) error {
	text, err := subject(c)
	if err != nil {
		return err
	}
	t, err := h.store.Inspect(c.Request().Context(), text, false)
	if err != nil {
		return err
	}
	if err := requireSelf(c, t.User.ID, "identity:revoke_token"); err != nil {
		return err
	}
	return empty(c, h.store.Revoke(c.Request().Context(), text))
}

func subject(c echo.Context) (string, error) {
	text := c.Request().Header.Get(subjectHeader)
	if text == "" {
		return "", badRequest("The header %s is missing.", subjectHeader)
	}
	return text, nil
}

// stampForm is how Keystone writes a time.
const stampForm = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(stampForm) }

// viewToken returns the body of a token, with the catalog unless ?nocatalog was asked for.
func (h *Handler) viewToken(c echo.Context, t *identity.Token) (object, error) {
	out := object{
		"methods": t.Methods, "audit_ids": t.AuditIDs, "issued_at": stamp(t.IssuedAt), "expires_at": stamp(t.ExpiresAt),
		"user": object{
			"id": t.User.ID, "name": t.User.Name, "domain": viewDomainRef(t.User), "password_expires_at": nil,
		},
	}
	switch {
	case t.Project != nil:
		out["project"] = object{"id": t.Project.ID, "name": t.Project.Name, "domain": viewDomainRef(*t.Project)}
		out["is_domain"] = false
	case t.Domain != nil:
		out["domain"] = object{"id": t.Domain.ID, "name": t.Domain.Name}
	default:
		return object{"token": out}, nil
	}
	out["roles"] = views(t.Roles, func(r identity.Ref) object { return object{"id": r.ID, "name": r.Name} })
	if t.Credential != nil {
		out["application_credential"] = object{"id": t.Credential.ID, "name": t.Credential.Name, "restricted": !t.Credential.Unrestricted}
	}
	if off := queryFlag(c, "nocatalog"); off == nil || !*off {
		catalog, err := h.catalog(c)
		if err != nil {
			return nil, err
		}
		out["catalog"] = catalog
	}
	return object{"token": out}, nil
}

func viewDomainRef(r identity.Ref) object { return object{"id": r.DomainID, "name": r.DomainName} }

// authProjects handles GET /v3/auth/projects: where the token's user may scope to.
func (h *Handler) authProjects(c echo.Context) error {
	list, err := h.store.Projects(c.Request().Context(), identity.ProjectFilter{UserID: auth.From(c).Token().User.ID})
	if err != nil {
		return err
	}
	return h.list(c, "projects", views(list, h.projectView(c)))
}

// authDomains handles GET /v3/auth/domains.
func (h *Handler) authDomains(c echo.Context) error {
	list, err := h.store.DomainsOf(c.Request().Context(), auth.From(c).Token().User.ID)
	if err != nil {
		return err
	}
	return h.list(c, "domains", views(list, h.domainView(c)))
}

// authSystem handles GET /v3/auth/system: nobody has a role there.
func (h *Handler) authSystem(c echo.Context) error { return h.list(c, "system", nil) }

// changePassword handles POST /v3/users/{id}/password.
func (h *Handler) changePassword(c echo.Context) error {
	f, err := decode(c, "user")
	if err != nil {
		return err
	}
	old, fresh := f.text("original_password"), f.text("password")
	if _, err := f.rest(); err != nil {
		return err
	}
	if old == nil || fresh == nil {
		return badRequest("user.original_password and user.password are both needed.")
	}
	err = h.store.ChangePassword(c.Request().Context(), c.Param("user"), secret(*old), secret(*fresh), auth.RemoteAddr(c))
	if fault.Is(err, fault.NotFound) {
		err = fault.Wrap(fault.Unauthorized, "top/identity.changePassword", err)
	}
	return empty(c, err)
}
