package topproc

import (
	"context"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/sites/emulator"
)

// A Top that was killed comes back with what it had promised; one that stood still goes on.
func TestKillAndRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	site := Emulate(t, emulator.Default("east"), nil)
	top := Start(t, Config{})
	top.AddEmulated(t, site)
	tenant := top.NewTenant(t, "demo", "demo", "member")
	var made struct{ Network struct{ ID string } }
	tenant.Must(t, "POST", "/network/v2.0/networks", Object{"network": Object{"name": "n"}}, &made)
	top.Kill()
	if _, err := tenant.Do(t.Context(), "GET", "/network/v2.0/networks", nil); err == nil || !refused(err) {
		t.Errorf("a killed Top answered: %v", err)
	}
	top.Restart()
	tenant.Must(t, "GET", "/network/v2.0/networks/"+made.Network.ID, nil, nil)
	top.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 1e8)
	defer cancel()
	if _, err := tenant.Do(ctx, "GET", "/network/v2.0/networks", nil); err == nil {
		t.Error("a Top that stands still answered")
	}
	top.Resume()
	tenant.Must(t, "GET", "/network/v2.0/networks", nil, nil)
	if !strings.Contains(top.Metrics(), "headwater_jobs_") {
		t.Error("no metrics of jobs")
	}
	top.Stop()
}
