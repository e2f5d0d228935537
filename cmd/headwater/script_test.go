package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/top/admin/admintest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"headwater": func() { os.Exit(run.Main(process)) }})
}

// cloudsYAML are the clouds that every script has: Top's operator and the accounts at sites.
const cloudsYAML = `
clouds:
  headwater-admin:
    auth: {auth_url: "TOP/identity/v3", username: admin, password: secret, project_name: admin, user_domain_id: default, project_domain_id: default}
  headwater:
    auth: {auth_url: "TOP/identity/v3", username: demo, password: secret, project_name: demo, user_domain_id: default, project_domain_id: default}
  east:
    region_name: east
    auth: {auth_url: "http://east.test:5000/v3", username: admin, password: secret, project_name: admin, user_domain_id: default, project_domain_id: default}
  east-demo:
    region_name: east
    auth: {auth_url: "http://east.test:5000/v3", username: demo, password: secret, project_name: demo, user_domain_id: default, project_domain_id: default}
  east-wrong:
    region_name: east
    auth: {auth_url: "http://east.test:5000/v3", username: admin, password: hunter2, project_name: admin, user_domain_id: default, project_domain_id: default}
  west:
    auth_type: v3applicationcredential
    region_name: west
    auth: {auth_url: "https://west.test/identity", application_credential_id: appcred, application_credential_secret: secret}
  nowhere:
    auth: {auth_url: "http://nowhere.invalid:5000/v3", username: admin, password: secret, project_name: admin, user_domain_id: default, project_domain_id: default}
`

// Each script runs the real program against a Top of its own. Beside
// testscript's commands it has "top": hold KIND N, die, noadmin, refuse.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			top := admintest.New(t)
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Setup: func(env *testscript.Env) error {
					env.Setenv("TOP", top.URL)
					text := strings.ReplaceAll(cloudsYAML, "TOP", top.URL)
					return os.WriteFile(filepath.Join(env.WorkDir, "clouds.yaml"), []byte(text), 0o600)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"top": func(ts *testscript.TestScript, _ bool, args []string) {
					steer(ts, top, args)
				}},
			})
		})
	}
}

func steer(ts *testscript.TestScript, top *admintest.Top, args []string) {
	switch {
	case len(args) == 3 && args[0] == "hold":
		var n int
		if _, err := fmt.Sscan(args[2], &n); err != nil {
			ts.Fatalf("top hold: %v", err)
		}
		top.Hold(map[sites.Kind]int{sites.Kind(args[1]): n})
	case len(args) == 1 && args[0] == "die":
		top.SetDead(true)
	case len(args) == 1 && args[0] == "refuse":
		top.Refuse()
	case len(args) == 1 && args[0] == "noadmin":
		top.TakeAdmin()
	default:
		ts.Fatalf("top: unknown %v", args)
	}
}
