package sites

import (
	"slices"

	"github.com/headwater-cloud/headwater/sites/ident"
)

// Caller is who asks, as the token said. Lower layers take it as it is; they
// never see the token.
type Caller struct {
	UserID     string
	UserName   string
	DomainID   string // of the user
	ProjectID  string // "" for an unscoped token
	Roles      []string
	RequestID  string
	RemoteAddr string
	// Pin is the site that the request's path named (/sites/NAME/...), or "".
	Pin ident.SiteID
}

// Admin reports whether the caller has the role admin.
func (c Caller) Admin() bool { return c.Has("admin") }

// Has reports whether the caller has a role. Admin implies member, member implies reader (Keystone's default roles).
func (c Caller) Has(role string) bool {
	switch role {
	case "reader":
		return slices.Contains(c.Roles, "reader") || c.Has("member")
	case "member":
		return slices.Contains(c.Roles, "member") || c.Has("admin")
	default:
		return slices.Contains(c.Roles, role)
	}
}
