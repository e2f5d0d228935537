package openstack

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

const top = ident.TopID("0b9c2f0e-3b1a-4a51-8a9b-7f4b1d9d4d11")

func TestMarkerOnTheWire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		compute string // newest microversion
		kind    sites.Kind
		body    sites.Body
		want    string
	}{
		{"server", "2.93", sites.Server, sites.Body{"tags": []any{"t"}}, `{"server":{"tags":["t","hw:ID"]}}`},
		{"server with typed tags", "2.52", sites.Server, sites.Body{"tags": []string{"t"}}, `{"server":{"tags":["t","hw:ID"]}}`},
		{"server of old", "2.51", sites.Server, sites.Body{"metadata": map[string]any{"a": "b"}}, `{"server":{"metadata":{"a":"b","hw":"hw:ID"}}}`},
		{"server with hints", "2.93", sites.Server, sites.Body{"name": "s", "os:scheduler_hints": map[string]any{"group": "g"}},
			`{"os:scheduler_hints":{"group":"g"},"server":{"name":"s","tags":["hw:ID"]}}`},
		{"server group", "2.93", sites.ServerGroup, sites.Body{"policy": "affinity"}, `{"server_group":{"name":"hw-ID","policy":"affinity"}}`},
		{"server group of old", "2.60", sites.ServerGroup, sites.Body{"policy": "affinity"}, `{"server_group":{"name":"hw-ID","policies":["affinity"]}}`},
		{"keypair", "2.93", sites.Keypair, sites.Body{"name": "x"}, `{"keypair":{"name":"hw-ID"}}`},
		{"image", "2.93", sites.Image, sites.Body{}, `{"hw_marker":"hw:ID"}`},
		{"volume", "2.93", sites.Volume, sites.Body{"metadata": map[string]string{"a": "b"}}, `{"volume":{"metadata":{"a":"b","hw":"hw:ID"}}}`},
		{"backup", "2.93", sites.Backup, sites.Body{"name": "x"}, `{"backup":{"name":"hw-ID"}}`},
		{"port", "2.93", sites.Port, sites.Body{"description": "x"}, `{"port":{"description":"hw:ID"}}`},
		{"flavor", "2.93", sites.Flavor, sites.Body{"name": "x"}, `{"flavor":{"name":"x"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				got = string(raw)
				fmt.Fprint(w, `{"id": "7"}`)
			})
			f.compute = tt.compute
			before, _ := json.Marshal(tt.body)
			_, err := f.adaptor(t).Create(t.Context(), tt.kind, tt.body, sites.CreateOptions{Marker: top})
			if want := strings.ReplaceAll(tt.want, "ID", string(top)); got != want {
				t.Errorf("sent %s, want %s (%v)", got, want, err)
			}
			if after, _ := json.Marshal(tt.body); string(after) != string(before) {
				t.Errorf("the caller's body became %s", after)
			}
		})
	}
}

// Services ignore filters that they do not know: every row is looked at again.
func TestFindMarkedLooksAgain(t *testing.T) {
	t.Parallel()
	const other = "9b9c2f0e-3b1a-4a51-8a9b-7f4b1d9d4d11"
	for _, tt := range []struct {
		name    string
		compute string
		kind    sites.Kind
		rows    string
		query   string // what the service is asked
		want    []ident.BottomID
	}{
		{"server", "2.93", sites.Server, `"servers": [{"id": "1", "tags": ["hw:ID"]}, {"id": "2", "tags": ["hw:OTHER"]}, {"id": "3"}]`, "tags=hw%3AID", []ident.BottomID{"1"}},
		{"server of old", "2.51", sites.Server, `"servers": [{"id": "1", "metadata": {"hw": "hw:ID"}}, {"id": "2", "tags": ["hw:ID"]}]`, "limit=500", []ident.BottomID{"1"}},
		{"two", "2.93", sites.Network, `"networks": [{"id": "1", "description": "hw:ID"}, {"id": "2", "description": "hw:ID"}, {"id": "3", "description": "hw:ID "}]`, "description=hw%3AID", []ident.BottomID{"1", "2"}},
		{"volume", "2.93", sites.Volume, `"volumes": [{"id": "1", "metadata": {"hw": "hw:ID"}}, {"id": "2", "metadata": {}}]`, "metadata=%7B%22hw%22%3A%22hw%3AID%22%7D", []ident.BottomID{"1"}},
		{"backup", "2.93", sites.Backup, `"backups": [{"id": "1", "name": "hw-ID"}, {"id": "2", "name": null}]`, "name=hw-ID", []ident.BottomID{"1"}},
		{"server group", "2.93", sites.ServerGroup, `"server_groups": [{"id": "1", "name": "hw-ID"}, {"id": "2", "name": "hw-OTHER"}]`, "limit=500", []ident.BottomID{"1"}},
		// Nova copies an image's properties to the snapshots of servers that booted from it.
		{"image and its heir", "2.93", sites.Image, `"images": [{"id": "1", "hw_marker": "hw:ID"}, {"id": "2", "hw_marker": "hw:ID", "base_image_ref": "1"}]`, "hw_marker=hw%3AID", []ident.BottomID{"1"}},
		{"none", "2.93", sites.Port, `"ports": []`, "description=hw%3AID", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fill := strings.NewReplacer("OTHER", other, "ID", string(top)).Replace
			f := newFakeSite(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{%s}`, fill(tt.rows)) })
			f.compute = tt.compute
			found, err := f.adaptor(t).FindMarked(t.Context(), tt.kind, top)
			var got []ident.BottomID
			for _, o := range found {
				got = append(got, o.ID)
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("found %v, %v; want %v", got, err, tt.want)
			}
			if query := f.last().URL.RawQuery; !strings.Contains(query, fill(tt.query)) {
				t.Errorf("asked %q, want %q in it", query, fill(tt.query))
			}
		})
	}
}

