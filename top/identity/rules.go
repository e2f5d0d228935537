package identity

import "github.com/headwater-cloud/headwater/top/auth"

// Rules returns the rules that this service asks by. Besides them, everybody sees and changes what is his own: his
// user, projects, groups, assignments and application credentials.
func Rules() auth.Rules {
	rules := auth.Rules{
		"identity:validate_token": auth.Admin, // of another user
		"identity:revoke_token":   auth.Admin,
		"identity:get_role":       auth.Reader,
		"identity:list_roles":     auth.Reader,
	}
	for _, rule := range []string{
		"list_users", "get_user", "create_user", "update_user", "delete_user",
		"list_groups", "get_group", "create_group", "update_group", "delete_group",
		"list_projects", "get_project", "create_project", "update_project", "delete_project",
		"list_domains", "get_domain", "create_domain", "update_domain", "delete_domain",
		"create_role", "update_role", "delete_role",
		"list_grants", "create_grant", "delete_grant", "list_role_assignments",
		"list_application_credentials", "get_application_credential", "delete_application_credential",
	} {
		rules["identity:"+rule] = auth.Admin
	}
	return rules
}
