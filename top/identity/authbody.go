package identity

import (
	"encoding/json"
	"slices"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// The body of POST /v3/auth/tokens.
type (
	authBody struct {
		Auth *struct {
			Identity *identityBody   `json:"identity"`
			Scope    json.RawMessage `json:"scope"`
		} `json:"auth"`
	}
	identityBody struct {
		Methods  []string `json:"methods"`
		Password *struct {
			User *userBody `json:"user"`
		} `json:"password"`
		Token *struct {
			ID ident.Secret `json:"id"`
		} `json:"token"`
		Credential *struct {
			ID     string       `json:"id"`
			Name   string       `json:"name"`
			Secret ident.Secret `json:"secret"`
			User   *userBody    `json:"user"`
		} `json:"application_credential"`
	}
	userBody struct {
		nameBody
		Password ident.Secret `json:"password"`
	}
	nameBody struct {
		ID     string      `json:"id"`
		Name   string      `json:"name"`
		Domain *domainBody `json:"domain"`
	}
	domainBody struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	scopeBody struct {
		Project  *nameBody       `json:"project"`
		Domain   *domainBody     `json:"domain"`
		System   json.RawMessage `json:"system"`
		Trust    json.RawMessage `json:"OS-TRUST:trust"`
		Unscoped json.RawMessage `json:"unscoped"`
	}
)

// named returns what the body names; what has neither an id nor a name within a domain is fault.BadRequest.
func (n *nameBody) named(what string) (identity.Named, error) {
	if n == nil || n.ID == "" && n.Name == "" {
		return identity.Named{}, badRequest("%s needs an id or a name.", what)
	}
	out := identity.Named{ID: n.ID, Name: n.Name}
	if n.ID != "" {
		return out, nil
	}
	if n.Domain == nil || n.Domain.ID == "" && n.Domain.Name == "" {
		return identity.Named{}, badRequest("%s is given by name and so needs its domain, by id or name.", what)
	}
	out.DomainID, out.DomainName = n.Domain.ID, n.Domain.Name
	return out, nil
}

// parseAuth decodes the body of POST /v3/auth/tokens. Its errors repeat nothing of what was sent.
func parseAuth(data []byte) (identity.Login, error) {
	var body authBody
	if err := unmarshal(data, &body); err != nil {
		return identity.Login{}, err
	}
	if body.Auth == nil || body.Auth.Identity == nil {
		return identity.Login{}, badRequest("auth.identity is missing.")
	}
	l, err := parseProof(body.Auth.Identity)
	if err != nil {
		return identity.Login{}, err
	}
	l.Scope, err = parseScope(body.Auth.Scope)
	return l, err
}

func parseProof(in *identityBody) (identity.Login, error) {
	var l identity.Login
	methods := slices.Compact(slices.Sorted(slices.Values(in.Methods)))
	if len(methods) != 1 {
		return l, badRequest("auth.identity.methods must name exactly one method.")
	}
	switch methods[0] {
	case identity.MethodPassword:
		if in.Password == nil || in.Password.User == nil {
			return l, badRequest("auth.identity.password.user is missing.")
		}
		user, err := in.Password.User.named("auth.identity.password.user")
		l.Password = &identity.PasswordProof{User: user, Password: in.Password.User.Password}
		return l, err
	case identity.MethodToken:
		if in.Token == nil || in.Token.ID == "" {
			return l, badRequest("auth.identity.token.id is missing.")
		}
		l.Token = in.Token.ID
		return l, nil
	case identity.MethodCredential:
		return parseCredential(in)
	}
	return l, fault.New(fault.Unauthorized, "top/identity.parseAuth", "Attempted to authenticate with an unsupported method: Top takes password, token and application_credential.")
}

func parseCredential(in *identityBody) (l identity.Login, err error) {
	if in.Credential == nil {
		return l, badRequest("auth.identity.application_credential is missing.")
	}
	l.Credential = &identity.CredentialProof{ID: in.Credential.ID, Name: in.Credential.Name, Secret: in.Credential.Secret}
	if l.Credential.ID != "" {
		return l, nil
	}
	if l.Credential.Name == "" {
		return l, badRequest("auth.identity.application_credential needs an id, or a name and its user.")
	}
	if in.Credential.User == nil {
		return l, badRequest("auth.identity.application_credential.user is missing.")
	}
	l.Credential.User, err = in.Credential.User.named("auth.identity.application_credential.user")
	return l, err
}

func parseScope(data json.RawMessage) (identity.Scope, error) {
	var scope identity.Scope
	if len(data) == 0 || string(data) == "null" {
		return scope, nil
	}
	var word string
	if json.Unmarshal(data, &word) == nil {
		if word != "unscoped" {
			return scope, badRequest("auth.scope must be an object or \"unscoped\".")
		}
		return identity.Scope{Unscoped: true}, nil
	}
	var body scopeBody
	if err := unmarshal(data, &body); err != nil {
		return scope, err
	}
	given := 0
	for _, is := range []bool{body.Project != nil, body.Domain != nil, body.System != nil, body.Trust != nil, body.Unscoped != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return scope, badRequest("auth.scope must name exactly one of project, domain and unscoped.")
	}
	switch {
	case body.Project != nil:
		p, err := body.Project.named("auth.scope.project")
		return identity.Scope{Project: &p}, err
	case body.Domain != nil:
		if body.Domain.ID == "" && body.Domain.Name == "" {
			return scope, badRequest("auth.scope.domain needs an id or a name.")
		}
		return identity.Scope{Domain: &identity.Named{ID: body.Domain.ID, Name: body.Domain.Name}}, nil
	case body.Unscoped != nil:
		return identity.Scope{Unscoped: true}, nil
	}
	return scope, fault.New(fault.Unauthorized, "top/identity.parseScope",
		"Top has no system scope and no trusts: an administrator uses a project in which he has the role admin.")
}
