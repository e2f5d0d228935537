package emulator

import (
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (c *Cloud) keyRoutes(h func(string, handler)) {
	h("GET /v2.1/os-keypairs", c.listKeys)
	h("POST /v2.1/os-keypairs", c.createKey)
	h("GET /v2.1/os-keypairs/{name}", c.showKey)
	h("DELETE /v2.1/os-keypairs/{name}", c.deleteKey)
	h("GET /v2.1/os-server-groups", c.listServerGroups)
	h("POST /v2.1/os-server-groups", c.createServerGroup)
	h("GET /v2.1/os-server-groups/{id}", c.showServerGroup)
	h("DELETE /v2.1/os-server-groups/{id}", c.deleteServerGroup)
}

// keyOwner is the caller, or the user that an admin names.
func keyOwner(q *request, given string) (string, error) {
	if given == "" || given == q.user.ID {
		return q.user.ID, nil
	}
	if !q.admin || !q.at(10) {
		return "", policyError("os-keypairs:index")
	}
	return given, nil
}

func (k *keypair) view(q *request) object {
	v := object{{"name", k.name}, {"public_key", k.public}, {"fingerprint", k.fingerprint}}
	if q.at(2) {
		v = append(v, kv{"type", k.kind})
	}
	return v
}

func (c *Cloud) listKeys(q *request) (*reply, error) {
	owner, err := keyOwner(q, q.query.Get("user_id"))
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range c.compute.keys[owner] {
		names = append(names, n)
	}
	slices.Sort(names)
	if m := q.query.Get("marker"); m != "" {
		i, found := slices.BinarySearch(names, m)
		if !found {
			return nil, fail(400, "marker ["+m+"] not found")
		}
		names = names[i+1:]
	}
	out := []object{}
	for _, n := range names {
		out = append(out, object{{"keypair", c.compute.keys[owner][n].view(q)}})
	}
	return ok(object{{"keypairs", out}})
}

var keyName = regexp.MustCompile(`^[a-zA-Z0-9 _@.\-]+$`)

func (c *Cloud) createKey(q *request) (*reply, error) {
	d := q.body.sub("keypair")
	name := d.str("name")
	if name == "" || len(name) > 255 {
		return nil, badField("name", name, "'"+name+"' is too short")
	}
	if !keyName.MatchString(name) {
		return nil, badField("name", name, "'"+name+"' does not match '^[a-zA-Z0-9 _@.-]+$'")
	}
	owner, err := keyOwner(q, d.str("user_id"))
	if err != nil {
		return nil, err
	}
	k := &keypair{name: name, public: d.str("public_key"), kind: "ssh", user: owner, created: c.now()}
	if t := d.str("type"); t != "" && q.at(2) {
		k.kind = t
	}
	private := ""
	if !d.has("public_key") {
		if q.at(92) {
			return nil, badField("keypair", string(mustJSON(map[string]any(d))), "'public_key' is a required property")
		}
		k.public, private = generateKey()
	}
	blob, valid := keyBlob(k.public)
	if !valid {
		return nil, fail(400, "Keypair data is invalid: failed to generate fingerprint")
	}
	k.fingerprint = fingerprint(blob)
	if c.compute.keys[owner][name] != nil {
		return nil, fail(409, "Key pair '"+name+"' already exists.")
	}
	if limit := c.novaLimit("key_pairs", q.project); limit >= 0 && len(c.compute.keys[owner]) >= limit {
		return nil, fail(403, "Quota exceeded, too many key pairs.")
	}
	c.compute.keyNum++
	k.num = c.compute.keyNum
	if c.compute.keys[owner] == nil {
		c.compute.keys[owner] = map[string]*keypair{}
	}
	c.compute.keys[owner][name] = k
	v := k.view(q)
	if private != "" {
		v = append(v, kv{"private_key", private})
	}
	code := 200
	if q.at(2) {
		code = 201
	}
	return status(code, object{{"keypair", append(v, kv{"user_id", owner})}})
}

// keyBlob decodes "ssh-rsa AAAA... comment" and checks that the blob names its own type.
func keyBlob(text string) ([]byte, bool) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return nil, false
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(blob) < 4 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint32(blob))
	return blob, n > 0 && len(blob) >= 4+n && string(blob[4:4+n]) == fields[0]
}

func fingerprint(blob []byte) string {
	sum := md5.Sum(blob)
	text := hex.EncodeToString(sum[:])
	var parts []string
	for i := 0; i < len(text); i += 2 {
		parts = append(parts, text[i:i+2])
	}
	return strings.Join(parts, ":")
}

