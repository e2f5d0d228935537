package identity

import (
	"encoding/json"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits that Keystone's schemas set (keystone/api/validation/parameter_types.py and the resources' schema.py).
const (
	maxName        = 255
	maxProjectName = 64 // also of domains and groups
	maxDescription = 64 << 10
	maxExtra       = 64 << 10 // ours: the members that Top does not know, together
	maxTags        = 80
	maxPassword    = 4096
)

// checkName refuses names that no client can mean: empty, too long, not text.
func checkName(kind, name string, limit int) error {
	switch {
	case strings.TrimSpace(name) == "":
		return badRequest("The name of a %s cannot be empty.", kind)
	case utf8.RuneCountInString(name) > limit:
		return badRequest("The name of a %s has at most %d characters.", kind, limit)
	case !printable(name):
		return badRequest("The name of a %s cannot hold control characters.", kind)
	}
	return nil
}

func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

func checkText(member, text string, limit int) error {
	if len(text) > limit || !storable(text) {
		return badRequest("%s must be text of at most %d bytes.", member, limit)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// encodeExtra returns the stored form of extra.
func encodeExtra(extra Extra) (string, error) {
	if len(extra) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(extra)
	if err != nil {
		return "", badRequest("An unknown member is not valid JSON.")
	}
	if err := checkText("The unknown members together", string(text), maxExtra); err != nil {
		return "", err
	}
	return string(text), nil
}

func decodeExtra(text string) Extra {
	extra := Extra{}
	_ = json.Unmarshal([]byte(text), &extra) // we wrote it
	return extra
}

func mergeExtra(stored string, more Extra) (string, error) {
	if len(more) == 0 {
		return stored, nil
	}
	extra := decodeExtra(stored)
	for k, v := range more {
		extra[k] = v
	}
	return encodeExtra(extra)
}

// checkTags returns the tags in order and once each, or why they cannot be (keystone/resource/schema.py).
func checkTags(tags []string) ([]string, error) {
	if len(tags) > maxTags {
		return nil, badRequest("A project has at most %d tags.", maxTags)
	}
	seen := map[string]bool{}
	out := []string{}
	for _, tag := range tags {
		if tag == "" || utf8.RuneCountInString(tag) > maxName || strings.ContainsAny(tag, "/,") || !printable(tag) {
			return nil, badRequest("A tag has 1 to %d characters, none of them a comma or a slash.", maxName)
		}
		if !seen[tag] {
			seen[tag] = true
			out = append(out, tag)
		}
	}
	sort.Strings(out)
	return out, nil
}

func encodeList(list []string) string {
	if list == nil {
		list = []string{}
	}
	text, _ := json.Marshal(list) // text always encodes
	return string(text)
}

func decodeList(text string) []string {
	var list []string
	_ = json.Unmarshal([]byte(text), &list) // we wrote it
	return list
}
