package client

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Finder looks clouds up in clouds.yaml as openstackclient does
// (openstacksdk, config/loader.py): the file that OS_CLIENT_CONFIG_FILE names,
// else clouds.yaml in the working directory, in ~/.config/openstack, in
// /etc/openstack, the first that is there. What a secure.yaml says of the cloud
// (OS_CLIENT_SECURE_FILE, or beside any of these) is laid over it.
type Finder struct {
	Getenv func(string) string
	// Dirs are the folders to look in; nil means the usual ones.
	Dirs []string
	// Region is used in place of the entry's region_name, unless it is "".
	Region string
}

// Cloud is one entry of clouds.yaml.
type Cloud struct {
	Name       string
	File       string // where it was found
	Credential sites.Credential
}

// endings of the files, in the order in which they are tried.
func endings() []string { return []string{".yaml", ".yml", ".json"} }

func (f Finder) dirs() []string {
	if f.Dirs != nil {
		return f.Dirs
	}
	config := f.Getenv("XDG_CONFIG_HOME")
	if config == "" && f.Getenv("HOME") != "" {
		config = filepath.Join(f.Getenv("HOME"), ".config")
	}
	dirs := []string{"."}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "openstack"))
	}
	return append(dirs, "/etc/openstack")
}

// find returns the first of the named files that is there, or "".
func (f Finder) find(variable, stem string) string {
	if path := f.Getenv(variable); path != "" {
		return path
	}
	for _, dir := range f.dirs() {
		for _, ending := range endings() {
			path := filepath.Join(dir, stem+ending)
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path
			}
		}
	}
	return ""
}

// Cloud reads the entry of a name. Its errors name the file and the key, and never a value.
func (f Finder) Cloud(name string) (Cloud, error) {
	path := f.find("OS_CLIENT_CONFIG_FILE", "clouds")
	if path == "" {
		return Cloud{}, fmt.Errorf("cloud %s: no clouds.yaml in %s, and OS_CLIENT_CONFIG_FILE is not set", name, strings.Join(f.dirs(), ", "))
	}
	all, err := readClouds(path, "clouds")
	if err != nil {
		return Cloud{}, err
	}
	entry, ok := all[name]
	if !ok {
		return Cloud{}, fmt.Errorf("%s: it has no cloud %q; it has: %s", path, name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	if entry, err = f.profile(path, name, entry); err != nil {
		return Cloud{}, err
	}
	if secure := f.find("OS_CLIENT_SECURE_FILE", "secure"); secure != "" {
		secrets, err := readClouds(secure, "clouds")
		if err != nil {
			return Cloud{}, err
		}
		entry = overlay(entry, secrets[name])
	}
	if f.Region != "" {
		entry = overlay(entry, map[string]any{"region_name": f.Region})
	}
	r := reader{where: path + ": cloud " + name}
	cred := r.credential(entry)
	if len(r.bad) > 0 {
		return Cloud{}, errors.Join(r.bad...)
	}
	return Cloud{Name: name, File: path, Credential: cred}, nil
}

// profile lays the entry over the vendor's part that it names, from clouds-public.yaml.
func (f Finder) profile(path, name string, entry map[string]any) (map[string]any, error) {
	profile, _ := entry["profile"].(string)
	if profile == "" {
		return entry, nil
	}
	public := f.find("OS_CLIENT_VENDOR_FILE", "clouds-public")
	if public == "" {
		return nil, fmt.Errorf("%s: cloud %s: profile %q: there is no clouds-public.yaml that says what it is", path, name, profile)
	}
	all, err := readClouds(public, "public-clouds")
	if err != nil {
		return nil, err
	}
	vendor, ok := all[profile]
	if !ok {
		return nil, fmt.Errorf("%s: cloud %s: profile %q is not in %s", path, name, profile, public)
	}
	return overlay(vendor, entry), nil
}

// readClouds reads a file of clouds; root is the key that they stand under.
func readClouds(path, root string) (map[string]map[string]any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parseClouds(path, root, data)
}

func parseClouds(path, root string, data []byte) (map[string]map[string]any, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %s", path, yamlProblem(err)) // not the error itself: it quotes lines, and they hold passwords
	}
	entries, ok := doc[root].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: it has no mapping %q", path, root)
	}
	all := map[string]map[string]any{}
	for name, value := range entries {
		entry, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: %s.%s: not a mapping", path, root, name)
		}
		all[name] = entry
	}
	return all, nil
}

// yamlProblem says what is wrong and where, without quoting the file.
func yamlProblem(err error) string {
	var y yaml.Error
	if !errors.As(err, &y) {
		return "not YAML"
	}
	if tk := y.GetToken(); tk != nil && tk.Position != nil {
		return fmt.Sprintf("line %d: not as YAML should be", tk.Position.Line)
	}
	return "not as YAML should be"
}

// overlay returns base with over laid on it, mappings key by key.
func overlay(base, over map[string]any) map[string]any {
	merged := maps.Clone(base)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range over {
		inner, ok := value.(map[string]any)
		below, also := merged[key].(map[string]any)
		if ok && also {
			value = overlay(below, inner)
		}
		merged[key] = value
	}
	return merged
}

// reader takes an entry apart and collects what is wrong with it.
type reader struct {
	where string
	bad   []error
}

