package network_test

import "testing"

// Bodies of a single tag were not looked at, and a list with one tag twice was taken.
func TestTagBodies(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	at := "networks/" + text(s.do(201, "POST", "networks", object{"network": object{"name": "n"}}), "id") + "/tags"
	for _, body := range []string{"{", "\x00", "[[["} {
		s.refused(400, "MalformedRequestBody", "PUT", at+"/a", body)
	}
	for _, body := range []string{"[1]", "7", "null", `{"tags":5}`} { // Neutron takes them
		s.do(201, "PUT", at+"/a", body)
	}
	for _, body := range []string{"{}", `{"tags":["b","b"]}`} {
		s.refused(400, "InvalidInput", "PUT", at, body)
	}
	if got := s.do(200, "GET", at, nil)["tags"].([]any); len(got) != 1 || got[0] != "a" {
		t.Errorf("tags %v; want a", got)
	}
}
