package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/cmd/internal/pathtrace"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

func (v *viewer) traceCommand() *cobra.Command {
	var flags pathtrace.Flags
	var peers map[string]string
	c := &cobra.Command{Use: "trace PORT ADDRESS", Short: "Where a packet goes that a port of this host sends, why, and whether it does", Args: argsOf(cobra.ExactArgs(2)),
		Long: pathtrace.Long + "\n\nOf other hosts only what is sent to them is known, unless --peer says where the sockets of their agents are; ssh -L can bring one here:\n" +
			"ssh -nNT -L /run/h2.sock:/run/headwater-agent/agent.sock root@h2. Where relays are, headwater relay trace asks all hosts.",
		Example: "  headwater-agent trace 5f1c... 10.0.1.12 --proto tcp --dst-port 443 --peer h2=/run/h2.sock",
		RunE: func(c *cobra.Command, args []string) error {
			q, err := flags.Question(args[0], args[1])
			if err != nil {
				return err
			}
			ask := agent.PathQuestion{Question: q, Peers: map[string]string{}}
			for host, socket := range peers {
				if ask.Peers[host], err = filepath.Abs(socket); err != nil { // the agent dials it
					return run.Usage(err)
				}
			}
			raw, err := json.Marshal(ask)
			if err != nil {
				return err
			}
			var got trace.Report
			if err := v.do(c.Context(), http.MethodPost, "/v1/trace", nil, raw, &got); err != nil {
				return err
			}
			return flags.Print(v.out, &got)
		}}
	flags.Add(c.Flags())
	c.Flags().StringToStringVar(&peers, "peer", nil, "the socket of another host's agent, HOST=PATH; may be repeated")
	return v.flag(c)
}
