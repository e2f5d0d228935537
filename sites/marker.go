package sites

import (
	"regexp"

	"github.com/headwater-cloud/headwater/sites/ident"
)

var markerForm = regexp.MustCompile(`^hw[:-]([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)

// MarkerOf returns the Top id that a resource of a site is marked with, wherever
// its kind keeps the marker: a server tag, a metadata key, a description, a name or an image property.
func MarkerOf(body Body) (ident.TopID, bool) {
	if tags, ok := body["tags"].([]any); ok {
		for _, t := range tags {
			if id, ok := parseMarker(t); ok {
				return id, true
			}
		}
	}
	if meta, ok := body["metadata"].(map[string]any); ok {
		if id, ok := parseMarker(meta["hw"]); ok {
			return id, true
		}
	}
	for _, key := range []string{"description", "hw_marker", "name"} {
		if id, ok := parseMarker(body[key]); ok {
			return id, true
		}
	}
	return "", false
}

func parseMarker(v any) (ident.TopID, bool) {
	s, _ := v.(string)
	m := markerForm.FindStringSubmatch(s)
	if m == nil {
		return "", false
	}
	return ident.TopID(m[1]), true
}
