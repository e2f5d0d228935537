package identity

import (
	"net/http"
	"testing"
)

// Bodies that nobody looked at were taken whatever they held; and a list of tags that was no list emptied a project's tags.
func TestBodiesAreObjects(t *testing.T) {
	t.Parallel()
	w := newTop(t)
	admin := w.login("admin", "admin")
	project, _ := dig(t, w.ok(http.StatusCreated, "POST", "/projects", admin, `{"project":{"name":"bodies","domain_id":"default","tags":["kept"]}}`), "project", "id").(string)
	at := "/projects/" + project
	for _, tt := range []struct {
		name, path, body string
		want             int
	}{
		{"a tag with no JSON", at + "/tags/a", "\x00", 400},
		{"a tag with a list", at + "/tags/a", "[1]", 400},
		{"a tag with null", at + "/tags/a", "null", 400},
		{"a tag with an object", at + "/tags/a", `{"x":1}`, 201},
		{"a tag that is there", at + "/tags/a", "", 400},
		{"a grant with no JSON", at + "/users/nobody/roles/none", "{", 400},
		{"a grant of nothing", at + "/users/nobody/roles/none", "{}", 404},
		{"tags of nothing", at + "/tags", "{}", 400},
		{"tags of null", at + "/tags", `{"tags":null}`, 400},
		{"tags twice", at + "/tags", `{"tags":["a","a"]}`, 400},
		{"tags of nobody's", at + "/tags", `{"tags":[1]}`, 400},
	} {
		var sent any
		if tt.body != "" {
			sent = tt.body
		}
		if got := w.do("PUT", tt.path, admin, sent); got.status != tt.want {
			t.Errorf("%s: %d %s; want %d", tt.name, got.status, got.text, tt.want)
		}
	}
	if tags := w.ok(http.StatusOK, "GET", at+"/tags", admin, nil)["tags"]; len(tags.([]any)) != 2 {
		t.Errorf("tags %v; want a and kept", tags)
	}
}
