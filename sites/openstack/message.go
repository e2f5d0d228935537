package openstack

import (
	"bytes"
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxMessage bounds what is kept of a site's sentence, in bytes.
const maxMessage = 1024

// complaint is what a service said in the body of a failure.
type complaint struct {
	kind string // Neutron's exception type ("OverQuota"), Nova's key ("badRequest"), else ""
	text string
}

// readComplaint understands the bodies of failures of every service: JSON in
// its six dialects, Glance's and WSGI's HTML, plain text. It never fails; what
// it cannot read is an empty complaint.
func readComplaint(body []byte) complaint {
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		var doc map[string]any
		if json.Unmarshal(trimmed, &doc) == nil {
			c := fromJSON(doc)
			c.text = tidy(c.text)
			return c
		}
	}
	return complaint{text: tidy(string(trimmed))}
}

func fromJSON(doc map[string]any) complaint {
	if errors, ok := doc["errors"].([]any); ok && len(errors) > 0 { // placement, and microversion refusals
		if first, ok := errors[0].(map[string]any); ok {
			return complaint{kind: str(first["code"]), text: firstText(first, "detail", "title")}
		}
	}
	for _, key := range []string{"NeutronError", "QuantumError"} {
		switch e := doc[key].(type) {
		case string:
			return complaint{text: e}
		case map[string]any:
			c := complaint{kind: str(e["type"]), text: str(e["message"])}
			if detail := str(e["detail"]); detail != "" && !strings.Contains(detail, "Traceback") {
				c.text = strings.TrimSpace(c.text + " " + detail)
			}
			return c
		}
	}
	if text := str(doc["message"]); text != "" { // Glance, Keystone middleware of old
		return complaint{text: text}
	}
	for key, value := range doc { // Nova, Cinder {"badRequest": {...}}, Keystone {"error": {...}}
		if e, ok := value.(map[string]any); ok {
			if text := firstText(e, "message", "title"); text != "" {
				return complaint{kind: key, text: text}
			}
		}
	}
	if text := firstText(doc, "error", "description", "faultstring"); text != "" {
		return complaint{text: text}
	}
	return complaint{}
}

func firstText(m map[string]any, keys ...string) string {
	for _, key := range keys {
		if s := str(m[key]); s != "" {
			return s
		}
	}
	return ""
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

var (
	hiddenHTML = regexp.MustCompile(`(?is)<(head|script|style)\b.*?</(head|script|style)>`)
	htmlTag    = regexp.MustCompile(`(?i)</?[a-z][a-z0-9]*(\s[^<>]*)?/?>`)
	spaces     = regexp.MustCompile(`\s+`)
	anyURL     = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://[^\s'"<>]+`)
	poolHost   = regexp.MustCompile(`(?i)\bhost='[^']*'(, port=\d+)?`)
	tokenText  = regexp.MustCompile(`\bgAAAA[A-Za-z0-9_=-]{20,}`)
	jwsText    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)
)

// tidy makes one line of plain text of a site's sentence.
func tidy(text string) string {
	text = strings.ToValidUTF8(text, "?")
	text = hiddenHTML.ReplaceAllString(text, " ")
	text = htmlTag.ReplaceAllString(text, " ")
	text = html.UnescapeString(text)
	text = strings.TrimSpace(spaces.ReplaceAllString(text, " "))
	for len(text) > maxMessage {
		text = text[:maxMessage]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return text
}

// censor takes out what a tenant has no business with: URLs, the site's hosts and tokens.
func censor(text string, secrets []string) string {
	text = anyURL.ReplaceAllString(text, "(address)")
	text = poolHost.ReplaceAllString(text, "(address)")
	text = tokenText.ReplaceAllString(text, "(token)")
	text = jwsText.ReplaceAllString(text, "(token)")
	for _, s := range secrets {
		if len(s) > 3 {
			text = strings.ReplaceAll(text, s, "(address)")
		}
	}
	return text
}
