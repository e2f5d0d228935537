package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites/emulator"
)

// controlToken guards what the emulated sites offer beside OpenStack: seeding and outages. They listen on loopback only.
const controlToken = "bench"

// emulate is the process of the emulated sites: it prints one line of JSON, the
// URL of each, and serves until ctx ends.
func emulate(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("emulate", flag.ContinueOnError)
	names := flags.String("names", "", "names of the sites, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	urls := map[string]string{}
	for name := range strings.SplitSeq(*names, ",") {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("emulate %s: %w", name, err)
		}
		cfg := emulator.Default(name)
		cfg.ControlToken, cfg.Unlimited, cfg.CallLog = controlToken, true, 16
		// Hardware for more servers than any part makes.
		cfg.Capacity.VCPUs, cfg.Capacity.MemoryMB, cfg.Capacity.DiskGB = 1_000_000, 1_000_000_000, 100_000_000
		urls[name] = "http://" + ln.Addr().String()
		g.Go(func() error { return emulator.ServeOn(ctx, ln, emulator.New(cfg)) })
	}
	if err := json.NewEncoder(stdout).Encode(urls); err != nil {
		return fmt.Errorf("print the addresses: %w", err)
	}
	return g.Wait()
}
