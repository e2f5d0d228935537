package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
)

// errDisagree ends a path on which the switch would not do what the desired state says.
var errDisagree = errors.New("the switch would not do what the desired state says: a defect, or the switch was changed by somebody else; see headwater-agent diff")

// protocolNumber is the number of a protocol, "" for an echo request of whatever family the address is.
func protocolNumber(name string) (string, error) {
	switch name {
	case "", "icmp":
		return "", nil
	case "tcp":
		return "6", nil
	case "udp":
		return "17", nil
	case "sctp":
		return "132", nil
	}
	if _, err := strconv.ParseUint(name, 10, 8); err != nil {
		return "", run.Usagef("--proto %s: want icmp, tcp, udp, sctp or a number", name)
	}
	return name, nil
}

func (v *viewer) pathCommand() *cobra.Command {
	var proto, from string
	var srcPort, dstPort, length uint16
	var ttl uint8
	var established, asJSON bool
	c := &cobra.Command{Use: "path PORT ADDRESS", Short: "Where a packet goes that a port sends, and why", Args: argsOf(cobra.ExactArgs(2)),
		Long: "Follows a packet from a port of this host to an address: what the desired state makes of it on every host of its way, with the rule, route, translation or\n" +
			"binding that decides each step; and what this host's switch would do with it. Without --proto it is a ping.",
		Example: "  headwater-agent path 5f1c... 10.0.1.12 --proto tcp --dst-port 443",
		RunE: func(c *cobra.Command, args []string) error {
			n, err := protocolNumber(proto)
			if err != nil {
				return err
			}
			query := url.Values{"port": {args[0]}, "to": {args[1]}, "proto": {n}, "from": {from}, "src_port": {strconv.Itoa(int(srcPort))}, "dst_port": {strconv.Itoa(int(dstPort))},
				"length": {strconv.Itoa(int(length))}, "ttl": {strconv.Itoa(int(ttl))}, "established": {strconv.FormatBool(established)}}
			var got agent.Path
			if err := v.do(c.Context(), http.MethodPost, "/v1/path", query, nil, &got); err != nil {
				return err
			}
			return v.printPath(got, asJSON)
		}}
	f := c.Flags()
	f.StringVar(&proto, "proto", "", "icmp, tcp, udp, sctp or a number")
	f.StringVar(&from, "from", "", "source address (the port's first of the family)")
	f.Uint16Var(&srcPort, "src-port", 40000, "source port")
	f.Uint16Var(&dstPort, "dst-port", 0, "destination port")
	f.Uint8Var(&ttl, "ttl", 64, "time to live, or hop limit")
	f.Uint16Var(&length, "length", 0, "bytes of the IP packet")
	f.BoolVar(&established, "established", false, "of a connection that was allowed before")
	f.BoolVar(&asJSON, "json", false, "for programs")
	return v.flag(c)
}

func (v *viewer) printPath(got agent.Path, asJSON bool) error {
	if asJSON {
		if err := v.printJSON(got); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(v.out, "%s\n%s", got.Packet, got.Simulated)
		if got.Agree {
			fmt.Fprintln(v.out, "this host's switch would do the same")
		} else {
			fmt.Fprintf(v.out, "\nthis host's switch would do something else:\n%s", got.Checked)
		}
	}
	if !got.Agree {
		return errDisagree
	}
	return nil
}
