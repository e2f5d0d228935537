package client

import "github.com/headwater-cloud/headwater/sites"

// authBody is the request of a Keystone v3 token. It holds secrets in the open: it goes into a request and nowhere else.
func authBody(c sites.Credential) map[string]any {
	if c.AppCredID != "" || c.AppCredName != "" {
		app := map[string]any{"secret": c.AppCredSecret.Reveal()}
		if c.AppCredID != "" {
			app["id"] = c.AppCredID
		} else {
			app["name"] = c.AppCredName
			app["user"] = reference(c.UserID, c.Username, c.UserDomainID, c.UserDomainName)
		}
		return map[string]any{"auth": map[string]any{"identity": map[string]any{
			"methods": []string{"application_credential"}, "application_credential": app}}}
	}
	user := reference(c.UserID, c.Username, c.UserDomainID, c.UserDomainName)
	user["password"] = c.Password.Reveal()
	return map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": user}},
		"scope":    map[string]any{"project": reference(c.ProjectID, c.ProjectName, c.ProjectDomainID, c.ProjectDomainName)},
	}}
}

// reference names a user or project by id, else by name and domain.
func reference(id, name, domainID, domainName string) map[string]any {
	if id != "" {
		return map[string]any{"id": id}
	}
	domain := map[string]any{"id": domainID}
	if domainID == "" {
		domain = map[string]any{"name": domainName}
	}
	return map[string]any{"name": name, "domain": domain}
}

// Wire returns a credential as the operator API takes it. It holds secrets in the open: it goes into a request and nowhere else.
func Wire(c sites.Credential) map[string]any {
	wire := map[string]any{}
	for key, value := range map[string]string{
		"auth_url": c.AuthURL, "region_name": c.Region, "interface": c.Interface, "username": c.Username, "user_id": c.UserID,
		"password": c.Password.Reveal(), "user_domain_name": c.UserDomainName, "user_domain_id": c.UserDomainID,
		"project_name": c.ProjectName, "project_id": c.ProjectID, "project_domain_name": c.ProjectDomainName,
		"project_domain_id": c.ProjectDomainID, "application_credential_id": c.AppCredID,
		"application_credential_name": c.AppCredName, "application_credential_secret": c.AppCredSecret.Reveal(), "cacert": c.CACert,
	} {
		if value != "" {
			wire[key] = value
		}
	}
	if c.Insecure {
		wire["insecure"] = true
	}
	return wire
}
