package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/cmd/internal/client"
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

// rootCommand is the tree of commands. Each program part has a file of its own.
func rootCommand(getenv func(string) string, stdout io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "headwater",
		Short: "One OpenStack endpoint for many clouds",
		Long: "headwater top runs the service. The other commands are the operator's: they reach a running Top through its API\n" +
			"(/v1) with the account of a clouds.yaml entry, headwater-admin unless --cloud or HEADWATER_CLOUD names another:\n\n" + operatorEntry +
			"\nheadwater top --help says where the first password is. Then: headwater site add NAME --os-cloud CLOUD.",
		Version:       run.Version(),
		SilenceErrors: true, // run.Main prints the error
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(io.Discard) // cobra's own notes; errors are returned
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return run.Usage(err) })
	op := &operator{getenv: getenv, out: stdout}
	root.AddCommand(topCommand(getenv, os.Stderr), relayCommand(os.Stderr), demoCommand(os.Stderr),
		op.siteCommand(), op.jobCommand(), op.auditCommand(), op.dbCommand())
	return root
}

// operatorEntry is the part of clouds.yaml that the operator's commands need.
const operatorEntry = `  clouds:
    headwater-admin:
      auth: {auth_url: "http://127.0.0.1:8780/identity/v3", username: admin, password: SECRET, project_name: admin,
             user_domain_id: default, project_domain_id: default}
      region_name: Global
`

// operator is what the operator's commands share.
type operator struct {
	getenv func(string) string
	out    io.Writer

	cloud, url string // the flags
}

// group is a command that has only subcommands; the flags that name Top are theirs.
func (o *operator) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return run.Usagef("%s needs a command: %s", c.CommandPath(), strings.Join(names(c), ", "))
	}}
	c.PersistentFlags().StringVar(&o.cloud, "cloud", "", "the clouds.yaml entry of Top's operator (HEADWATER_CLOUD; headwater-admin)")
	c.PersistentFlags().StringVar(&o.url, "url", "", "where Top is, when the entry's auth_url does not tell (HEADWATER_URL)")
	c.AddCommand(subs...)
	return c
}

func names(c *cobra.Command) []string {
	var list []string
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			list = append(list, sub.Name())
		}
	}
	return list
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

// client returns a client of the Top that flags and environment name.
func (o *operator) client() (*client.Client, error) {
	cloud, err := client.Finder{Getenv: o.getenv}.Cloud(cmp.Or(o.cloud, o.getenv("HEADWATER_CLOUD"), "headwater-admin"))
	if err != nil {
		return nil, run.Usage(fmt.Errorf("the operator of Top: %w; headwater --help shows the entry", err))
	}
	c, err := client.New(cloud, cmp.Or(o.url, o.getenv("HEADWATER_URL")))
	return c, run.Usage(err)
}