func TestWhatTravelsDown(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, ok)
	a := f.adaptor(t, func(c *Config) { c.UserAgent = "headwater/test" })
	ctx := ident.WithTrace(ident.WithRequestID(t.Context(), "req-0b9c2f0e-3b1a-4a51-8a9b-7f4b1d9d4d11"), "00-ab-cd-01")
	if _, err := a.Show(ctx, sites.Server, "7"); err != nil {
		t.Fatal(err)
	}
	h := f.last().Header
	for name, want := range map[string]string{"X-Openstack-Request-Id": "req-0b9c2f0e-3b1a-4a51-8a9b-7f4b1d9d4d11", "Traceparent": "00-ab-cd-01",
		"Openstack-Api-Version": "compute 2.93", "X-Auth-Token": "token-1"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(h.Get("User-Agent"), "headwater/test ") {
		t.Errorf("User-Agent is %q", h.Get("User-Agent"))
	}
	if _, err := a.Do(t.Context(), sites.Request{Service: sites.Compute, Method: http.MethodGet, Path: "x", Microversion: "2.79"}); err != nil || f.last().Header.Get("Openstack-Api-Version") != "compute 2.79" {
		t.Errorf("an explicit microversion: %v, %q", err, f.last().Header.Get("Openstack-Api-Version"))
	}
}

func TestImageUpdateIsAPatch(t *testing.T) {
	t.Parallel()
	var got, contentType string
	f := newFakeSite(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, contentType = string(raw), r.Header.Get("Content-Type")
		fmt.Fprint(w, `{"id": "7"}`)
	})
	_, err := f.adaptor(t).Update(t.Context(), sites.Image, "7", sites.Body{"name": "n", "a/b~c": "v", "gone": nil})
	const want = `[{"op":"add","path":"/a~1b~0c","value":"v"},{"op":"remove","path":"/gone"},{"op":"add","path":"/name","value":"n"}]`
	if err != nil || got != want || contentType != "application/openstack-images-v2.1-json-patch" {
		t.Errorf("sent %s as %s (%v), want %s", got, contentType, err, want)
	}
	if _, err := f.adaptor(t).Update(t.Context(), sites.Keypair, "k", sites.Body{}); !fault.Is(err, fault.NotImplemented) {
		t.Errorf("update a keypair: %v, want NotImplemented", err)
	}
}
