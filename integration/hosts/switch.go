package hosts

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Switch is the Open vSwitch of a node: an ovsdb-server and an ovs-vswitchd.
type Switch struct {
	Dir string // OVS_RUNDIR: sockets, the database, logs

	node     *Node
	args     []string // of ovs-vswitchd
	db, vswd *Process
	starts   int // of ovs-vswitchd
}

func (b *Bed) newSwitch(n *Node) (Switch, error) {
	dir := filepath.Join(b.Dir, n.Name)
	n.env = []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_SYSCONFDIR=" + dir, "OVN_RUNDIR=" + dir, "OVN_LOGDIR=" + dir}
	return Switch{Dir: dir, node: n, args: b.cfg.SwitchArgs}, os.Mkdir(dir, 0o755)
}

// boot makes the database, starts both daemons and sets columns of the row in Open_vSwitch.
func (s *Switch) boot(externalIDs map[string]string) error {
	ctx := s.node.bed.ctx
	if _, err := s.node.Exec(ctx, "ovsdb-tool", "create", s.path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return err
	}
	if err := s.startDB(); err != nil {
		return err
	}
	args := []string{"--no-wait", "init"}
	if set := append(columns("external_ids", externalIDs), columns("other_config", s.node.bed.cfg.OtherConfig)...); len(set) > 0 {
		args = append(append(args, "--", "set", "Open_vSwitch", "."), set...)
	}
	if _, err := s.vsctl(ctx, args...); err != nil {
		return err
	}
	return s.startSwitch()
}

func columns(column string, values map[string]string) []string {
	var args []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		args = append(args, fmt.Sprintf("%s:%s=%s", column, key, strconv.Quote(values[key])))
	}
	return args
}

func (s *Switch) startDB() (err error) {
	s.db, err = s.node.Start(s.path("ovsdb-server.out"), "ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.path("db.sock"),
		"--remote=db:Open_vSwitch,Open_vSwitch,manager_options", "--unixctl="+s.path("ovsdb-server.ctl"), "--log-file="+s.path("ovsdb-server.log"),
		"--pidfile="+s.path("ovsdb-server.pid"), "--no-chdir", "-vconsole:off", "-vsyslog:off")
	if err != nil {
		return err
	}
	return s.db.Listens(s.node.bed.ctx, s.path("db.sock"))
}

// startSwitch starts ovs-vswitchd and waits until it has brought about what the database asks for.
func (s *Switch) startSwitch() (err error) {
	args := append([]string{s.OVSDB()}, s.args...)
	s.vswd, err = s.node.Start(s.path("ovs-vswitchd.out"), "ovs-vswitchd", append(args, "--unixctl="+s.path("ovs-vswitchd.ctl"),
		"--log-file="+s.path("ovs-vswitchd.log"), "--pidfile="+s.path("ovs-vswitchd.pid"), "--no-chdir", "-vconsole:off", "-vsyslog:off")...)
	if err != nil {
		return err
	}
	if err := s.vswd.Listens(s.node.bed.ctx, s.path("ovs-vswitchd.ctl")); err != nil {
		return err
	}
	// The daemon answers before it has read the database: a change of the database that it has taken in says when it has.
	s.starts++
	_, err = s.vsctl(s.node.bed.ctx, "set", "Open_vSwitch", ".", fmt.Sprintf("external_ids:switch-starts=%d", s.starts))
	return err
}

func (s *Switch) path(name string) string { return filepath.Join(s.Dir, name) }

// OVSDB is the database's endpoint, in the words of ovsdb(7), reachable from every namespace.
func (s *Switch) OVSDB() string { return "unix:" + s.path("db.sock") }

// Mgmt is the path of a bridge's OpenFlow socket, reachable from every namespace.
func (s *Switch) Mgmt(bridge string) string { return s.path(bridge + ".mgmt") }

// SwitchPID is the process of ovs-vswitchd.
func (s *Switch) SwitchPID() int { return s.vswd.PID }

// KillSwitch ends ovs-vswitchd as a crash would: its flows and connections are gone, its devices stay.
func (s *Switch) KillSwitch() { s.vswd.Kill() }

// StartSwitch starts ovs-vswitchd again, and returns when ports and bridges are there.
func (s *Switch) StartSwitch() {
	s.node.bed.t.Helper()
	s.must(s.startSwitch())
}

