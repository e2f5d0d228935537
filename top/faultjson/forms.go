package faultjson

import (
	"bytes"
	"encoding/json"
	"html"
	"net/http"
	"strconv"
	"strings"
)

// answer is what a form has to express.
type answer struct {
	asked   Asked
	status  int
	message string
	neutron string
}

// form is how one dialect spells an answer.
type form struct {
	contentType string
	// middleware says that the service leaves 401 to keystonemiddleware, which always speaks Keystone's dialect.
	middleware bool
	render     func(answer) []byte
}

const jsonType = "application/json"

var forms = map[Dialect]form{
	Compute:     {jsonType, true, nova},
	Volume:      {jsonType, true, cinder},
	Network:     {jsonType, true, neutron},
	Identity:    {jsonType, false, keystone},
	Image:       {"text/html; charset=UTF-8", false, glance},
	DataProtect: {jsonType, true, nova},
	Operator:    {"application/problem+json", false, problem},
}

// novaNames are the outer members by status (nova/api/openstack/wsgi.py, Fault._fault_names).
var novaNames = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusTooManyRequests:       "overLimit",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

type novaFault struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

func nova(a answer) []byte { return novaBody(a, "") }

// cinder adds the retryAfter that it has sent with 413 ever since it left nova.
func cinder(a answer) []byte {
	if a.status == http.StatusRequestEntityTooLarge {
		return novaBody(a, "0")
	}
	return novaBody(a, "")
}

func novaBody(a answer, retry string) []byte {
	name := novaNames[a.status]
	if name == "" {
		name = "computeFault"
	}
	return encode(map[string]novaFault{name: {a.status, a.message, retry}})
}

func neutron(a answer) []byte {
	type inner struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Detail  string `json:"detail"`
	}
	return encode(map[string]inner{"NeutronError": {Type: a.neutron, Message: a.message}})
}

func keystone(a answer) []byte {
	type inner struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Title   string `json:"title"`
	}
	return encode(map[string]inner{"error": {a.status, a.message, http.StatusText(a.status)}})
}

// glance writes webob's page, from whose text the SDK reads the message.
func glance(a answer) []byte {
	title := strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	return []byte(strings.Join([]string{
		"<html>", " <head>", "  <title>" + title + "</title>", " </head>", " <body>",
		"  <h1>" + title + "</h1>", "  " + html.EscapeString(a.message) + "<br /><br />",
		"", "", "", " </body>", "</html>",
	}, "\n"))
}

func problem(a answer) []byte {
	return encode(struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id,omitempty"`
	}{"about:blank", http.StatusText(a.status), a.status, a.message, a.asked.RequestID})
}

// encode keeps <, > and & readable: no client puts the body into a page.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return []byte("{}") // cannot happen: the values are structs of text and numbers
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