func (r *reader) refuse(key, format string, args ...any) {
	r.bad = append(r.bad, fmt.Errorf("%s: %s: %s", r.where, key, fmt.Sprintf(format, args...)))
}

// text returns a string member; prefix is for the error.
func (r *reader) text(m map[string]any, prefix, key string) string {
	switch v := m[key].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		r.refuse(prefix+key, "not a string: put it in quotes")
		return ""
	}
}

// credential reads an entry. Members of auth may also stand beside it, as openstacksdk allows.
func (r *reader) credential(entry map[string]any) sites.Credential {
	auth, ok := entry["auth"].(map[string]any)
	if entry["auth"] != nil && !ok {
		r.refuse("auth", "not a mapping")
	}
	get := func(keys ...string) string {
		for _, key := range keys {
			if v := r.text(auth, "auth.", key); v != "" {
				return v
			}
			if v := r.text(entry, "", key); v != "" {
				return v
			}
		}
		return ""
	}
	c := sites.Credential{
		AuthURL: get("auth_url"), Region: r.region(entry), Interface: get("interface", "endpoint_type"),
		Username: get("username", "user_name"), UserID: get("user_id"), Password: ident.Secret(get("password")),
		UserDomainName: get("user_domain_name"), UserDomainID: get("user_domain_id"),
		ProjectName: get("project_name", "tenant_name"), ProjectID: get("project_id", "tenant_id"),
		ProjectDomainName: get("project_domain_name"), ProjectDomainID: get("project_domain_id"),
		AppCredID: get("application_credential_id"), AppCredName: get("application_credential_name"),
		AppCredSecret: ident.Secret(get("application_credential_secret")),
	}
	domainDefaults(&c, get("default_domain"), get("default_domain_name"), get("default_domain_id"))
	r.check(entry, &c)
	r.trust(entry, &c)
	return c
}

// domainDefaults fills the domains that are not given. Without any word of a
// domain openstacksdk takes the one whose id is "default".
func domainDefaults(c *sites.Credential, both, name, id string) {
	if id == "" {
		id = both
	}
	if id == "" && name == "" {
		id = "default"
	}
	if c.UserDomainID == "" && c.UserDomainName == "" && c.UserID == "" && c.Username != "" {
		c.UserDomainID, c.UserDomainName = id, name
	}
	if c.ProjectDomainID == "" && c.ProjectDomainName == "" && c.ProjectID == "" && c.ProjectName != "" {
		c.ProjectDomainID, c.ProjectDomainName = id, name
	}
}

// region returns region_name, or the only one of regions.
func (r *reader) region(entry map[string]any) string {
	if name := r.text(entry, "", "region_name"); name != "" {
		return name
	}
	list, _ := entry["regions"].([]any)
	if len(list) > 1 {
		r.refuse("regions", "there are %d: say with region_name (or --region) which one is meant", len(list))
		return ""
	}
	if len(list) == 0 {
		return ""
	}
	item := list[0]
	if m, ok := item.(map[string]any); ok {
		item = m["name"]
	}
	name, _ := item.(string)
	return name
}

// check refuses ways to log in that Headwater does not know, and says what is missing for the one that is meant.
func (r *reader) check(entry map[string]any, c *sites.Credential) {
	if v := fmt.Sprint(entry["identity_api_version"]); strings.HasPrefix(v, "2") {
		r.refuse("identity_api_version", "version 2 is not supported")
	}
	if c.AuthURL == "" {
		r.refuse("auth.auth_url", "missing")
	} else if u, err := url.Parse(c.AuthURL); err != nil || u.Host == "" {
		r.refuse("auth.auth_url", "not a URL")
	}
	kind := r.text(entry, "", "auth_type")
	switch strings.TrimPrefix(kind, "v3") {
	case "", "password", "applicationcredential":
	default:
		r.refuse("auth_type", "%q is not supported: want password or v3applicationcredential", kind)
		return
	}
	if kind == "v3applicationcredential" || c.AppCredID != "" || c.AppCredName != "" {
		if c.AppCredSecret == "" {
			r.refuse("auth.application_credential_secret", "missing")
		}
		if c.AppCredID == "" && c.AppCredName == "" {
			r.refuse("auth.application_credential_id", "missing")
		}
		return
	}
	if c.Username == "" && c.UserID == "" {
		r.refuse("auth.username", "missing")
	}
	if c.Password == "" {
		r.refuse("auth.password", "missing (a secure.yaml may hold it)")
	}
	if c.ProjectName == "" && c.ProjectID == "" {
		r.refuse("auth.project_name", "missing")
	}
}

// trust reads verify and cacert. The file's text goes into the credential: a path means nothing to Top.
func (r *reader) trust(entry map[string]any, c *sites.Credential) {
	switch v := entry["verify"].(type) {
	case nil:
	case bool:
		c.Insecure = !v
	default:
		r.refuse("verify", "want true or false")
	}
	if v, ok := entry["insecure"].(bool); ok && v {
		c.Insecure = true
	}
	path := r.text(entry, "", "cacert")
	if path == "" || c.Insecure {
		return
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		r.bad = append(r.bad, fmt.Errorf("%s: cacert: %w", r.where, err))
		return
	}
	c.CACert = string(text)
}
