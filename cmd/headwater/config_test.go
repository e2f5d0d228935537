package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func noEnv(string) string { return "" }

// The example file documents every setting with its default, so it must load and mean nothing.
func TestExampleIsTheDefaults(t *testing.T) {
	t.Parallel()
	got, err := loadConfig("headwater.example.yaml", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.resolve()
	if len(got.Jobs.SiteLimits) == 0 {
		got.Jobs.SiteLimits = nil
	}
	if len(got.Identity.Policy) == 0 {
		got.Identity.Policy = nil
	}
	if len(got.Identity.External.Roles) == 0 {
		got.Identity.External.Roles = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example file differs from the defaults:\n got %+v\nwant %+v", got, want)
	}
	text, err := os.ReadFile("headwater.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range yamlNames(reflect.TypeFor[topConfig]()) {
		if !strings.Contains(string(text), name+":") {
			t.Errorf("setting %q is not in the example file", name)
		}
	}
}

func yamlNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, name)
		if f.Type.Kind() == reflect.Struct {
			names = append(names, yamlNames(f.Type)...)
		}
	}
	return names
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad configurations found: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(string(text), "\n", 2)[0], "# want:"))
			_, err = loadConfig(file, noEnv)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("loadConfig = %v, want an error with %q", err, want)
			}
		})
	}
}
