package identity

import (
	"github.com/labstack/echo/v4"
)

// Routes registers everything below g, which stands at /identity.
func (h *Handler) Routes(g *echo.Group) {
	for _, path := range []string{"", "/"} { // with and without the slash: clients do either
		g.GET(path, h.versions)
		g.GET("/v3"+path, h.version)
	}
	if h.cfg.External != nil {
		h.externalRoutes(g)
		return
	}
	g.POST("/v3/auth/tokens", h.issueToken)
	g.POST("/v3/users/:user/password", h.changePassword, storable) // the old password is the proof, as in Keystone

	v3 := g.Group("/v3", h.cfg.Auth.Any, storable, objectBody)
	both(v3, "/auth/tokens", h.showToken)
	v3.DELETE("/auth/tokens", h.revokeToken)
	both(v3, "/auth/projects", h.authProjects)
	both(v3, "/auth/domains", h.authDomains)
	both(v3, "/auth/system", h.authSystem)
	h.catalogRoutes(v3)

	v3.GET("/domains", h.listDomains)
	v3.POST("/domains", h.createDomain)
	both(v3, "/domains/:domain", h.showDomain)
	v3.PATCH("/domains/:domain", h.updateDomain)
	v3.DELETE("/domains/:domain", h.deleteDomain)

	v3.GET("/projects", h.listProjects)
	v3.POST("/projects", h.createProject)
	both(v3, "/projects/:project", h.showProject)
	v3.PATCH("/projects/:project", h.updateProject)
	v3.DELETE("/projects/:project", h.deleteProject)
	v3.GET("/projects/:project/tags", h.listTags)
	v3.PUT("/projects/:project/tags", h.replaceTags)
	v3.DELETE("/projects/:project/tags", h.removeTags)
	both(v3, "/projects/:project/tags/:tag", h.hasTag)
	v3.PUT("/projects/:project/tags/:tag", h.addTag)
	v3.DELETE("/projects/:project/tags/:tag", h.removeTag)

	v3.GET("/users", h.listUsers)
	v3.POST("/users", h.createUser)
	both(v3, "/users/:user", h.showUser)
	v3.PATCH("/users/:user", h.updateUser)
	v3.DELETE("/users/:user", h.deleteUser)
	v3.GET("/users/:user/projects", h.userProjects)
	v3.GET("/users/:user/groups", h.userGroups)
	v3.GET("/users/:user/application_credentials", h.listCredentials)
	v3.POST("/users/:user/application_credentials", h.createCredential)
	both(v3, "/users/:user/application_credentials/:credential", h.showCredential)
	v3.DELETE("/users/:user/application_credentials/:credential", h.deleteCredential)
	v3.GET("/users/:user/access_rules", h.listAccessRules)

	v3.GET("/groups", h.listGroups)
	v3.POST("/groups", h.createGroup)
	both(v3, "/groups/:group", h.showGroup)
	v3.PATCH("/groups/:group", h.updateGroup)
	v3.DELETE("/groups/:group", h.deleteGroup)
	v3.GET("/groups/:group/users", h.listMembers)
	v3.PUT("/groups/:group/users/:user", h.addMember)
	both(v3, "/groups/:group/users/:user", h.isMember)
	v3.DELETE("/groups/:group/users/:user", h.removeMember)

	v3.GET("/roles", h.listRoles)
	v3.POST("/roles", h.createRole)
	both(v3, "/roles/:role", h.showRole)
	v3.PATCH("/roles/:role", h.updateRole)
	v3.DELETE("/roles/:role", h.deleteRole)
	v3.GET("/role_inferences", h.listInferences)
	v3.GET("/roles/:role/implies", h.listImplied)
	v3.GET("/role_assignments", h.listAssignments)
	for _, where := range []string{"/projects/:project", "/domains/:domain"} {
		for _, who := range []string{"/users/:user", "/groups/:group"} {
			v3.GET(where+who+"/roles", h.listGrants)
			both(v3, where+who+"/roles/:role", h.hasGrant)
			v3.PUT(where+who+"/roles/:role", h.grant)
			v3.DELETE(where+who+"/roles/:role", h.revokeGrant)
		}
	}
	v3.GET("/credentials", h.listSecrets)
	v3.POST("/credentials", h.refuseSecret)
}

// catalogRoutes registers what shows the catalog, which is Top's own in any case.
func (h *Handler) catalogRoutes(v3 *echo.Group) {
	both(v3, "/auth/catalog", h.authCatalog)
	v3.GET("/regions", h.listRegions)
	v3.GET("/regions/:region", h.showRegion)
	v3.GET("/services", h.listServices)
	v3.GET("/services/:service", h.showService)
	v3.GET("/endpoints", h.listEndpoints)
	v3.GET("/endpoints/:endpoint", h.showEndpoint)
}

// both registers a handler for GET and HEAD; net/http drops the body of the latter.
func both(g *echo.Group, path string, handler echo.HandlerFunc) {
	g.GET(path, handler)
	g.HEAD(path, handler)
}
