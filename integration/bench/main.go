// Command bench measures Headwater beside its peer, a real OpenStack region, in
// one run, and prints a table: what was measured, ours, the peer's, the aim.
//
//	bench [-json] [-only PART,...] [-real REGION] [-servers N] [-sites N] [-keep]
//
// Every part runs the real program as a process of its own over emulated sites
// in another process; the load comes from this one. Only loopback is used. The
// parts are reads, boots, verbs, creates, outage, memory and relay, and dataplane, which has emulated
// hosts instead, OVN and os-ken as peers, and needs root. Without a real region, OVN or os-ken
// the peer's column is empty, and a line says why. It exits 1 when something
// could not be measured, not when an aim was missed: figures depend on the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/headwater-cloud/headwater/integration/bench/dataplane"
)

func main() { os.Exit(process(os.Args[1:], os.Stdout, os.Stderr)) }

// limit bounds a whole run.
const limit = 30 * time.Minute

// options are the command line.
type options struct {
	json      bool
	only      string
	real      string
	clouds    string
	servers   int
	manySites int
	program   string
	keep      bool
}

func process(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == "emulate" {
		return exit(emulate(ctx, args[1:], stdout), stderr)
	}
	if len(args) > 0 && args[0] == "relaysite" {
		return exit(relaySite(ctx, args[1:], stdout), stderr)
	}
	if len(args) == 2 && args[0] == giveBack {
		return exit(dataplane.GiveBack(ctx, args[1]), stderr)
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.json, "json", false, "print JSON lines instead of a table")
	flags.StringVar(&o.only, "only", "", "parts to run, separated by commas: "+strings.Join(partNames(), ","))
	flags.StringVar(&o.real, "real", "east", "real region to compare with; empty for none")
	flags.StringVar(&o.clouds, "clouds", filepath.Join(realDir(), "clouds.yaml"), "clouds.yaml that has the real region's administrator")
	flags.IntVar(&o.servers, "servers", 100_000, "servers of the part memory")
	flags.IntVar(&o.manySites, "sites", 10, "sites of the part memory")
	flags.StringVar(&o.program, "program", "", "the headwater program; built when empty")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder with databases and logs, and print its name")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return exit(run(ctx, o, stdout, stderr), stderr)
}

func exit(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "bench: %v\n", err)
	return 1
}

// part is one group of figures.
type part struct {
	name string
	run  func(context.Context, *bench) error
	top  bool // needs the headwater program
}

// parts in the order in which they run: the first four share a Top.
func parts() []part {
	return []part{
		{"boots", measureBoots, true}, {"verbs", measureVerbs, true}, {"creates", measureCreates, true}, {"outage", measureOutage, true},
		{"reads", measureReads, true}, {"memory", measureMemory, true}, {"relay", measureRelay, true}, {"dataplane", measureDataplane, false},
	}
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	wanted := partNames()
	if o.only != "" {
		for name := range strings.SplitSeq(o.only, ",") {
			if !slices.Contains(wanted, name) {
				return fmt.Errorf("there is no part %q; the parts are %s", name, strings.Join(wanted, ", "))
			}
		}
		wanted = strings.Split(o.only, ",")
	}
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	if slices.ContainsFunc(parts(), func(p part) bool { return p.top && slices.Contains(wanted, p.name) }) {
		if err := b.build(ctx); err != nil {
			return err
		}
	}
	var failed []error
	for _, p := range parts() {
		if !slices.Contains(wanted, p.name) || ctx.Err() != nil {
			continue
		}
		b.say("%s ...", p.name)
		if err := p.run(ctx, b); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
			b.note("%s was not measured to its end: %v", p.name, err)
		}
	}
	return errors.Join(append(failed, b.report.print(stdout, o.json), ctx.Err())...)
}
