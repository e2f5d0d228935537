package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/cmd/internal/table"
)

// errDiffers ends a command that found a difference with status 1, as diff(1) does.
var errDiffers = errors.New("the switch differs")

// printJSON prints what the agent said, for programs.
func (v *viewer) printJSON(what any) error {
	e := json.NewEncoder(v.out)
	e.SetIndent("", "  ")
	return e.Encode(what)
}

func (v *viewer) statusCommand() *cobra.Command {
	var out table.Output
	c := &cobra.Command{Use: "status", Short: "What the agent does", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		var s agent.Status
		if err := v.get(c.Context(), "/v1/status", nil, &s); err != nil {
			return err
		}
		return v.printStatus(&out, s)
	}}
	out.Flags(c.Flags())
	return v.flag(c)
}

func (v *viewer) printStatus(out *table.Output, s agent.Status) error {
	var ports []struct {
		Port    string `json:"port"`
		Plugged bool   `json:"plugged"`
		Ready   bool   `json:"ready"`
		Error   string `json:"error"`
	}
	var alarms []struct {
		Code   string `json:"code"`
		Object string `json:"object"`
		Text   string `json:"text"`
	}
	if err := errors.Join(json.Unmarshal(s.Ports, &ports), json.Unmarshal(s.Alarms, &alarms)); err != nil {
		return err
	}
	ready := 0
	var wrong []string
	for _, p := range ports {
		if p.Ready {
			ready++
		}
		if p.Error != "" {
			wrong = append(wrong, p.Port+": "+p.Error)
		}
	}
	standing := []string{}
	for _, a := range alarms {
		standing = append(standing, a.Code+" "+a.Object+": "+a.Text)
	}
	slices.Sort(standing)
	return out.Show(v.out, []table.Field{
		{Name: "Host", Value: s.Host}, {Name: "Bridge", Value: s.Bridge}, {Name: "Connected", Value: s.Connected},
		{Name: "Revision", Value: s.Revision}, {Name: "Applied Revision", Value: s.Applied}, {Name: "Epoch", Value: s.Epoch}, {Name: "Layout", Value: s.Layout},
		{Name: "Objects", Value: s.Objects}, {Name: "Flows", Value: s.Flows}, {Name: "Groups", Value: s.Groups}, {Name: "Meters", Value: s.Meters},
		{Name: "Ports", Value: len(ports)}, {Name: "Ready Ports", Value: ready}, {Name: "Port Errors", Value: wrong},
		{Name: "Foreign Changes", Value: s.ForeignChanges}, {Name: "Alarms", Value: standing},
	})
}

func (v *viewer) stateCommand() *cobra.Command {
	var out table.Output
	c := &cobra.Command{Use: "state [KIND [ID]]", Short: "The desired state as the agent has it, and what is plugged", Args: argsOf(cobra.MaximumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{}
			for i, a := range args {
				query.Set([]string{"kind", "id"}[i], a)
			}
			var objects []agent.Object
			if err := v.get(c.Context(), "/v1/state", query, &objects); err != nil {
				return err
			}
			if out.Format == table.JSON {
				return v.printJSON(objects)
			}
			rows := [][]any{}
			for _, o := range objects {
				rows = append(rows, []any{o.Kind, o.ID, string(o.Object)})
			}
			return out.List(v.out, []string{"Kind", "ID", "Object"}, rows)
		}}
	out.Flags(c.Flags())
	return v.flag(c)
}

func (v *viewer) flowsCommand() *cobra.Command {
	var tableName, port string
	var asJSON, groups bool
	c := &cobra.Command{Use: "flows", Short: "The switch's flows, in the words of ovs-ofctl, with names and what each is there for", Args: argsOf(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if groups {
				var list []string
				if err := v.get(c.Context(), "/v1/groups", nil, &list); err != nil {
					return err
				}
				if asJSON {
					return v.printJSON(list)
				}
				for _, g := range list {
					fmt.Fprintln(v.out, g)
				}
				return nil
			}
			var flows []agent.Flow
			if err := v.get(c.Context(), "/v1/flows", url.Values{"table": {tableName}, "port": {port}}, &flows); err != nil {
				return err
			}
			if asJSON {
				return v.printJSON(flows)
			}
			v.printFlows(flows, true)
			return nil
		}}
	c.Flags().StringVar(&tableName, "table", "", "only those of this table, by name or number")
	c.Flags().StringVar(&port, "port", "", "only those that are there for this port")
	c.Flags().BoolVar(&groups, "groups", false, "the groups instead")
	c.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return v.flag(c)
}

// printFlows prints a line for each flow, and before it what it is there for.
func (v *viewer) printFlows(flows []agent.Flow, counters bool) {
	about := ""
	for _, f := range flows {
		if now := f.Class + ": " + f.About; now != about {
			about = now
			fmt.Fprintf(v.out, "# %s\n", about)
		}
		line := f.Text
		if f.Change != "" {
			line = f.Change + " " + line
		}
		if counters {
			line = fmt.Sprintf("%s  # n_packets=%d", line, f.Packets)
		}
		fmt.Fprintln(v.out, line)
	}
}

func (v *viewer) printDifference(d agent.Difference, asJSON bool) error {
	if asJSON {
		if err := v.printJSON(d); err != nil {
			return err
		}
	} else {
		v.printFlows(d.Flows, false)
		for _, g := range d.Groups {
			fmt.Fprintln(v.out, g[:2]+"group "+g[2:])
		}
		for _, m := range d.Meters {
			fmt.Fprintln(v.out, m[:2]+"meter "+m[2:])
		}
		fmt.Fprintf(v.out, "# %d flows are the same\n", d.Same)
	}
	if len(d.Flows)+len(d.Groups)+len(d.Meters) > 0 {
		return run.Quiet(errDiffers)
	}
	return nil
}

