package image

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cascade/image"
	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites/fault"
)

func TestByteRange(t *testing.T) {
	t.Parallel()
	ten, none := int64(10), int64(0)
	for _, tt := range []struct {
		header   string
		size     *int64
		from, to int64
		partial  bool
		bad      bool
	}{
		{"", &ten, 0, 0, false, false},
		{"bytes=0-0", &ten, 0, 0, true, false},
		{"bytes=2-4", &ten, 2, 4, true, false},
		{"bytes=2-", &ten, 2, 9, true, false},
		{"bytes=2-99", &ten, 2, 9, true, false},
		{"bytes=-3", &ten, 7, 9, true, false},
		{"bytes=-99", &ten, 0, 9, true, false},
		{"bytes=9-9", &ten, 9, 9, true, false},
		{"bytes=10-", &ten, 0, 0, false, true},
		{"bytes=4-2", &ten, 0, 0, false, true},
		{"bytes=-0", &ten, 0, 0, false, true},
		{"bytes=--1", &ten, 0, 0, false, true},
		{"bytes=x-", &ten, 0, 0, false, true},
		{"bytes=5", &ten, 0, 0, false, true},
		{"bytes=0-", &none, 0, 0, false, true},
		{"bytes=-1", &none, 0, 0, false, true},
		{"bytes=0-1,3-4", &ten, 0, 0, false, false}, // several: the whole, as RFC 9110 allows
		{"lines=1-2", &ten, 0, 0, false, false},
		{"bytes=1-2", nil, 0, 0, false, false},
	} {
		from, to, partial, err := byteRange(tt.header, tt.size)
		if (err != nil) != tt.bad {
			t.Errorf("byteRange(%q): error %v, want one: %v", tt.header, err, tt.bad)
			continue
		}
		if err == nil && (partial != tt.partial || partial && (from != tt.from || to != tt.to)) {
			t.Errorf("byteRange(%q) = %d, %d, %v; want %d, %d, %v", tt.header, from, to, partial, tt.from, tt.to, tt.partial)
		}
	}
}

func TestSorting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		query string
		want  []index.Sort
		bad   bool
	}{
		{"", nil, false},
		{"sort=name:asc,created_at", []index.Sort{{Field: index.ByName}, {Field: index.ByCreated, Desc: true}}, false},
		{"sort_key=name", []index.Sort{{Field: index.ByName, Desc: true}}, false},
		{"sort_dir=asc", []index.Sort{{Field: index.ByCreated}}, false},
		{"sort_key=name&sort_key=status&sort_dir=asc", []index.Sort{{Field: index.ByName}, {Field: index.ByStatus}}, false},
		{"sort_key=name&sort_key=status&sort_dir=asc&sort_dir=desc", []index.Sort{{Field: index.ByName}, {Field: index.ByStatus, Desc: true}}, false},
		{"sort_key=name&sort_dir=asc&sort_dir=desc", nil, true},
		{"sort=name:up", nil, true},
		{"sort=colour", nil, true},
	} {
		values, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sorting(values)
		if (err != nil) != tt.bad {
			t.Errorf("%s: error %v, want one: %v", tt.query, err, tt.bad)
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %v, want %v", tt.query, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %v, want %v", tt.query, got, tt.want)
			}
		}
	}
}

// A patch is carried out as a whole or not at all, and what it leaves is an image that can be stored.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`[]`, `null`, `{}`, `[null]`, `[{"op":"add","path":"/x","value":"y"}]`, `[{"op":"replace","path":"/name","value":null}]`, `[{"replace":"/name","value":"z"}]`,
		`[{"op":"remove","path":"/colour"}]`, `[{"op":"replace","path":"/tags","value":["a","a"]}]`, `[{"op":"replace","path":"/visibility","value":"shared"}]`,
		`[{"op":"add","path":"/a~1b","value":"c"}]`, `[{"op":"add","path":1}]`, `[{"op":"replace","path":"/owner","value":"p2"}]`, `[{"op":"add","path":"/os_glance_x","value":""}]`,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, body string, older bool) {
		ops, err := parsePatch(strings.NewReader(body), older)
		if err != nil {
			if !fault.Is(err, fault.BadRequest) {
				t.Fatalf("parse %q: %v, want a bad request", body, err)
			}
			return
		}
		spec := image.Spec{DiskFormat: "raw", Properties: map[string]string{"colour": "red"}}
		r := &index.Resource{Name: "n", Visibility: image.Private, ProjectID: "p", Status: image.Queued}
		before, name := spec, r.Name
		if err := apply(ops, r, &spec); err != nil {
			if fault.Is(err, fault.Internal) || r.Name != name || spec.DiskFormat != before.DiskFormat || spec.Properties["colour"] != "red" {
				t.Fatalf("apply %q: %v left %+v, %+v", body, err, r, spec)
			}
			return
		}
		if r.Visibility == "" || r.ProjectID == "" {
			t.Fatalf("apply %q left %+v", body, r)
		}
		for name := range spec.Properties {
			if readonly(name) || reserved(name) || base(name) || name == "id" {
				t.Fatalf("apply %q left the property %q", body, name)
			}
		}
		if err := r.Encode(spec); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzFields(f *testing.F) {
	for _, name := range []string{"id", "name", "visibility", "disk_format", "min_disk", "protected", "tags", "x", "status", ""} {
		for _, value := range []string{`null`, `"a"`, `1`, `-1`, `true`, `[]`, `{}`, `["a"]`, `1e99`} {
			f.Add(name, value)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if !json.Valid([]byte(value)) {
			return
		}
		var in fields
		if err := in.set(name, json.RawMessage(value)); fault.Is(err, fault.Internal) {
			t.Fatalf("set %q to %s: %v", name, value, err)
		}
	})
}
