package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// viewer is what the commands that ask a running agent share.
type viewer struct {
	out    io.Writer
	runDir string
}

// flag registers --run-dir.
func (v *viewer) flag(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&v.runDir, "run-dir", agent.Default().RunDir, "where the agent's own socket is")
	return c
}

// do asks the agent. Its refusal is the error.
func (v *viewer) do(ctx context.Context, method, path string, query url.Values, body []byte, into any) error {
	socket := agent.Config{RunDir: v.runDir}.ControlSocket()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	u := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return fmt.Errorf("no agent answers at %s: %w", socket, op.Err)
		}
		return fmt.Errorf("agent at %s: %w", socket, err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	if answer.StatusCode != http.StatusOK {
		var refusal struct {
			Error string `json:"error"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&refusal); err != nil || refusal.Error == "" {
			return fmt.Errorf("the agent answered %s", answer.Status)
		}
		if answer.StatusCode == http.StatusBadRequest {
			return run.Usage(errors.New(refusal.Error))
		}
		return errors.New(refusal.Error)
	}
	if w, ok := into.(io.Writer); ok {
		_, err := io.Copy(w, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func (v *viewer) get(ctx context.Context, path string, query url.Values, into any) error {
	return v.do(ctx, http.MethodGet, path, query, nil, into)
}
