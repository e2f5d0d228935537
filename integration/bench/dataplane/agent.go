package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Headwater is our host agent on each host, fed with the desired state by a file.
type Headwater struct {
	program  string // headwater-agent
	bed      *hosts.Bed
	base     *api.State // all but ports, the group and its members
	ports    []*api.Port
	keys     map[string]uint32 // of ports
	sets     []*api.AddressSet
	rules    []*api.SecurityRule
	stateful bool
	revision uint64 // how often the file was written, which is how an agent counts
	agents   []watched
}

// watched is an agent at a host.
type watched struct {
	pid    int
	client *http.Client // of its own socket
}

// NewHeadwater measures a program.
func NewHeadwater(program string) *Headwater {
	return &Headwater{program: program, keys: map[string]uint32{}}
}

// Name is ours.
func (w *Headwater) Name() string { return "Headwater" }

// MTU leaves room for VXLAN.
func (w *Headwater) MTU() int { return 1500 - 50 }

// ids of the objects that there is one of.
const (
	network = "net0"
	subnet  = "subnet0"
	router  = "r0"
	group   = "sg"
)

// Up starts the agents, and tells them of the hosts and the network.
func (w *Headwater) Up(ctx context.Context, bed *hosts.Bed) error {
	w.bed = bed
	w.base = &api.State{
		Networks: []*api.Network{{Id: network, Key: 1, Mtu: uint32(w.MTU())}},
		Subnets:  []*api.Subnet{{Id: subnet, Network: network, Cidr: "10.128.0.0/16", Gateway: gatewayIP().String(), Dhcp: true, LeaseSeconds: 3600}},
		Routers: []*api.Router{{Id: router, Key: 2, Interfaces: []*api.RouterInterface{{Network: network, Mac: "02:00:00:00:00:01",
			Addresses: []string{netip.PrefixFrom(gatewayIP(), 16).String()}}}}},
	}
	for i, h := range bed.Hosts() {
		w.base.Hosts = append(w.base.Hosts, &api.Host{Id: h.Name, Key: uint32(1 + i), Site: "s1", TunnelEnds: []*api.TunnelEnd{{Address: h.UnderlayIP.String()}}})
	}
	// Until there is a stateful group, all may pass without connection tracking.
	for _, d := range []api.SecurityRule_Direction{api.SecurityRule_INGRESS, api.SecurityRule_EGRESS} {
		w.rules = append(w.rules, &api.SecurityRule{Id: "free-" + d.String(), Direction: d})
	}
	if err := w.write(); err != nil {
		return err
	}
	for _, h := range bed.Hosts() {
		if err := w.start(ctx, h); err != nil {
			return err
		}
	}
	return w.Sync(ctx)
}

func (w *Headwater) start(ctx context.Context, h *hosts.Host) error {
	dir := filepath.Join(h.Dir, "agent")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	p, err := h.Start(filepath.Join(h.Dir, "agent.out"), w.program, "run", "--state", w.file(), "--host", h.Name, "--datapath", "netdev",
		"--ovsdb", h.OVSDB(), "--run-dir", dir, "--state-dir", dir, "--punt-rate", "0")
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "agent.sock")
	w.agents = append(w.agents, watched{p.PID, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}})
	return p.Listens(ctx, socket)
}

func (w *Headwater) file() string { return filepath.Join(w.bed.Dir, "state.json") }

// change waits until the agents have carried out the file as it is, since one that they have not looked at would not be counted, and
// writes another.
func (w *Headwater) change(ctx context.Context) error {
	return errors.Join(w.Sync(ctx), w.write())
}

func (w *Headwater) write() error {
	raw, err := protojson.Marshal(&api.State{Hosts: w.base.Hosts, Networks: w.base.Networks, Subnets: w.base.Subnets, Routers: w.base.Routers, Ports: w.ports,
		AddressSets: w.sets, SecurityGroups: []*api.SecurityGroup{{Id: group, Stateless: !w.stateful, Rules: w.rules}}})
	if err != nil {
		return err
	}
	w.revision++
	return errors.Join(os.WriteFile(w.file()+".new", raw, 0o600), os.Rename(w.file()+".new", w.file()))
}