func generateKey() (public, private string) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", ""
	}
	const kind = "ssh-ed25519"
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(kind)))
	blob = append(blob, kind...)
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(pub)))
	blob = append(blob, pub...)
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return "", ""
	}
	return kind + " " + base64.StdEncoding.EncodeToString(blob) + " Generated-by-Nova", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (c *Cloud) keyAt(q *request) (*keypair, error) {
	owner, err := keyOwner(q, q.query.Get("user_id"))
	if err != nil {
		return nil, err
	}
	if k := c.compute.keys[owner][q.path("name")]; k != nil {
		return k, nil
	}
	return nil, fail(404, "Keypair "+q.path("name")+" not found for user "+owner)
}

func (c *Cloud) showKey(q *request) (*reply, error) {
	k, err := c.keyAt(q)
	if err != nil {
		return nil, err
	}
	v := object{{"name", k.name}, {"public_key", k.public}, {"fingerprint", k.fingerprint}, {"user_id", k.user}, {"created_at", stamp(k.created, micros)}, {"deleted", false}, {"deleted_at", nil},
		{"id", k.num}, {"updated_at", nil}}
	if q.at(2) {
		v = append(v, kv{"type", k.kind})
	}
	return ok(object{{"keypair", v}})
}

func (c *Cloud) deleteKey(q *request) (*reply, error) {
	k, err := c.keyAt(q)
	if err != nil {
		return nil, err
	}
	delete(c.compute.keys[k.user], k.name)
	if len(c.compute.keys[k.user]) == 0 {
		delete(c.compute.keys, k.user)
	}
	if q.at(2) {
		return noContent()
	}
	return accepted(nil)
}

func (g *serverGroup) view(q *request) object {
	v := object{{"id", g.ID}, {"name", g.name}}
	if q.at(64) {
		rules := g.rules
		if rules == nil {
			rules = map[string]any{}
		}
		v = append(v, kv{"policy", g.policy}, kv{"rules", rules})
	} else {
		v = append(v, kv{"policies", []string{g.policy}}, kv{"metadata", object{}})
	}
	v = append(v, kv{"members", append([]string{}, g.members...)})
	if q.at(13) {
		v = append(v, kv{"project_id", g.Project}, kv{"user_id", g.user})
	}
	return v
}

func (c *Cloud) listServerGroups(q *request) (*reply, error) {
	project := q.project
	if _, all := q.query["all_projects"]; all && q.admin {
		project = ""
	}
	var page [2]int // offset and limit
	for i, name := range []string{"offset", "limit"} {
		if text := q.query.Get(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 31)
			if err != nil {
				return nil, badQuery(name, text, "does not match '^[0-9]*$'")
			}
			page[i] = int(n)
		}
	}
	rows, out := c.compute.groups.of(project), []object{}
	rows = rows[min(page[0], len(rows)):]
	if page[1] == 0 || page[1] > novaMaxLimit {
		page[1] = novaMaxLimit
	}
	for _, g := range rows[:min(page[1], len(rows))] {
		out = append(out, g.view(q))
	}
	return ok(object{{"server_groups", out}})
}

func (c *Cloud) createServerGroup(q *request) (*reply, error) {
	d := q.body.sub("server_group")
	if err := checkServerName(d["name"]); err != nil {
		return nil, err
	}
	g := &serverGroup{row: row{ID: newID(), Project: q.project}, name: d.str("name"), policy: d.str("policy"), user: q.user.ID, rules: d.sub("rules")}
	if !q.at(64) {
		if list := anyStrings(d.list("policies")); len(list) == 1 {
			g.policy = list[0]
		}
	}
	known := []string{"anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"}
	if !slices.Contains(known, g.policy) {
		return nil, badField("policy", g.policy, "'"+g.policy+"' is not one of ['anti-affinity', 'affinity', 'soft-anti-affinity', 'soft-affinity']")
	}
	if limit := c.novaLimit("server_groups", q.project); limit >= 0 && len(c.compute.groups.of(q.project)) >= limit {
		return nil, fail(403, "Quota exceeded, too many server groups.")
	}
	c.compute.groups.add(g)
	return ok(object{{"server_group", g.view(q)}})
}

func (c *Cloud) serverGroupAt(q *request) (*serverGroup, error) {
	if g, found := c.compute.groups.get(q.path("id")); found && (q.admin || g.Project == q.project) {
		return g, nil
	}
	return nil, fail(404, "Instance group "+q.path("id")+" could not be found.")
}

func (c *Cloud) showServerGroup(q *request) (*reply, error) {
	g, err := c.serverGroupAt(q)
	if err != nil {
		return nil, err
	}
	return ok(object{{"server_group", g.view(q)}})
}

func (c *Cloud) deleteServerGroup(q *request) (*reply, error) {
	g, err := c.serverGroupAt(q)
	if err != nil {
		return nil, err
	}
	c.compute.groups.remove(g)
	return noContent()
}
