package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

//go:embed headwater.example.yaml
var exampleConfig string

// topCommand is "headwater top": API, engine and dashboard in one process.
func topCommand(getenv func(string) string, stderr io.Writer) *cobra.Command {
	var file, listen, dir string
	var example bool
	c := &cobra.Command{
		Use:   "top",
		Short: "Run Top: the API, the engine and the dashboard",
		Long: "Run Top: the API, the engine and the dashboard, until SIGINT or SIGTERM.\n\n" +
			"Settings come from their defaults, then the file of --config, then the flags; secrets from the environment only.\n" +
			"All settings, with their defaults (headwater top --print-example prints the same, to begin a file with):\n\n" + exampleConfig,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				_, err := io.WriteString(cmd.OutOrStdout(), exampleConfig)
				return err
			}
			cfg, err := loadConfig(file, getenv, func(c *topConfig) {
				c.Listen, c.Dir = cmp.Or(listen, c.Listen), cmp.Or(dir, c.Dir)
			})
			if err != nil {
				return err
			}
			if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
				debug.SetGCPercent(gcPercent)
			}
			return runTop(cmd.Context(), cfg, stderr)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	c.Flags().StringVar(&listen, "listen", "", "address of the API, instead of the file's")
	c.Flags().StringVar(&dir, "dir", "", "folder of the database and the key file, instead of the file's")
	c.Flags().BoolVar(&example, "print-example", false, "print the annotated example configuration and exit")
	return c
}

// gcPercent is how much Top's heap grows between two collections, unless the environment says (GOGC, GOMEMLIMIT). Little
// of a Top lives long, since its rows are in the database. Measured with 100 and 400:
// 4,653 and 6,089 GETs of a server for each second of CPU, 1.18 and 0.79 ms of CPU for a create. With 300 a comparison of 100,000 servers takes more than 500 MiB.
const gcPercent = 200

func runTop(ctx context.Context, cfg topConfig, stderr io.Writer) error {
	t, err := newTop(ctx, cfg, cfg.Log.logger(stderr))
	if err != nil {
		return err
	}
	front, err := t.front(ready(t.db))
	if err != nil {
		return errors.Join(err, t.db.Close())
	}
	return t.serve(ctx, front)
}
