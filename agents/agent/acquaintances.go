package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// acquaintances are the hosts that this one has met in its pool, over restarts: since when each has been gone, or zero. A pool tells nobody of who died
// before he came, so that an agent that starts would take a dead gateway for one that lives.
type acquaintances map[string]acquaintance

type acquaintance struct {
	Gone time.Time `json:"gone,omitzero"`
}

// forgetAfter is how long a host that is gone, and that the desired state does not name, is remembered.
const forgetAfter = 30 * 24 * time.Hour

func acquaintancesFile(dir string) string { return filepath.Join(dir, "members") }

// readAcquaintances reads what was written last. What cannot be read is as good as nothing: it is known anew before long.
func readAcquaintances(dir string) (acquaintances, error) {
	raw, err := os.ReadFile(acquaintancesFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return acquaintances{}, nil
	}
	out := acquaintances{}
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		return acquaintances{}, fmt.Errorf("hosts met before: %w", err)
	}
	if out == nil {
		out = acquaintances{}
	}
	return out, nil
}

func (a acquaintances) write(dir string) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.WriteFile(acquaintancesFile(dir)+".new", raw, 0o600); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return os.Rename(acquaintancesFile(dir)+".new", acquaintancesFile(dir))
}

// see notes whether a host is gone, and reports whether that is news.
func (a acquaintances) see(host string, gone bool, now time.Time) bool {
	was, met := a[host]
	if met && gone != was.Gone.IsZero() {
		return false
	}
	if gone {
		a[host] = acquaintance{now.UTC().Truncate(time.Millisecond)}
	} else {
		a[host] = acquaintance{}
	}
	return true
}
