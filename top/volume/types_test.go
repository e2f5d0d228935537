package volume_test

import (
	"slices"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// names lists the types that a caller sees.
func (a *api) names(token, query string) []string {
	a.T.Helper()
	got := a.Ask(token, "GET", "/v3/types"+query, nil)
	list, ok := got.Body["volume_types"].([]any)
	if !ok {
		a.T.Fatalf("types: %d %s", got.Code, got.Raw)
	}
	var out []string
	for _, item := range list {
		out = append(out, item.(map[string]any)["name"].(string))
	}
	slices.Sort(out)
	return out
}

// A private volume type of a site was the administrators' alone at Top: there was no way to let a project use it.
func TestTypeAccess(t *testing.T) {
	t.Parallel()
	s := cascadetest.New(t, []ident.SiteID{"east"})
	a := newAPI(t, s)
	const one, two = "11111111111111111111111111111111", "22222222222222222222222222222222"
	admin, err := s.Registry.Admin(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	made, err := admin.Create(t.Context(), sites.VolumeType, sites.Body{"name": "gold", "os-volume-type-access:is_public": false}, sites.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := s.Registry.Tenant(t.Context(), "east", two)
	if err != nil {
		t.Fatal(err)
	}
	account, err := tenant.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The site's own list names the account of the second project.
	_, err = admin.Do(t.Context(), sites.Request{Service: sites.BlockStorage, Method: "POST", Path: "types/" + string(made.ID) + "/action",
		Body: sites.Body{"addProjectAccess": sites.Body{"project": account.ProjectID}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Adopt(t, "east")
	for who, want := range map[string][]string{
		"member:" + one: {"__DEFAULT__"}, "member:" + two: {"__DEFAULT__", "gold"}, "admin:ops": {"__DEFAULT__"},
	} {
		if got := a.names(who, ""); !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want %v", who, got, want)
		}
	}
	for query, want := range map[string][]string{"?is_public=None": {"__DEFAULT__", "gold"}, "?is_public=False": {"gold"}, "?is_public=True": {"__DEFAULT__"}} {
		if got := a.names("admin:ops", query); !slices.Equal(got, want) {
			t.Errorf("an administrator sees %v with %s, want %v", got, query, want)
		}
	}
	gold := a.Ask("admin:ops", "GET", "/v3/types/gold", nil).Body["volume_type"].(map[string]any)["id"].(string)
	def := a.Ask("admin:ops", "GET", "/v3/types/__DEFAULT__", nil).Body["volume_type"].(map[string]any)["id"].(string)
	action := func(verb, project string) map[string]any {
		return map[string]any{verb: map[string]any{"project": project}}
	}
	for _, tt := range []struct {
		name, token, id string
		body            any
		code            int
	}{
		{"as a member", "member:" + one, gold, action("addProjectAccess", one), 403},
		{"of a public type", "admin:ops", def, action("addProjectAccess", one), 400},
		{"of no type", "admin:ops", ident.NewUUID(), action("addProjectAccess", one), 404},
		{"of no project", "admin:ops", gold, action("addProjectAccess", "somebody"), 400},
		{"of what is none", "admin:ops", gold, map[string]any{"other": nil}, 400},
		{"that is not there", "admin:ops", gold, action("removeProjectAccess", one), 404},
		{"given", "admin:ops", gold, action("addProjectAccess", one), 202},
		{"given again", "admin:ops", gold, action("addProjectAccess", one), 409},
	} {
		if got := a.Ask(tt.token, "POST", "/v3/types/"+tt.id+"/action", tt.body); got.Code != tt.code {
			t.Errorf("access %s: %d %s, want %d", tt.name, got.Code, got.Raw, tt.code)
		}
	}
	if got := a.Ask("admin:ops", "GET", "/v3/types/"+gold+"/os-volume-type-access", nil); len(got.Body["volume_type_access"].([]any)) != 2 {
		t.Errorf("the access list is %s", got.Raw)
	}
	if got := a.Ask("admin:ops", "GET", "/v3/types/"+def+"/os-volume-type-access", nil); got.Code != 404 {
		t.Errorf("the access list of a public type: %d", got.Code)
	}
	if got := a.Ask("member:"+one, "GET", "/v3/types/"+gold+"/os-volume-type-access", nil); got.Code != 403 {
		t.Errorf("a member's look at an access list: %d", got.Code)
	}
	a.make("member:"+one, map[string]any{"volume_type": "gold"}) // the project gets its access at the site
	s.Adopt(t, "east")
	if got := a.names("member:"+one, ""); !slices.Contains(got, "gold") {
		t.Errorf("after another probe the project sees %v", got)
	}
	for _, project := range []string{one, two} {
		if got := a.Ask("admin:ops", "POST", "/v3/types/"+gold+"/action", action("removeProjectAccess", project)); got.Code != 202 {
			t.Errorf("taken: %d %s", got.Code, got.Raw)
		}
	}
	s.Adopt(t, "east")
	for _, project := range []string{one, two} {
		if got := a.Ask("member:"+project, "POST", "/v3/volumes", map[string]any{"volume": map[string]any{"size": 1, "volume_type": "gold"}}); got.Code != 404 {
			t.Errorf("a volume of a type that was taken: %d %s", got.Code, got.Raw)
		}
	}
	reply, err := admin.Do(t.Context(), sites.Request{Service: sites.BlockStorage, Method: "GET", Path: "types/" + string(made.ID) + "/os-volume-type-access"})
	if list, _ := reply.Body["volume_type_access"].([]any); err != nil || len(list) != 0 {
		t.Errorf("the site's own list is %v, %v", reply.Body, err)
	}
}

// The emulator did not know os-unset_image_metadata: `openstack volume unset --image-property` failed on the demo.
func TestImageMetadataIsUnset(t *testing.T) {
	t.Parallel()
	a := newAPI(t, cascadetest.New(t, []ident.SiteID{"east"}))
	id := a.make("member:p1", nil)
	act := func(body map[string]any) cascadetest.Answer {
		return a.Ask("member:p1", "POST", "/v3/volumes/"+id+"/action", body)
	}
	if got := act(map[string]any{"os-set_image_metadata": map[string]any{"metadata": map[string]string{"k": "v", "l": "w"}}}); got.Code != 200 {
		t.Fatalf("set: %d %s", got.Code, got.Raw)
	}
	if got := act(map[string]any{"os-unset_image_metadata": map[string]any{"key": "k"}}); got.Code != 200 {
		t.Errorf("unset: %d %s", got.Code, got.Raw)
	}
	shown := act(map[string]any{"os-show_image_metadata": nil}).Body["metadata"].(map[string]any)
	if len(shown) != 1 || shown["l"] != "w" {
		t.Errorf("image metadata are %v", shown)
	}
	if got := act(map[string]any{"os-unset_image_metadata": map[string]any{"key": "k"}}); got.Code != 404 {
		t.Errorf("unset again: %d %s", got.Code, got.Raw)
	}
}
