// Package wire is what the tenants' services share about the form of requests
// and answers: links, pages, microversions, JSON with limits and unknown
// members, times. It knows no service and no resource.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/top/auth"
)

// Base is the address of Top as the client used it, with the path of the site
// that it pins and without a trailing slash: links below it come back here.
func Base(c echo.Context, public string) string {
	base := auth.BaseURL(c, public)
	if pin := auth.Pin(c); pin != "" {
		base += "/sites/" + string(pin)
	}
	return base
}

// Link is one entry of "links".
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// SelfLinks are a resource's links: self below the versioned endpoint, bookmark below the bare one.
func SelfLinks(versioned, bare, collection, id string) []Link {
	return []Link{{"self", versioned + "/" + collection + "/" + id}, {"bookmark", bare + "/" + collection + "/" + id}}
}

// NextLink is the link to the page after the one that ends with marker: the request's own query with another marker.
func NextLink(c echo.Context, collection, marker string) []Link {
	q := c.Request().URL.Query()
	q.Set("marker", marker)
	return []Link{{"next", collection + "?" + q.Encode()}}
}

// MaxLimit is the greatest page (Nova's, Cinder's and Neutron's own default).
const MaxLimit = 1000

// Page is which part of a listing is asked for.
type Page struct {
	Limit  int // in [0, MaxLimit]; MaxLimit when none was given
	Marker string
}

// ParsePage reads limit and marker. What is no number of 0 or more is fault.BadRequest.
func ParsePage(q url.Values) (Page, error) {
	p := Page{Limit: MaxLimit, Marker: q.Get("marker")}
	text := q.Get("limit")
	if text == "" {
		if q.Has("limit") {
			return p, BadRequest("limit param must be an integer")
		}
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return p, BadRequest("limit param must be an integer")
	}
	if n < 0 {
		return p, BadRequest("limit param must be positive")
	}
	p.Limit = min(n, MaxLimit)
	return p, nil
}

// BadRequest is a fault of the request's form.
func BadRequest(format string, args ...any) error {
	return fault.New(fault.BadRequest, "top", format, args...)
}

// Version is a microversion.
type Version struct{ Major, Minor int }

// String is "2.93".
func (v Version) String() string { return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor) }

// AtLeast reports whether v is the minor version or a later one.
func (v Version) AtLeast(minor int) bool { return v.Minor >= minor }

// Dialect is how a service spells its microversions.
type Dialect struct {
	Name     string // in the header OpenStack-API-Version: "compute"
	Legacy   string // an older header of its own, or ""
	Min, Max Version
}

// Negotiate reads the microversion of a request, sets the answer's headers, and
// returns it; without any it is Min. Malformed ones are fault.BadRequest, those outside the window fault.NotAcceptable.
func (d Dialect) Negotiate(c echo.Context) (Version, error) {
	v, err := d.parse(d.asked(c.Request().Header))
	h := c.Response().Header()
	shown := v
	if err != nil {
		shown = d.Min
	}
	h.Set("OpenStack-API-Version", d.Name+" "+shown.String())
	h.Add("Vary", "OpenStack-API-Version")
	if d.Legacy != "" {
		h.Set(d.Legacy, shown.String())
		h.Add("Vary", d.Legacy)
	}
	return v, err
}

func (d Dialect) asked(h http.Header) string {
	for _, line := range h.Values("OpenStack-API-Version") {
		for part := range strings.SplitSeq(line, ",") {
			name, version, ok := strings.Cut(strings.TrimSpace(part), " ")
			if ok && strings.EqualFold(name, d.Name) {
				return strings.TrimSpace(version)
			}
		}
	}
	if d.Legacy != "" {
		return strings.TrimSpace(h.Get(d.Legacy))
	}
	return ""
}

