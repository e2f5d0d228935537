package agent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/agents/apps"
	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/members"
	"github.com/headwater-cloud/headwater/agents/seclog"
)

// Config says which host this is and where its Open vSwitch is.
type Config struct {
	// Host is the host's id: what ports are bound to. It must be that of a host in the desired state, where tunnels are to be used.
	Host string
	// Bridge is the bridge that guests are plugged into. It is made when it is not there.
	Bridge string
	// DatapathType is the type of the bridge when it is made: "system" is the kernel's, "netdev" that of user space.
	DatapathType string
	// OVSDB is the endpoint of the switch's database: "unix:PATH" or "tcp:HOST:PORT".
	OVSDB string
	// OVSRunDir is where the bridge's OpenFlow socket is, and that of ovs-vswitchd's commands; "": the directory of the database's socket.
	OVSRunDir string
	// RunDir is where the agent's own socket is. It must not be open to other users: whoever reaches the socket steers the agent.
	RunDir string
	// StateDir is where the last known desired state is kept.
	StateDir string
	// BridgeMappings are the bridges that lead to physical networks, which must be there, by the networks' names.
	BridgeMappings map[string]string
	// TunnelAddress is the source of tunnelled packets; invalid: the host's own in the desired state, where it has one.
	TunnelAddress netip.Addr
	// PuntRate is how many packets of each port may go to the agent in a second; 0: no limit.
	PuntRate uint32
	// OpRate is how many packets that routers have for the agent (errors to answer, next hops to find) may go to it in a second: of those of each port, and of
	// each router's that no port of this host has sent; 0: no limit.
	OpRate uint32
	// NameRate is how many DNS questions of each port may pass by the agent in a second, where Names says so; 0: no limit. What is more is dropped.
	NameRate uint32
	// Names has the agent answer guests' DNS questions for names of ports, on networks that have a domain. All their questions pass by it then, and none is answered while
	// it is not there.
	Names bool
	// SecurityLog says where records of security group logs go.
	SecurityLog seclog.Config
	// LogRate is how many of them a second there may be of each set of security groups that local ports have, of what is accepted and as many of what is dropped, and
	// LogBurst how many at once; LogRate 0: there are no logs.
	LogRate, LogBurst uint32
	// PortConnections is how many connections each port may have in the host's connection tracker; 0: no limit. It bounds what one guest takes of what all share.
	PortConnections uint32
	// RouterConnections is the same for what each router translates on this host: its guests' connections to the outside, and those to their floating IPs.
	RouterConnections uint32
	// AuditInterval is how often all of the switch is compared with what it should be, beside being told of each change; 0: never.
	AuditInterval time.Duration
	// Metadata is the site's metadata service; without an upstream guests get no metadata.
	Metadata apps.MetadataConfig
	// Members is the pool of the site's hosts; nil: this host is in none, and takes nobody for dead. Of it, the agent fills in the host, what it announces, and the keys,
	// which are the lines of MembersKeyFile: the first encrypts. The file is read again when it changes.
	Members        *members.Config
	MembersKeyFile string
	// RestoreWait has a restarting ovs-vswitchd wait for the agent before it forwards anything: flows of the kernel's datapath go on meanwhile. While the
	// agent is dead, a restarted ovs-vswitchd then forwards nothing on any bridge.
	RestoreWait bool
}

// Default is the configuration of a host with one bridge and no physical networks; Host is missing.
func Default() Config {
	return Config{
		Bridge: "br-int", DatapathType: "system", OVSDB: "unix:/var/run/openvswitch/db.sock",
		RunDir: "/run/headwater-agent", StateDir: "/var/lib/headwater-agent",
		PuntRate: 100, OpRate: 100, NameRate: 500, SecurityLog: seclog.Default(), LogRate: 100, LogBurst: 25,
		PortConnections: 65_536, RouterConnections: 262_144, AuditInterval: time.Hour,
	}
}

var (
	bridgeForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,64}$`)
)

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(hostForm.MatchString(c.Host), "host %q: want 1 to 64 letters, digits and -_.:/", c.Host)
	want(bridgeForm.MatchString(c.Bridge), "bridge %q: want the name of a network device, of at most 15 letters, digits and -_.", c.Bridge)
	want(c.DatapathType == "system" || c.DatapathType == "netdev" || c.DatapathType == "dummy", "datapath type %q: want system or netdev", c.DatapathType)
	want(strings.HasPrefix(c.OVSDB, "unix:") || c.OVSRunDir != "", "the run directory of Open vSwitch is not given, and the database at %s does not tell it", c.OVSDB)
	want(c.RunDir != "", "no run directory")
	want(len(c.ControlSocket()) <= 107, "run directory %s: the path of a socket in it is longer than 107 bytes", c.RunDir)
	want(c.StateDir != "", "no state directory")
	want(c.LogRate == 0 || c.LogBurst > 0, "security log: %d a second, and none at once", c.LogRate)
	want(c.AuditInterval >= 0, "audit interval %s", c.AuditInterval)
	seen := map[string]string{}
	for _, network := range slices.Sorted(maps.Keys(c.BridgeMappings)) {
		bridge := c.BridgeMappings[network]
		want(hostForm.MatchString(network), "physical network %q: want 1 to 64 letters, digits and -_.:/", network)
		want(bridgeForm.MatchString(bridge) && bridge != c.Bridge, "physical network %s: bridge %q: want the name of another bridge than %s", network, bridge, c.Bridge)
		want(seen[bridge] == "", "physical networks %s and %s: both are mapped to bridge %s", seen[bridge], network, bridge)
		seen[bridge] = network
	}
	return errors.Join(append(errs, c.Metadata.Validate(), c.SecurityLog.Validate())...)
}

// compiled is what the compiler must know of it.
func (c Config) compiled() flows.Config {
	return flows.Config{Host: c.Host, PuntRate: c.PuntRate, OpRate: c.OpRate, NameRate: c.NameRate, Names: c.Names, LogRate: c.LogRate, LogBurst: c.LogBurst}
}

// ControlSocket is the path of the agent's own socket.
func (c Config) ControlSocket() string { return filepath.Join(c.RunDir, "agent.sock") }

func (c Config) ovsRunDir() string {
	if c.OVSRunDir != "" {
		return c.OVSRunDir
	}
	return filepath.Dir(strings.TrimPrefix(c.OVSDB, "unix:"))
}

// lock names what keeps a second agent off the same bridge.
func (c Config) lock() string {
	return "headwater_agent_" + strings.Map(func(r rune) rune {
		if r == '-' || r == '.' {
			return '_'
		}
		return r
	}, c.Bridge)
}
