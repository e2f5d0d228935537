package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/headwater-cloud/headwater/agents/ovstest"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// OVN is Open Virtual Network with geneve: its databases and ovn-northd at the site's node, ovn-controller on each host.
type OVN struct {
	version string
	bed     *hosts.Bed
	dir     string
	dhcp    string // of its row
	central []int
	agents  []int // by host
}

// NewOVN finds the machine's OVN.
func NewOVN(ctx context.Context) (*OVN, error) {
	for _, p := range []string{"ovn-northd", "ovn-controller", "ovn-nbctl"} {
		if _, err := ovstest.Program(p); err != nil {
			return nil, fmt.Errorf("%w: install ovn-central and ovn-host", err)
		}
	}
	out, err := exec.CommandContext(ctx, "ovn-nbctl", "--version").Output()
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(out)) // "ovn-nbctl 23.03.1 ..."
	if len(fields) < 2 {
		return nil, fmt.Errorf("ovn-nbctl has no version: %q", out)
	}
	return &OVN{version: fields[1]}, nil
}

// Name has the version.
func (o *OVN) Name() string { return "OVN " + o.version }

// MTU leaves room for what geneve takes with OVN's option.
func (o *OVN) MTU() int { return 1500 - 58 }

// Up starts OVN.
func (o *OVN) Up(ctx context.Context, bed *hosts.Bed) error {
	o.bed, o.dir = bed, filepath.Join(bed.Dir, "ovn")
	if err := os.Mkdir(o.dir, 0o755); err != nil {
		return err
	}
	if err := o.startCentral(ctx); err != nil {
		return err
	}
	for _, h := range bed.Hosts() {
		h.Vsctl("set", "Open_vSwitch", ".", fmt.Sprintf("external_ids:ovn-remote=tcp:%s:6642", bed.SiteAddr(1)), "external_ids:ovn-encap-type=geneve",
			"external_ids:ovn-encap-ip="+h.UnderlayIP.String(), "external_ids:ovn-bridge-datapath-type=netdev", "external_ids:ovn-monitor-all=false")
		p, err := h.Start(filepath.Join(h.Dir, "ovn-controller.out"), "ovn-controller", h.OVSDB(), "-vconsole:off", "-vsyslog:off", "--log-file="+filepath.Join(h.Dir, "ovn-controller.log"))
		if err != nil {
			return err
		}
		o.agents = append(o.agents, p.PID)
	}
	if err := o.chassis(ctx); err != nil {
		return err
	}
	return o.network(ctx)
}

func (o *OVN) startCentral(ctx context.Context) error {
	site := o.bed.Site(1)
	for _, db := range []struct{ name, schema, port, ctl string }{{"nb", "ovn-nb", "6641", "ovn-nbctl"}, {"sb", "ovn-sb", "6642", "ovn-sbctl"}} {
		file := o.path(db.name + ".db")
		if _, err := site.Exec(ctx, "ovsdb-tool", "create", file, "/usr/share/ovn/"+db.schema+".ovsschema"); err != nil {
			return err
		}
		if err := o.start(ctx, "ovsdb-"+db.name, "ovsdb-server", db.name+".sock", file, "--remote=punix:"+o.path(db.name+".sock"), "--remote=ptcp:"+db.port+":0.0.0.0"); err != nil {
			return err
		}
		if _, err := site.Exec(ctx, db.ctl, "--db=unix:"+o.path(db.name+".sock"), "--timeout=30", "init"); err != nil {
			return err
		}
	}
	if err := o.start(ctx, "ovn-northd", "ovn-northd", "ovn-northd.ctl", "--ovnnb-db=unix:"+o.path("nb.sock"), "--ovnsb-db=unix:"+o.path("sb.sock")); err != nil {
		return err
	}
	// The daemon mode of ovn-nbctl keeps the database's contents between calls, as an API server would. It
	// says that it is ready by leaving the foreground.
	_, err := site.Exec(ctx, "ovn-nbctl", "--db=unix:"+o.path("nb.sock"), "--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off",
		"--pidfile="+o.path("nbctl.pid"), "--unixctl="+o.path("nbctl.ctl"), "--log-file="+o.path("nbctl.log"))
	return err
}

// start starts a part of OVN at the site's node, and waits until it listens at a socket.
func (o *OVN) start(ctx context.Context, name, program, socket string, args ...string) error {
	p, err := o.bed.Site(1).Start(o.path(name+".out"), program, append(args, "-vconsole:off", "-vsyslog:off", "--unixctl="+o.path(name+".ctl"),
		"--log-file="+o.path(name+".log"))...)
	if err != nil {
		return err
	}
	o.central = append(o.central, p.PID)
	return p.Listens(ctx, o.path(socket))
}

func (o *OVN) path(name string) string { return filepath.Join(o.dir, name) }

// chassis waits until the hosts are known.
func (o *OVN) chassis(ctx context.Context) error {
	for _, h := range o.bed.Hosts() {
		if _, err := o.bed.Site(1).Exec(ctx, "ovn-sbctl", "--db=unix:"+o.path("sb.sock"), "--timeout=60", "wait-until", "Chassis", h.Name, "name="+h.Name); err != nil {
			return err
		}
	}
	return o.Sync(ctx)
}

