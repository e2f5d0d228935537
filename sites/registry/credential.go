package registry

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// siteUse and projectUse say, bound into the box, which account is sealed.
func siteUse(name string) string { return "site " + name }

func projectUse(site, project string) string { return "site " + site + " project " + project }

// plainCredential is a credential as it is sealed: ident.Secret encodes itself as REDACTED, these members shadow it.
type plainCredential struct {
	sites.Credential
	Password      string `json:"password,omitempty"`
	AppCredSecret string `json:"application_credential_secret,omitempty"`
}

// seal returns the key's id and the sealed credential.
func (r *Registry) seal(c sites.Credential, use string) (string, []byte, error) {
	text, err := json.Marshal(plainCredential{c, c.Password.Reveal(), c.AppCredSecret.Reveal()})
	if err != nil {
		return "", nil, fmt.Errorf("encode the credential of %s: %w", use, err)
	}
	return r.cfg.Keys.Seal(text, use)
}

// open returns a sealed credential.
func (r *Registry) open(id string, box []byte, use string) (sites.Credential, error) {
	text, err := r.cfg.Keys.Open(id, box, use)
	if err != nil {
		return sites.Credential{}, err
	}
	var p plainCredential
	if err := json.Unmarshal(text, &p); err != nil {
		return sites.Credential{}, fmt.Errorf("decode the credential of %s: %w", use, err)
	}
	c := p.Credential
	c.Password, c.AppCredSecret = ident.Secret(p.Password), ident.Secret(p.AppCredSecret)
	return c, nil
}

// checkCredential returns everything that is wrong with the form of a credential, in the words of clouds.yaml.
func checkCredential(c sites.Credential) []string {
	var bad []string
	bad = append(bad, checkAuthURL(c.AuthURL)...)
	switch c.Interface {
	case "", "public", "internal", "admin", "publicURL", "internalURL", "adminURL":
	default:
		bad = append(bad, fmt.Sprintf("interface %q: want public, internal or admin", c.Interface))
	}
	if c.AppCredID != "" || c.AppCredName != "" || c.AppCredSecret != "" {
		bad = append(bad, checkAppCred(c)...)
	} else {
		bad = append(bad, checkPassword(c)...)
	}
	if c.CACert != "" && c.Insecure {
		bad = append(bad, "cacert and insecure contradict each other: with insecure nothing is verified")
	}
	if c.CACert != "" {
		if block, _ := pem.Decode([]byte(c.CACert)); block == nil || block.Type != "CERTIFICATE" {
			bad = append(bad, "cacert: not a certificate in PEM form")
		}
	}
	return bad
}

func checkAuthURL(text string) []string {
	if text == "" {
		return []string{"auth_url is missing"}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return []string{"auth_url: not a URL"}
	case u.Scheme != "http" && u.Scheme != "https":
		return []string{fmt.Sprintf("auth_url %s: want http or https", u.Redacted())}
	case u.Hostname() == "":
		return []string{fmt.Sprintf("auth_url %s: it names no host", u.Redacted())}
	case u.User != nil:
		return []string{"auth_url: it must not hold a user or password"}
	}
	return nil
}

func checkAppCred(c sites.Credential) []string {
	var bad []string
	if c.AppCredSecret == "" {
		bad = append(bad, "application_credential_secret is missing")
	}
	if c.AppCredID == "" && c.AppCredName == "" {
		bad = append(bad, "application_credential_id is missing")
	}
	if c.AppCredID == "" && c.AppCredName != "" && c.Username == "" && c.UserID == "" {
		bad = append(bad, "application_credential_name needs the user too: username with user_domain_name, or user_id")
	}
	return bad
}

func checkPassword(c sites.Credential) []string {
	var bad []string
	if c.Username == "" && c.UserID == "" {
		bad = append(bad, "username is missing")
	}
	if c.Password == "" {
		bad = append(bad, "password is missing")
	}
	if c.UserID == "" && c.Username != "" && c.UserDomainName == "" && c.UserDomainID == "" {
		bad = append(bad, "user_domain_name is missing")
	}
	if c.ProjectID == "" && c.ProjectName == "" {
		bad = append(bad, "project_name is missing")
	}
	if c.ProjectID == "" && c.ProjectName != "" && c.ProjectDomainName == "" && c.ProjectDomainID == "" {
		bad = append(bad, "project_domain_name is missing")
	}
	return bad
}

// cloudURL spells a Keystone URL in one way: lower-case scheme and host, the port always, no version, no trailing slash.
func cloudURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[strings.ToLower(u.Scheme)]
	}
	if port == "" {
		port = "80"
	}
	path := strings.TrimRight(u.Path, "/")
	for _, version := range []string{"/v3", "/v2.0"} {
		path = strings.TrimSuffix(path, version)
	}
	path = strings.TrimRight(path, "/")
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port) + path
}

// cloudKey says which account of which cloud a site is, for the unique index.
func cloudKey(c sites.Credential, region, projectID string) string {
	return cloudURL(c.AuthURL) + "|" + region + "|" + projectID
}
