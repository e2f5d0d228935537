package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/network"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
	"github.com/headwater-cloud/headwater/top/faultjson"
)

// body reads a request's JSON object with its numbers as they were written.
func body(c echo.Context) (map[string]any, error) {
	raw, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return map[string]any{}, nil
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&m); err != nil || m == nil {
		return nil, bad("Body contains invalid data")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("Body contains invalid data")
	}
	return m, nil
}

// anyJSON refuses a body that is not JSON, where nobody looks at what it says (neutron/api/v2/resource.py reads it all the same).
func anyJSON(c echo.Context) error {
	raw, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if len(raw) > 0 && !json.Valid(raw) {
		return faultjson.Typed("MalformedRequestBody", fault.New(fault.BadRequest, "top/network", "Malformed request body: Cannot understand JSON."))
	}
	return nil
}

// unwrap returns the objects of a create: one under the singular name, or several under the plural.
func (col *collection) unwrap(m map[string]any) (list []map[string]any, bulk bool, err error) {
	if many, ok := m[col.plural]; ok {
		items, ok := many.([]any)
		if !ok || len(items) == 0 {
			return nil, true, bad("Resources required")
		}
		if len(items) > mostItems {
			return nil, true, bad("At most %d resources are taken at a time", mostItems)
		}
		for _, item := range items {
			one, ok := item.(map[string]any)
			if ok {
				if inner, wrapped := one[col.singular].(map[string]any); wrapped { // Neutron takes both forms
					one = inner
				}
			}
			if !ok {
				return nil, true, bad("Object '%s' contains invalid data", col.singular)
			}
			list = append(list, one)
		}
		return list, true, nil
	}
	one, err := col.single(m)
	return []map[string]any{one}, false, err
}

func (col *collection) single(m map[string]any) (map[string]any, error) {
	value, ok := m[col.singular]
	if !ok {
		return nil, bad("Unable to find '%s' in request body", col.singular)
	}
	one, ok := value.(map[string]any)
	if !ok {
		return nil, bad("Object '%s' contains invalid data", col.singular)
	}
	return one, nil
}

var memberName = regexp.MustCompile(`^[a-z][a-z0-9_:-]{0,63}$`)

// fields validates the members of a create (post) or an update. Those that no
// table knows go along under "extra": a site may know them (cascade/README.md: Unknown members).
func (col *collection) fields(m map[string]any, post bool) (network.Fields, error) {
	out, extra := network.Fields{}, map[string]any{}
	for name, value := range m {
		a, known := col.attrs[name]
		switch {
		case !known && (!memberName.MatchString(name) || refused[name] && value != nil):
			return nil, bad("Unrecognized attribute(s) '%.60s'", name)
		case !known:
			if value != nil {
				extra[name] = value
			}
		case post && !a.post:
			return nil, bad("Attribute '%s' not allowed in POST", name)
		case !post && !a.put:
			return nil, bad("Cannot update read-only attribute %s", name)
		case a.check == nil:
			out[name] = value
		default:
			checked, reason := a.check(value)
			if reason != "" {
				return nil, invalid(name, reason)
			}
			out[name] = checked
		}
	}
	if len(extra) > 0 {
		out["extra"] = extra
	}
	if !post {
		return out, nil
	}
	for _, name := range col.required() {
		if v, ok := out[name]; !ok || v == nil {
			return nil, bad("Failed to parse request. Required attribute '%s' not specified", name)
		}
	}
	return out, nil
}

func (col *collection) required() []string {
	var out []string
	for name, a := range col.attrs {
		if a.required {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func invalid(name, reason string) error {
	if reason, ok := strings.CutPrefix(reason, convertReason); ok {
		return faultjson.Typed("InvalidInput", fault.New(fault.BadRequest, "top/network", "Invalid input for operation: %s.", reason))
	}
	return bad("Invalid input for %s. Reason: %s.", name, reason)
}

// owner settles the project of a new resource: the caller's, or another that he may make things for.
func owner(who *auth.Who, f network.Fields) error {
	project := ""
	for _, key := range []string{"tenant_id", "project_id"} {
		if p, _ := f[key].(string); p != "" {
			if project != "" && project != p {
				return bad("'project_id' and 'tenant_id' do not match")
			}
			project = p
		}
		delete(f, key)
	}
	if project == "" || project == who.Caller().ProjectID {
		return nil
	}
	if who.Require("create_for_other", project) != nil {
		return bad("Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin or advsvc privileges")
	}
	f["tenant_id"] = project
	return nil
}

// ifMatch reads the header If-Match: revision_number=N.
func ifMatch(r *http.Request) (*int64, error) {
	value := r.Header.Get("If-Match")
	if value == "" {
		return nil, nil //nolint:nilnil // no precondition is no error
	}
	text, ok := strings.CutPrefix(value, "revision_number=")
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return nil, bad("Invalid value for If-Match: it must be revision_number=N")
	}
	return &n, nil
}
