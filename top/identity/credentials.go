package identity

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/ident"
	"github.com/headwater-cloud/headwater/top/auth"
)

// zonelessForm is how Keystone shows the end of an application credential: unlike
// a token's it has no zone, and gophercloud cannot read it with one.
const zonelessForm = "2006-01-02T15:04:05.000000"

// credentialView shows an application credential; roles carries every role by id.
func (h *Handler) credentialView(c echo.Context, roles map[string]string) func(identity.Credential) object {
	return func(a identity.Credential) object {
		shown := []object{}
		for _, id := range a.RoleIDs {
			if name, ok := roles[id]; ok {
				shown = append(shown, object{"id": id, "name": name, "domain_id": nil})
			}
		}
		o := object{
			"id": a.ID, "name": a.Name, "description": a.Description, "project_id": a.ProjectID, "user_id": a.UserID, "roles": shown,
			"unrestricted": a.Unrestricted, "expires_at": nil, "system": nil,
			"links": object{"self": h.link(c, "users", a.UserID, "application_credentials", a.ID)},
		}
		if a.ExpiresAt != nil {
			o["expires_at"] = a.ExpiresAt.UTC().Format(zonelessForm)
		}
		return o
	}
}

func (h *Handler) roleNames(c echo.Context) (map[string]string, error) {
	list, err := h.store.Roles(c.Request().Context(), identity.RoleFilter{})
	names := map[string]string{}
	for _, r := range list {
		names[r.ID] = r.Name
	}
	return names, err
}

// listCredentials handles GET /v3/users/{id}/application_credentials.
func (h *Handler) listCredentials(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_application_credentials"); err != nil {
		return err
	}
	list, err := h.store.Credentials(c.Request().Context(), c.Param("user"), c.QueryParam("name"))
	if err != nil {
		return err
	}
	roles, err := h.roleNames(c)
	if err != nil {
		return err
	}
	return h.list(c, "application_credentials", views(list, h.credentialView(c, roles)))
}

// createCredential handles POST /v3/users/{id}/application_credentials: only the user himself makes one.
func (h *Handler) createCredential(c echo.Context) error {
	f, err := decode(c, "application_credential")
	if err != nil {
		return err
	}
	who := auth.From(c)
	if who.Token().User.ID != c.Param("user") {
		return notOffered("An application credential is made by its own user only.")
	}
	n, err := newCredential(f)
	if err != nil {
		return err
	}
	made, secret, err := h.store.CreateCredential(c.Request().Context(), who.Token(), n)
	if err != nil {
		return err
	}
	roles, err := h.roleNames(c)
	if err != nil {
		return err
	}
	view := h.credentialView(c, roles)(made)
	view["secret"] = secret.Reveal() // shown this once
	return c.JSON(http.StatusCreated, object{"application_credential": view})
}

func newCredential(f *fields) (identity.NewCredential, error) {
	n := identity.NewCredential{Credential: identity.Credential{
		Name: or(f.text("name"), ""), Description: or(f.text("description"), ""), Unrestricted: or(f.flag("unrestricted"), false),
	}}
	n.Secret = ident.Secret(or(f.text("secret"), ""))
	var roles []struct{ ID, Name string }
	f.take("roles", &roles)
	for _, r := range roles {
		switch {
		case r.ID != "":
			n.RoleIDs = append(n.RoleIDs, r.ID)
		case r.Name != "":
			n.RoleNames = append(n.RoleNames, r.Name)
		default:
			return n, badRequest("Each of roles needs an id or a name.")
		}
	}
	if at := or(f.text("expires_at"), ""); at != "" {
		t, err := parseTime(at)
		if err != nil {
			return n, err
		}
		n.ExpiresAt = &t
	}
	var rules []json.RawMessage
	if f.take("access_rules", &rules); len(rules) > 0 {
		return n, badRequest("Access rules are not offered: restrict the credential by its roles.")
	}
	_, err := f.rest()
	return n, err
}

// parseTime reads the forms in which clients write expires_at; one without a zone is UTC.
func parseTime(text string) (time.Time, error) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, text); err == nil && t.Year() >= 1970 && t.Year() < 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, badRequest("expires_at must be a time like 2030-01-02T15:04:05.")
}

// showCredential handles GET /v3/users/{id}/application_credentials/{id}.
func (h *Handler) showCredential(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:get_application_credential"); err != nil {
		return err
	}
	a, err := h.store.Credential(c.Request().Context(), c.Param("user"), c.Param("credential"))
	if err != nil {
		return err
	}
	roles, err := h.roleNames(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, object{"application_credential": h.credentialView(c, roles)(a)})
}

// deleteCredential handles DELETE /v3/users/{id}/application_credentials/{id}.
func (h *Handler) deleteCredential(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:delete_application_credential"); err != nil {
		return err
	}
	if auth.From(c).Token().Restricted() {
		return notOffered("A token of a restricted application credential cannot delete one.")
	}
	return empty(c, h.store.DeleteCredential(c.Request().Context(), c.Param("user"), c.Param("credential")))
}

// listAccessRules handles GET /v3/users/{id}/access_rules: there are none.
func (h *Handler) listAccessRules(c echo.Context) error {
	if err := requireSelf(c, c.Param("user"), "identity:list_application_credentials"); err != nil {
		return err
	}
	return h.list(c, "access_rules", nil)
}

// listSecrets handles GET /v3/credentials: Top keeps none.
func (h *Handler) listSecrets(c echo.Context) error { return h.list(c, "credentials", nil) }

// refuseSecret handles POST /v3/credentials.
func (h *Handler) refuseSecret(echo.Context) error {
	return notOffered("Credentials of type ec2, cert and totp are not offered: use an application credential.")
}
