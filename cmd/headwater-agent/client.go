package main

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/cmd/internal/socket"
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
	return socket.Do(ctx, socket.Request{Socket: agent.Config{RunDir: v.runDir}.ControlSocket(), Program: "agent", Method: method, Path: path, Query: query, Body: body}, into)
}

func (v *viewer) get(ctx context.Context, path string, query url.Values, into any) error {
	return v.do(ctx, http.MethodGet, path, query, nil, into)
}