// nb runs ovn-nbctl through its daemon.
func (o *OVN) nb(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ovn-nbctl", args...)
	cmd.Env = append(os.Environ(), "OVN_NB_DAEMON="+o.path("nbctl.ctl"))
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return "", fmt.Errorf("ovn-nbctl %.200s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// network makes the switch, the router that is its gateway, the group, and what DHCP says.
func (o *OVN) network(ctx context.Context) error {
	const gateway = "02:00:00:00:00:01"
	if _, err := o.nb(ctx, "ls-add", "net0", "--", "lr-add", "r0", "--", "lrp-add", "r0", "r0-net0", gateway, "10.128.0.1/16",
		"--", "lsp-add", "net0", "net0-r0", "--", "lsp-set-type", "net0-r0", "router", "--", "lsp-set-addresses", "net0-r0", "router",
		"--", "lsp-set-options", "net0-r0", "router-port=r0-net0", "--", "pg-add", "sg"); err != nil {
		return err
	}
	var err error
	o.dhcp, err = o.nb(ctx, "create", "DHCP_Options", "cidr=10.128.0.0/16", fmt.Sprintf(
		`options="server_id"="10.128.0.1" "server_mac"=%q "lease_time"="3600" "router"="10.128.0.1" "mtu"="%d" "dns_server"="{10.128.0.1}"`, gateway, o.MTU()))
	return err
}

// AddPorts makes logical ports with port security, DHCP and the group.
func (o *OVN) AddPorts(ctx context.Context, ports ...Port) error {
	var args []string
	for i, p := range ports {
		address, row := fmt.Sprintf("%s %s", p.MAC, p.IP), fmt.Sprintf("@p%d", i)
		args = append(args, "--", "lsp-add", "net0", p.IfaceID, "--", "lsp-set-addresses", p.IfaceID, address, "--", "lsp-set-port-security", p.IfaceID, address,
			"--", "lsp-set-dhcpv4-options", p.IfaceID, o.dhcp, "--", "--id="+row, "get", "Logical_Switch_Port", p.IfaceID, "--", "add", "Port_Group", "sg", "ports", row)
	}
	_, err := o.nb(ctx, args[1:]...)
	return err
}

// DelPorts removes logical ports.
func (o *OVN) DelPorts(ctx context.Context, ports ...Port) error {
	var args []string
	for _, p := range ports {
		args = append(args, "--", "lsp-del", p.IfaceID)
	}
	_, err := o.nb(ctx, args[1:]...)
	return err
}

// AwaitPorts watches for ovn-installed.
func (o *OVN) AwaitPorts(ctx context.Context, h *hosts.Host, ports []Port) error {
	return awaitInterfaces(ctx, h, ports, "ovn-installed")
}

// wait makes a command of ovn-nbctl return when all hosts have what it asks for.
func wait() []string { return []string{"--timeout=600", "--wait=hv"} }

// Sync waits for all hosts.
func (o *OVN) Sync(ctx context.Context) error {
	_, err := o.nb(ctx, append(wait(), "sync")...)
	return err
}

// Group makes ACLs.
func (o *OVN) Group(ctx context.Context) error {
	_, err := o.nb(ctx, append(wait(), "acl-add", "sg", "to-lport", "1001", "outport == @sg && ip", "drop",
		"--", "acl-add", "sg", "to-lport", "1002", "outport == @sg && icmp4", "allow-related",
		"--", "acl-add", "sg", "from-lport", "1002", "inport == @sg && ip4", "allow-related")...)
	return err
}

func match(n int) string {
	return fmt.Sprintf("outport == @sg && ip4 && ip4.src == 10.%d.0.0/16 && tcp.dst == %d", n, 8000+n)
}

// AddRule makes an ACL.
func (o *OVN) AddRule(ctx context.Context, n int) error {
	_, err := o.nb(ctx, append(wait(), "acl-add", "sg", "to-lport", "1002", match(n), "allow-related")...)
	return err
}

// DelRule removes an ACL.
func (o *OVN) DelRule(ctx context.Context, n int) error {
	_, err := o.nb(ctx, append(wait(), "acl-del", "sg", "to-lport", "1002", match(n))...)
	return err
}

// AddRemoteRule makes an ACL with the group's address set.
func (o *OVN) AddRemoteRule(ctx context.Context) error {
	_, err := o.nb(ctx, append(wait(), "acl-add", "sg", "to-lport", "1003", "outport == @sg && ip4 && ip4.src == $sg_ip4", "allow-related")...)
	return err
}

// Processes are ovn-controller at both hosts; both databases and ovn-northd.
func (o *OVN) Processes() map[Role][]int {
	return map[Role][]int{Agent: o.agents[:1], PeerAgent: o.agents[1:2], Central: o.central}
}

// Down has nothing to do: all of OVN is in the bed.
func (o *OVN) Down() {}