func (d Dialect) parse(text string) (Version, error) {
	switch text {
	case "":
		return d.Min, nil
	case "latest":
		return d.Max, nil
	}
	major, minor, ok := strings.Cut(text, ".")
	m, err1 := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	if !ok || err1 != nil || err2 != nil || m < 1 || n < 0 || strconv.Itoa(m) != major || strconv.Itoa(n) != minor {
		return d.Min, BadRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", text)
	}
	v := Version{m, n}
	if v.Major != d.Max.Major || v.Minor > d.Max.Minor || v.Minor < d.Min.Minor {
		return d.Min, fault.New(fault.NotAcceptable, "top", "Version %s is not supported by the API. Minimum is %s and maximum is %s.", text, d.Min, d.Max)
	}
	return v, nil
}

// Time is a moment as Nova and Neutron show it: whole seconds, UTC, "Z". The zero time is "".
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// Micros is a moment as Cinder and Nova's older members show it: microseconds, no zone; nil for the zero time.
func Micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// Members is a JSON object, its members not looked at yet.
type Members map[string]json.RawMessage

// Take decodes the member named key into the pointer and removes it. An absent
// one leaves into as it is; one of a wrong type is fault.BadRequest.
func (m Members) Take(key string, into any) error {
	raw, ok := m[key]
	if !ok {
		return nil
	}
	delete(m, key)
	if err := json.Unmarshal(raw, into); err != nil {
		return Invalid(key, raw)
	}
	return nil
}

// TakeAll is Take for many members; it reports the first that is of a wrong type, in the keys' order.
func (m Members) TakeAll(fields ...Field) error {
	for _, f := range fields {
		if err := m.Take(f.Key, f.Into); err != nil {
			return err
		}
	}
	return nil
}

// Field is a member to decode.
type Field struct {
	Key  string
	Into any
}

// Invalid is the fault for a member of a wrong type, in Nova's words.
func Invalid(key string, value any) error {
	text := fmt.Sprint(value)
	if raw, ok := value.(json.RawMessage); ok {
		text = string(raw)
	}
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return BadRequest("Invalid input for field/attribute %s. Value: %s.", key, text)
}

// Body reads the request's body as one JSON object. A body that is none is fault.BadRequest.
func Body(c echo.Context) (Members, error) {
	raw, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	var m Members
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&m); err != nil || m == nil {
		return nil, BadRequest("The server could not comply with the request since it is either malformed or otherwise incorrect.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, BadRequest("The body of the request holds more than one JSON value.")
	}
	return m, nil
}

// Object reads the body as one JSON object with the member named key, and returns that member's own members and the rest.
func Object(c echo.Context, key string) (inner, rest Members, err error) {
	m, err := Body(c)
	if err != nil {
		return nil, nil, err
	}
	raw, ok := m[key]
	if !ok {
		return nil, nil, BadRequest("Invalid input for field/attribute %s. '%s' is a required property", key, key)
	}
	delete(m, key)
	if err := json.Unmarshal(raw, &inner); err != nil || inner == nil {
		return nil, nil, Invalid(key, raw)
	}
	return inner, m, nil
}

// Optional is a member that may be absent, null, or a value.
type Optional[T any] struct {
	Set   bool // it was there
	Value *T   // nil for null
}

// UnmarshalJSON notes that the member was there.
func (o *Optional[T]) UnmarshalJSON(raw []byte) error {
	o.Set, o.Value = true, nil
	if string(raw) == "null" {
		return nil
	}
	o.Value = new(T)
	return json.Unmarshal(raw, o.Value)
}

// Bool is a boolean in any of the forms that Nova and Cinder take: true, "true", "on", "1", 1 ...
type Bool bool

// UnmarshalJSON reads it.
func (b *Bool) UnmarshalJSON(raw []byte) error {
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "true", "on", "yes", "1", "y", "t":
		*b = true
	case "false", "off", "no", "0", "n", "f":
		*b = false
	default:
		return fmt.Errorf("%s is no boolean", raw)
	}
	return nil
}

// Int is a whole number, as a number or a text.
type Int int64

// UnmarshalJSON reads it.
func (i *Int) UnmarshalJSON(raw []byte) error {
	text := string(raw)
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%s is no whole number", raw)
	}
	*i = Int(n)
	return nil
}
