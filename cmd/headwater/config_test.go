package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/cmd/internal/client"
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

// An error of the file was printed with the lines around it, and so into the service's log: the database's password with it.
func TestBadConfigurationsKeepSecrets(t *testing.T) {
	t.Parallel()
	const dsn = "database:\n  driver: postgres\n"
	for name, tt := range map[string]struct{ file, want string }{
		"unknown setting":    {dsn + "  dsn: postgres://u:sekret@h/x\n  max_con: 3\n", `line 4: unknown field "max_con"`},
		"wrong type":         {dsn + "  dsn: postgres://u:sekret@h/x\n  max_conns: abc\n", "line 4: max_conns: a value of type int is wanted"},
		"wrong duration":     {dsn + "  dsn: postgres://u:sekret@h/x\n  slow_query: nope\n", `line 4: slow_query: invalid duration "nope"`},
		"not YAML":           {dsn + "  dsn: [postgres://u:sekret@h/x\n", "line 3"},
		"the dsn is a list":  {dsn + "  dsn: [postgres://u:sekret@h/x]\n", "line 3: dsn: a value of type string is wanted"},
		"a section is a dsn": {"database: postgres://u:sekret@h/x\n", "line 1"},
		"twice":              {dsn + "  dsn: postgres://u:sekret@h/x\n  dsn: postgres://u:sekret@h/y\n", "line 4"},
		"indentation":        {dsn + " dsn: postgres://u:sekret@h/x\n", "line 3"},
		"no quotes":          {dsn + "  dsn: host=h password: sekret\n", "line 3"},
		"quotes not closed":  {dsn + "  dsn: \"postgres://u:sekret@h/x\n", "line 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadConfig(write(t, tt.file), noEnv)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sekret") {
				t.Errorf("loadConfig = %v, want an error with %q and without the password", err, tt.want)
			}
		})
	}
}

// A file, or a section, in which everything had been made a comment set everything in it to nothing.
func TestWhatIsNotSaidKeepsItsDefault(t *testing.T) {
	t.Parallel()
	want := defaultConfig()
	want.resolve()
	for name, file := range map[string]string{
		"nothing": "", "a newline": "\n", "a comment": "# listen: 127.0.0.1:1\n", "a mark": "---\n", "null": "null\n",
		"sections": "database:\n  # driver: postgres\njobs:\nsites: {}\nlog: ~\n", "settings": "listen:\njobs:\n  lease:\n  queues:\n    # default:\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := loadConfig(write(t, file), noEnv)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("loadConfig = %+v, %v; want the defaults", got, err)
			}
		})
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "headwater.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The entry that headwater --help shows can be read by headwater, and names all that the openstack command asks for.
func TestOperatorEntry(t *testing.T) {
	t.Parallel()
	file := write(t, operatorEntry)
	cloud, err := client.Finder{Getenv: func(name string) string { return map[string]string{"OS_CLIENT_CONFIG_FILE": file}[name] }, Dirs: []string{t.TempDir()}}.Cloud("headwater-admin")
	c := cloud.Credential
	if err != nil || c.Username != "admin" || c.ProjectName != "admin" || !strings.Contains(operatorEntry, "user_domain_id: default, project_domain_id: default") {
		t.Errorf("the entry = %+v, %v", cloud, err)
	}
}