// AddPorts tells of ports, all at the first host but the one that the others ping.
func (w *Headwater) AddPorts(ctx context.Context, ports ...Port) error {
	for _, p := range ports {
		if w.keys[p.IfaceID] == 0 {
			w.keys[p.IfaceID] = uint32(1 + len(w.keys))
		}
		host := w.bed.Hosts()[0].Name
		if p.IP == farIP() {
			host = w.bed.Hosts()[1].Name
		}
		w.ports = append(w.ports, &api.Port{Id: p.IfaceID, Key: w.keys[p.IfaceID], Network: network, Mac: p.MAC.String(),
			FixedIps: []*api.FixedIP{{Subnet: subnet, Address: p.IP.String()}}, PortSecurity: true, SecurityGroups: []string{group}, Host: host, BindingEpoch: 1})
	}
	return w.change(ctx)
}

// DelPorts tells that ports are no more.
func (w *Headwater) DelPorts(ctx context.Context, ports ...Port) error {
	gone := map[string]bool{}
	for _, p := range ports {
		gone[p.IfaceID] = true
	}
	w.ports = slices.DeleteFunc(slices.Clone(w.ports), func(p *api.Port) bool { return gone[p.Id] })
	return w.change(ctx)
}

// AwaitPorts watches for hw-ready.
func (w *Headwater) AwaitPorts(ctx context.Context, h *hosts.Host, ports []Port) error {
	return awaitInterfaces(ctx, h, ports, "hw-ready")
}

// Sync asks each agent to say when it has carried out the file.
func (w *Headwater) Sync(ctx context.Context) error {
	for _, a := range w.agents {
		if err := a.carriesOut(ctx, w.revision); err != nil {
			return err
		}
	}
	return nil
}

func (a watched) carriesOut(ctx context.Context, revision uint64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://agent/v1/wait?revision=%d&timeout=60s", revision), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, err := io.ReadAll(resp.Body)
		return errors.Join(fmt.Errorf("wait for revision %d: the agent says %s", revision, said), err)
	}
	return nil
}

// told changes the file and waits until all hosts carry it out.
func (w *Headwater) told(ctx context.Context) error {
	return errors.Join(w.change(ctx), w.Sync(ctx))
}

// Protocols of IP, as rules have them: plus one.
const (
	icmpPlusOne = 1 + 1
	tcpPlusOne  = 6 + 1
)

// Group changes the group.
func (w *Headwater) Group(ctx context.Context) error {
	w.stateful = true
	w.rules = []*api.SecurityRule{
		{Id: "out", Direction: api.SecurityRule_EGRESS},
		{Id: "ping", Direction: api.SecurityRule_INGRESS, ProtocolPlusOne: icmpPlusOne},
	}
	return w.told(ctx)
}

func ruleID(n int) string { return fmt.Sprintf("rule-%d", n) }

// AddRule changes the group.
func (w *Headwater) AddRule(ctx context.Context, n int) error {
	w.rules = append(w.rules, &api.SecurityRule{Id: ruleID(n), Direction: api.SecurityRule_INGRESS, ProtocolPlusOne: tcpPlusOne,
		PortMin: uint32(8000 + n), PortMax: uint32(8000 + n), RemotePrefix: fmt.Sprintf("10.%d.0.0/16", n)})
	return w.told(ctx)
}

// DelRule changes the group.
func (w *Headwater) DelRule(ctx context.Context, n int) error {
	w.rules = slices.DeleteFunc(slices.Clone(w.rules), func(r *api.SecurityRule) bool { return r.Id == ruleID(n) })
	return w.told(ctx)
}

// partSize is how many members are in a part of the set.
const partSize = 256

// AddRemoteRule tells of the members, which no rule needed before, and of the rule.
func (w *Headwater) AddRemoteRule(ctx context.Context) error {
	var members []string
	for _, p := range w.ports {
		members = append(members, p.FixedIps[0].Address)
	}
	for part := range slices.Chunk(members, partSize) {
		w.sets = append(w.sets, &api.AddressSet{Id: fmt.Sprintf("%s-%d", group, len(w.sets)), Set: group, Addresses: part})
	}
	w.rules = append(w.rules, &api.SecurityRule{Id: "members", Direction: api.SecurityRule_INGRESS, RemoteSet: group})
	return w.told(ctx)
}

// Processes are the agents; nothing else is ours.
func (w *Headwater) Processes() map[Role][]int {
	return map[Role][]int{Agent: {w.agents[0].pid}, PeerAgent: {w.agents[1].pid}}
}
