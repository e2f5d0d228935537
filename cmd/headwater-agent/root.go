package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// process is the whole program.
func process(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	root := rootCommand(getenv, stdout)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") { // cobra has no type for it
		return run.Usage(err)
	}
	return err
}

// rootCommand is the tree of commands.
func rootCommand(_ func(string) string, stdout io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "headwater-agent",
		Short: "The agent of a host: tenants' networks on Open vSwitch",
		Long: "headwater-agent run makes the host's Open vSwitch carry out the desired state of a server or of a file. The other commands ask a running\n" +
			"agent through the socket in its run directory.",
		Version:       run.Version(),
		SilenceErrors: true, // run.Main prints the error
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(io.Discard) // cobra's own notes; errors are returned
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return run.Usage(err) })
	v := &viewer{out: stdout}
	root.AddCommand(runCommand(os.Stderr), v.statusCommand(), v.stateCommand(), v.flowsCommand(), v.diffCommand(), v.planCommand(), v.traceCommand(), v.ofprotoCommand(),
		v.waitCommand(), v.reissueCommand(), v.debugCommand(), v.metricsCommand())
	return root
}

// argsOf makes a wrong number of arguments a usage error.
func argsOf(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return run.Usage(fmt.Errorf("%s: %w (usage: %s)", c.CommandPath(), err, c.UseLine()))
		}
		return nil
	}
}
