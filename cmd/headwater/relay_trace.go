package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/relay"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/cmd/internal/pathtrace"
	"github.com/headwater-cloud/headwater/cmd/internal/socket"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// maxSocket is how long a socket's name may be, with the byte at its end (unix(7)).
const maxSocket = 108

// controlSocket is where a running relay answers the commands of whoever may open it.
func (c *relayConfig) controlSocket() string { return filepath.Join(c.Dir, "relay.sock") }

// relayTraceCommand is "headwater relay trace".
func relayTraceCommand() *cobra.Command {
	var flags pathtrace.Flags
	var file string
	c := &cobra.Command{Use: "trace PORT ADDRESS", Short: "Where a packet goes that a port of the site sends, why, and whether it does", Args: argsOf(cobra.ExactArgs(2)),
		Long:    pathtrace.Long + "\n\nAsks the relay that runs on this machine, and through it the hosts whose streams lead there.",
		Example: "  headwater relay trace 5f1c... 10.0.1.12 --proto tcp --dst-port 443",
		RunE: func(c *cobra.Command, args []string) error {
			q, err := flags.Question(args[0], args[1])
			if err != nil {
				return err
			}
			cfg, err := loadRelay(file)
			if err != nil {
				return err
			}
			raw, err := json.Marshal(q)
			if err != nil {
				return err
			}
			var got trace.Report
			if err := socket.Do(c.Context(), socket.Request{Socket: cfg.controlSocket(), Program: "relay", Method: http.MethodPost, Path: "/v1/trace", Body: raw}, &got); err != nil {
				return err
			}
			return flags.Print(c.OutOrStdout(), &got)
		}}
	flags.Add(c.Flags())
	c.Flags().StringVar(&file, "config", "/etc/headwater/relay.yaml", "the relay's configuration file, which says where its socket is")
	return c
}

// serveControl answers commands at the relay's socket until ctx ends.
func serveControl(ctx context.Context, path string, server *relay.Server) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a relay that has died
		return fmt.Errorf("relay's socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("relay's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("relay's socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/trace", func(w http.ResponseWriter, r *http.Request) {
		report, err := traceBy(r, server)
		w.Header().Set("Content-Type", "application/json")
		var out any = report
		if err != nil {
			w.WriteHeader(refusalOf(err))
			out = map[string]string{"error": err.Error()}
		}
		_ = json.NewEncoder(w).Encode(out) // whoever asked has gone, otherwise
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	g.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("relay's socket: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// traceBy has a server follow a packet.
func traceBy(r *http.Request, server *relay.Server) (*trace.Report, error) {
	var q trace.Question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, fault.Wrap(fault.BadRequest, "", err)
	}
	store, err := server.State()
	if err != nil {
		return nil, err
	}
	return trace.Run(r.Context(), server, store, q)
}

// refusalOf is the status with which the command tells a wrong command line from what went wrong.
func refusalOf(err error) int {
	switch fault.KindOf(err) {
	case fault.BadRequest:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
