package hosts

import (
	"errors"
	"fmt"
	"net/netip"
)

// underlay is an address of a site's underlay: .1 the router between sites, .2 the site's node, .10 and up its hosts.
func underlay(site, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 31, byte(site), byte(host)})
}

// underlayV6 is the same over IPv6. Hosts of one site reach each other there; no router between sites speaks it.
func underlayV6(site, host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0x31, 5: byte(site), 15: byte(host)})
}

// makeUnderlay makes a node with a bridge for each site, and a router where there are several.
func (b *Bed) makeUnderlay() error {
	var wan *Node
	if b.cfg.Sites > 1 {
		settings := noIPv6()
		settings["ipv4/ip_forward"] = "1"
		var err error
		if wan, err = b.newNode("wan", settings); err != nil {
			return err
		}
	}
	for i := range b.cfg.Sites {
		site, err := b.makeSite(i + 1)
		if err != nil {
			return err
		}
		b.sites = append(b.sites, site)
		if wan == nil {
			continue
		}
		router := underlay(i+1, 1)
		if err := errors.Join(
			ipBatch("", fmt.Sprintf("link add w%[1]d mtu %[2]d netns %[3]s type veth peer name wan0 mtu %[2]d netns %[4]s", i+1, b.cfg.UnderlayMTU, wan.ns, site.ns)),
			site.ip("link set wan0 master br-ul up", "route add default via "+router.String()),
			wan.ip(fmt.Sprintf("addr add %s/24 dev w%d", router, i+1), fmt.Sprintf("link set w%d up", i+1))); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bed) makeSite(n int) (*Node, error) {
	site, err := b.newNode(fmt.Sprintf("s%d", n), noIPv6())
	if err != nil {
		return nil, err
	}
	err = site.ip(fmt.Sprintf("link add br-ul address %s mtu %d type bridge forward_delay 0 stp_state 0", MACOf(site.Name), b.cfg.UnderlayMTU),
		fmt.Sprintf("addr add %s/24 dev br-ul", b.SiteAddr(n)), "link set br-ul up")
	if err != nil {
		return nil, err
	}
	// The machine's own packet filter has no say in a bridge of ours. A kernel without it has no such setting.
	_ = site.set(map[string]string{"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0", "bridge/bridge-nf-call-arptables": "0"})
	// What runs in the site's node reaches the hosts' switches over this device.
	_, err = site.Exec(b.ctx, "ethtool", "-K", "br-ul", "tx", "off")
	return site, err
}

// connect joins the hosts to their sites, and to what is outside.
func (b *Bed) connect() error {
	var links []string
	master := make([][]string, len(b.sites))
	for _, h := range b.hosts {
		site := b.sites[h.Site-1]
		links = append(links, fmt.Sprintf("link add ul0 mtu %[1]d netns %[2]s type veth peer name %[3]s mtu %[1]d netns %[4]s",
			b.cfg.UnderlayMTU, h.ns, h.Name, site.ns))
		master[h.Site-1] = append(master[h.Site-1], fmt.Sprintf("link set %s master br-ul up", h.Name))
		if len(b.cfg.Outside) > 0 {
			links = append(links, fmt.Sprintf("link add ex0 netns %s type veth peer name %s netns %s", h.ns, h.Name, b.outside[h.Site-1].ns))
		}
	}
	if err := ipBatch("", links...); err != nil {
		return err
	}
	var errs []error
	for i, site := range b.sites {
		errs = append(errs, site.ip(master[i]...))
	}
	for _, h := range b.hosts {
		commands := []string{"link set ul0 up"}
		if len(b.cfg.Outside) > 0 {
			commands = append(commands, "link set ex0 up")
		}
		errs = append(errs, h.ip(commands...))
	}
	return errors.Join(errs...)
}
