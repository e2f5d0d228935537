package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/cascade/identity"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// unmarshal decodes a whole JSON text. Its errors name the member, never its value, which may be a password.
func unmarshal(data []byte, to any) error {
	err := json.Unmarshal(data, to)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return badRequest("The member %s has the wrong type.", wrong.Field)
	case errors.As(err, &wrong):
		return badRequest("The request body has a value of the wrong type.")
	}
	return badRequest("The request body is not valid JSON.")
}

// body reads the request's body, which the server has limited.
func body(c echo.Context) ([]byte, error) {
	data, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, fmt.Errorf("read request body: %w", err)
	}
	return data, nil
}

// fields are the members of the resource that a request holds. Each is taken
// once; what nobody took is what Top does not know.
type fields struct {
	left map[string]json.RawMessage
	err  error // the first member of a wrong type
}

// decode returns the members of the object under the outer name ("user").
func decode(c echo.Context, name string) (*fields, error) {
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	var outer map[string]json.RawMessage
	if err := unmarshal(data, &outer); err != nil {
		return nil, err
	}
	f := &fields{}
	inner, ok := outer[name]
	if !ok {
		return nil, badRequest("The request body lacks the member %s.", name)
	}
	if err := unmarshal(inner, &f.left); err != nil || f.left == nil {
		return nil, badRequest("The member %s must be an object.", name)
	}
	for _, minted := range []string{"id", "links"} { // what answers carry: clients send it back
		delete(f.left, minted)
	}
	return f, nil
}

// take decodes a member into to and reports whether it was there. Null counts as absent.
func (f *fields) take(name string, to any) bool {
	raw, ok := f.left[name]
	delete(f.left, name)
	if !ok || isNull(raw) {
		return false
	}
	if err := json.Unmarshal(raw, to); err != nil && f.err == nil {
		f.err = badRequest("The member %s has the wrong type.", name)
	}
	return true
}

// text is take for text; null means "".
func (f *fields) text(name string) *string {
	if raw, ok := f.left[name]; ok && isNull(raw) {
		delete(f.left, name)
		none := ""
		return &none
	}
	var s string
	if !f.take(name, &s) {
		return nil
	}
	return &s
}

func (f *fields) flag(name string) *bool {
	var b bool
	if !f.take(name, &b) {
		return nil
	}
	return &b
}

// options refuses resource options that would have to do something: a dropped one would be a lie.
func (f *fields) options() {
	var options map[string]json.RawMessage
	if !f.take("options", &options) {
		return
	}
	for name, raw := range options {
		switch string(bytes.TrimSpace(raw)) {
		case "null", "false", "[]", "{}":
		default:
			if f.err == nil {
				f.err = badRequest("The option %.64q is not offered.", name)
			}
		}
	}
}

// changed takes the members that updates of all kinds share.
func (f *fields) changed() identity.Changed {
	return identity.Changed{Name: f.text("name"), Description: f.text("description"), Enabled: f.flag("enabled")}
}

// rest returns what nobody took, and the first error. What may be a secret is refused: it would be stored and shown as it is.
func (f *fields) rest() (identity.Extra, error) {
	f.options()
	for name := range f.left {
		if lower := strings.ToLower(name); f.err == nil && (strings.Contains(lower, "password") || strings.Contains(lower, "secret")) {
			f.err = badRequest("The member %.64q does not belong here.", name)
		}
	}
	return identity.Extra(f.left), f.err
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// queryFlag reads a filter like ?enabled; nil when absent. As in Keystone, a flag without a value means true.
func queryFlag(c echo.Context, name string) *bool {
	values, ok := c.QueryParams()[name]
	if !ok {
		return nil
	}
	yes := true
	switch values[0] {
	case "0", "false", "False", "FALSE":
		yes = false
	}
	return &yes
}

func notOffered(format string, args ...any) error {
	return fault.New(fault.Forbidden, "top/identity", format, args...)
}
