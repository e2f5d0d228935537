package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// command has ovs-vswitchd do a command of ovs-appctl (ovs-vswitchd(8)): one request of JSON-RPC on its socket.
func (c Config) command(ctx context.Context, method string, args ...string) (string, error) {
	path, err := c.switchSocket()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var d net.Dialer
	n, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return "", fmt.Errorf("ovs-vswitchd: %w", err)
	}
	defer n.Close() //nolint:errcheck // the answer is all that matters
	if deadline, ok := ctx.Deadline(); ok {
		if err := n.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if err := json.NewEncoder(n).Encode(map[string]any{"id": 0, "method": method, "params": args}); err != nil {
		return "", fmt.Errorf("ovs-vswitchd: %w", err)
	}
	var answer struct {
		Result *string `json:"result"`
		Error  *string `json:"error"`
	}
	if err := json.NewDecoder(n).Decode(&answer); err != nil {
		return "", fmt.Errorf("ovs-vswitchd: answer to %s: %w", method, err)
	}
	if answer.Error != nil || answer.Result == nil {
		text := "no result"
		if answer.Error != nil {
			text = strings.TrimSpace(*answer.Error)
		}
		return "", commandError(text)
	}
	return *answer.Result, nil
}

// commandError is what ovs-vswitchd said that it did not do.
type commandError string

// Error is its words.
func (e commandError) Error() string { return string(e) }

// switchSocket is the socket of ovs-vswitchd's commands. Its name has the number of the process in it, unless somebody chose another.
func (c Config) switchSocket() (string, error) {
	dir := c.ovsRunDir()
	if pid, err := os.ReadFile(filepath.Join(dir, "ovs-vswitchd.pid")); err == nil {
		path := filepath.Join(dir, "ovs-vswitchd."+strings.TrimSpace(string(pid))+".ctl")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*vswitchd*.ctl"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no socket of ovs-vswitchd in %s", dir)
	}
	return found[len(found)-1], nil
}
