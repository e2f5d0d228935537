package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/headwater-cloud/headwater/agents/agent"
	"github.com/headwater-cloud/headwater/agents/members"
	"github.com/headwater-cloud/headwater/cmd/internal/run"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// gossipFlags say how the host takes part in the pool of its site.
type gossipFlags struct {
	bind      string
	advertise string
	seeds     []string
	keys      string
}

func (f *gossipFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.bind, "gossip", "", "ADDRESS or ADDRESS:PORT (UDP and TCP; 7946) that the site's hosts tell each other at who is alive; without it no gateway is taken for dead")
	flags.StringVar(&f.advertise, "gossip-advertise", "", "where the others reach it, if that is another address")
	flags.StringArrayVar(&f.seeds, "gossip-seed", nil, "a host of the site to join by, NAME or ADDRESS, with :PORT if it is another; may be repeated")
	flags.StringVar(&f.keys, "gossip-keys", "", "the file with the keys that the site's hosts share, base64 of 32 bytes in each line; the first encrypts; read again when it changes")
}

// into makes the flags a part of the agent's configuration.
func (f *gossipFlags) into(cfg *agent.Config, site string) error {
	if f.bind == "" {
		if f.advertise != "" || len(f.seeds) > 0 || f.keys != "" {
			return run.Usagef("--gossip ADDRESS is missing: what the other gossip flags say is for it")
		}
		return nil
	}
	if site == "" || f.keys == "" {
		return run.Usagef("--gossip needs --site, whose hosts the pool is, and --gossip-keys FILE")
	}
	m := members.Default(members.Site)
	m.Site, m.Seeds = ident.SiteID(site), f.seeds
	m.Meta.Agent = run.Version()
	var err error
	if m.Bind, err = addrPort(f.bind); err != nil {
		return fmt.Errorf("--gossip: %w", err)
	}
	if f.advertise != "" {
		if m.Advertise, err = addrPort(f.advertise); err != nil {
			return fmt.Errorf("--gossip-advertise: %w", err)
		}
	}
	cfg.Members, cfg.MembersKeyFile = &m, f.keys
	return nil
}

// addrPort reads an address, with a port or without.
func addrPort(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, members.SitePort), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("%q is no address, with a port or without, such as 192.0.2.1 or [2001:db8::1]:%s", s, strconv.Itoa(members.SitePort))
	}
	return a, nil
}