// RestartSwitch ends ovs-vswitchd as an operator does, and starts it again.
func (s *Switch) RestartSwitch() {
	s.node.bed.t.Helper()
	s.Appctl("exit")
	<-s.vswd.Done
	s.StartSwitch()
}

// RestartDB ends ovsdb-server as a crash would, and starts it again.
func (s *Switch) RestartDB() {
	s.node.bed.t.Helper()
	s.db.Kill()
	s.must(s.startDB())
}

func (s *Switch) must(err error) {
	if err != nil {
		s.node.bed.t.Helper()
		s.node.bed.t.Fatalf("%s: %v", s.node.Name, err)
	}
}

func (s *Switch) vsctl(ctx context.Context, args ...string) (string, error) {
	out, err := s.node.Exec(ctx, "ovs-vsctl", append([]string{"--db=" + s.OVSDB(), "--no-syslog", "--timeout=120"}, args...)...)
	return strings.TrimSpace(out), err
}

// Vsctl runs ovs-vsctl, which returns when ovs-vswitchd has done it.
func (s *Switch) Vsctl(args ...string) string {
	s.node.bed.t.Helper()
	out, err := s.vsctl(s.node.bed.ctx, args...)
	s.must(err)
	return out
}

// Appctl runs ovs-appctl on ovs-vswitchd.
func (s *Switch) Appctl(args ...string) string {
	s.node.bed.t.Helper()
	out, err := s.node.Exec(s.node.bed.ctx, "ovs-appctl", append([]string{"--timeout=60", "-t", s.path("ovs-vswitchd.ctl")}, args...)...)
	s.must(err)
	return out
}

// Ofctl runs ovs-ofctl with OpenFlow 1.3.
func (s *Switch) Ofctl(args ...string) string {
	s.node.bed.t.Helper()
	out, err := s.node.Exec(s.node.bed.ctx, "ovs-ofctl", append([]string{"-O", "OpenFlow13", "--timeout=60"}, args...)...)
	s.must(err)
	return out
}

// AddFlows adds flows, written as ovs-ofctl(8) reads them, to a bridge, all or none.
func (s *Switch) AddFlows(bridge string, flows ...string) {
	s.node.bed.t.Helper()
	cmd := s.node.Command(s.node.bed.ctx, "ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", bridge, "-")
	cmd.Stdin = strings.NewReader(strings.Join(flows, "\n") + "\n")
	_, err := output(cmd)
	s.must(err)
}

// DumpFlows are the flows of a bridge as ovs-ofctl(8) shows them, without counters, in the switch's order.
func (s *Switch) DumpFlows(bridge string) []string {
	s.node.bed.t.Helper()
	var flows []string
	for line := range strings.Lines(s.Ofctl("--no-stats", "--no-names", "dump-flows", bridge)) {
		flows = append(flows, strings.TrimSpace(line))
	}
	return flows
}

// FlowCount is how many flows a bridge has.
func (s *Switch) FlowCount(bridge string) int {
	s.node.bed.t.Helper()
	out := s.Ofctl("dump-aggregate", bridge)
	_, count, _ := strings.Cut(out, "flow_count=")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	s.must(err)
	return n
}

// Trace is what the switch says it would do with a packet: ofproto/trace of ovs-vswitchd(8), with the flow and
// options that stand there.
func (s *Switch) Trace(bridge, flow string, options ...string) string {
	s.node.bed.t.Helper()
	return s.Appctl(append([]string{"ofproto/trace", bridge, flow}, options...)...)
}

// OFPort is the OpenFlow port number of an interface that the switch has.
func (s *Switch) OFPort(name string) int {
	s.node.bed.t.Helper()
	n, err := strconv.Atoi(s.Vsctl("get", "Interface", name, "ofport"))
	s.must(err)
	return n
}

// warnings are the last lines of the log of ovs-vswitchd that warn or worse.
func (s *Switch) warnings(n int) string {
	f, err := os.Open(s.path("ovs-vswitchd.log"))
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	var bad []string
	for in := bufio.NewScanner(f); in.Scan(); {
		if line := in.Text(); strings.Contains(line, "|WARN|") || strings.Contains(line, "|ERR|") || strings.Contains(line, "|EMER|") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad[max(0, len(bad)-n):], "\n")
}