func (v *viewer) diffCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "diff", Short: "How the switch differs from what it should be", Args: argsOf(cobra.NoArgs),
		Long: "Compares all flows, groups and meters of the switch with the agent's program: + is missing in the switch, - is too much there.\nThe status is 0 where all is the same, 1 where something differs.",
		RunE: func(c *cobra.Command, _ []string) error {
			var d agent.Difference
			if err := v.get(c.Context(), "/v1/diff", nil, &d); err != nil {
				return err
			}
			return v.printDifference(d, asJSON)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return v.flag(c)
}

func (v *viewer) planCommand() *cobra.Command {
	var asJSON bool
	var file string
	c := &cobra.Command{Use: "plan [--state FILE]", Short: "What another state, or this version of the program, would change in the switch", Args: argsOf(cobra.NoArgs),
		Long: "Changes nothing. With --state, the running agent compiles a state file, with what is plugged on its host, and compares that with the switch.\n" +
			"Without, this program compiles what the running agent works from: the program of another version says so what an upgrade would change.\n" +
			"The status is 0 where nothing would change, 1 where something would.",
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return v.upgrade(c.Context(), asJSON)
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				return run.Usage(err)
			}
			var d agent.Difference
			if err := v.do(c.Context(), http.MethodPost, "/v1/plan", url.Values{"name": {file}}, raw, &d); err != nil {
				return err
			}
			return v.printDifference(d, asJSON)
		}}
	c.Flags().StringVar(&file, "state", "", "a file with a desired state")
	c.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return v.flag(c)
}

func (v *viewer) upgrade(ctx context.Context, asJSON bool) error {
	var r agent.Running
	if err := v.get(ctx, "/v1/running", nil, &r); err != nil {
		return err
	}
	d, err := agent.Upgrade(ctx, r)
	if err != nil {
		return err
	}
	if d.NewLayout != 0 && !asJSON {
		fmt.Fprintf(v.out, "# the layout of the tables changes from %d to %d: all flows are exchanged in one bundle\n", d.Layout, d.NewLayout)
	}
	return v.printDifference(*d, asJSON)
}

func (v *viewer) ofprotoCommand() *cobra.Command {
	var options []string
	c := &cobra.Command{Use: "ofproto PORT FLOW", Short: "What the switch would do with a packet that a port sends, in its own words", Args: argsOf(cobra.ExactArgs(2)),
		Long:    "Has ovs-vswitchd trace a packet (ofproto/trace). FLOW is in the words of ovs-fields(7), without in_port.",
		Example: "  headwater-agent ofproto 5f1c... 'icmp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.11,nw_dst=10.0.0.12,nw_ttl=64'",
		RunE: func(c *cobra.Command, args []string) error {
			var got struct {
				Text string `json:"text"`
			}
			query := url.Values{"port": {args[0]}, "flow": {args[1]}, "option": options}
			if err := v.do(c.Context(), http.MethodPost, "/v1/ofproto", query, nil, &got); err != nil {
				return err
			}
			fmt.Fprint(v.out, got.Text)
			return nil
		}}
	c.Flags().StringArrayVar(&options, "option", nil, "an option of ofproto/trace, such as --ct-next; may be repeated")
	return v.flag(c)
}

func (v *viewer) waitCommand() *cobra.Command {
	var revision uint64
	var timeout time.Duration
	c := &cobra.Command{Use: "wait", Short: "Wait until the switch carries out a revision", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		var s agent.Status
		return v.get(c.Context(), "/v1/wait", url.Values{"revision": {strconv.FormatUint(revision, 10)}, "timeout": {timeout.String()}}, &s)
	}}
	c.Flags().Uint64Var(&revision, "revision", 1, "or a later one")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait at most; the status is then 1")
	return v.flag(c)
}

func (v *viewer) debugCommand() *cobra.Command {
	var profile string
	c := &cobra.Command{Use: "debug", Short: "How the agent works inside: counters, or with --profile one of Go's profiles", Args: argsOf(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if profile != "" {
				query := url.Values{}
				if profile == "goroutine" {
					query.Set("debug", "2")
				}
				return v.get(c.Context(), "/debug/pprof/"+profile, query, v.out)
			}
			var all map[string]any
			if err := v.get(c.Context(), "/v1/debug", nil, &all); err != nil {
				return err
			}
			return v.printJSON(all)
		}}
	c.Flags().StringVar(&profile, "profile", "", "goroutine, heap, profile (of the CPU, 30 s), trace ...: for go tool pprof, but for goroutine, which is text")
	return v.flag(c)
}

func (v *viewer) metricsCommand() *cobra.Command {
	return v.flag(&cobra.Command{Use: "metrics", Short: "The agent's metrics, in the form of Prometheus", Args: argsOf(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return v.get(c.Context(), "/metrics", nil, v.out)
	}})
}

func (v *viewer) reissueCommand() *cobra.Command {
	return v.flag(&cobra.Command{Use: "reissue", Short: "Send all flows to the switch again, without a gap", Args: argsOf(cobra.NoArgs),
		Long: "Sends the whole program in a new epoch and takes what is of the old one away, in one bundle: no packet meets a part of it. There is no need to; it is\n" +
			"for who wants to see that it does no harm.",
		RunE: func(c *cobra.Command, _ []string) error {
			var s agent.Status
			return v.do(c.Context(), http.MethodPost, "/v1/reissue", nil, nil, &s)
		}})
}
