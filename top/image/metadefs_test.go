package image_test

import (
	"net/http"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/cascadetest"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Horizon asks for the metadata definitions when it launches an instance: a 404 was an error on the page.
func TestNoMetadefs(t *testing.T) {
	t.Parallel()
	a := newAPI(t, cascadetest.New(t, []ident.SiteID{"east"}))
	for path, want := range map[string]int{
		"/v2/schemas/metadefs/namespace": 200, "/v2/schemas/metadefs/namespaces": 200, "/v2/schemas/metadefs/nonsense": 404,
		"/v2/metadefs/namespaces?resource_types=OS::Nova::Server&limit=20": 200, "/v2/metadefs/resource_types": 200,
	} {
		if got := a.Ask("reader:p1", http.MethodGet, path, nil); got.Code != want {
			t.Errorf("%s = %d %s", path, got.Code, got.Raw)
		}
	}
	got := a.Ask("reader:p1", http.MethodGet, "/v2/metadefs/namespaces", nil)
	if list, ok := got.Body["namespaces"].([]any); !ok || len(list) != 0 {
		t.Errorf("namespaces: %s", got.Raw)
	}
	if got := a.Ask("admin:p1", http.MethodPost, "/v2/metadefs/namespaces", map[string]any{"namespace": "x"}); got.Code != 403 {
		t.Errorf("make one: %d %s", got.Code, got.Raw)
	}
}
