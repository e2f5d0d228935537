package dataplane

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/integration/hosts"
)

// Headwater is our host agent on each host, with the desired state from a server in this process, as Top and relays have it.
type Headwater struct {
	program  string // headwater-agent
	bed      *hosts.Bed
	top      *top
	serving  sync.WaitGroup
	stop     context.CancelFunc
	expected map[string]uint64 // by host, the last revision that concerns it
	where    map[string]string // ports, and their hosts
	keys     map[string]uint32 // of ports
	members  []string          // addresses of the group's members, in the order in which they came
	rules    []*api.SecurityRule
	agents   []int // processes, by host
}

// NewHeadwater measures a program.
func NewHeadwater(program string) *Headwater {
	return &Headwater{program: program, expected: map[string]uint64{}, where: map[string]string{}, keys: map[string]uint32{}}
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

// Up starts the server and the agents, and tells them of the hosts and the network.
func (w *Headwater) Up(ctx context.Context, bed *hosts.Bed) error {
	w.bed = bed
	ctx, w.stop = context.WithCancel(ctx)
	var err error
	if w.top, err = serveTop(ctx, bed, &w.serving); err != nil {
		return err
	}
	objects := []*api.Object{
		{Kind: &api.Object_Network{Network: &api.Network{Id: network, Key: 1, Mtu: uint32(w.MTU())}}},
		{Kind: &api.Object_Subnet{Subnet: &api.Subnet{Id: subnet, Network: network, Cidr: "10.128.0.0/16", Gateway: gatewayIP().String(), Dhcp: true, LeaseSeconds: 3600}}},
		{Kind: &api.Object_Router{Router: &api.Router{Id: router, Key: 2, Interfaces: []*api.RouterInterface{{Network: network, Mac: "02:00:00:00:00:01",
			Addresses: []string{netip.PrefixFrom(gatewayIP(), 16).String()}}}}}},
	}
	for i, h := range bed.Hosts() {
		objects = append(objects, &api.Object{Kind: &api.Object_Host{Host: &api.Host{Id: h.Name, Key: uint32(1 + i), Site: w.top.site,
			TunnelEnds: []*api.TunnelEnd{{Address: h.UnderlayIP.String()}}}}})
	}
	// Until there is a stateful group, all may pass without connection tracking.
	for _, d := range []api.SecurityRule_Direction{api.SecurityRule_INGRESS, api.SecurityRule_EGRESS} {
		w.rules = append(w.rules, &api.SecurityRule{Id: "free-" + d.String(), Direction: d})
	}
	if err := w.tell(ctx, append(objects, w.group(true))); err != nil {
		return err
	}
	for _, h := range bed.Hosts() {
		if err := w.start(ctx, h); err != nil {
			return err
		}
	}
	return w.Sync(ctx)
}

// Down ends the server.
func (w *Headwater) Down() {
	if w.stop != nil {
		w.stop()
		w.serving.Wait()
	}
}

func (w *Headwater) start(ctx context.Context, h *hosts.Host) error {
	dir := filepath.Join(h.Dir, "agent")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	files, err := w.top.identify(filepath.Join(h.Dir, "identity"), mtls.Identity{Role: mtls.Host, Site: w.top.site, Name: h.Name})
	if err != nil {
		return err
	}
	p, err := h.Start(filepath.Join(h.Dir, "agent.out"), w.program, "run", "--server", w.top.address, "--site", w.top.site, "--cert", files.CertFile, "--key", files.KeyFile,
		"--ca", files.CAFile, "--host", h.Name, "--datapath", "netdev", "--ovsdb", h.OVSDB(), "--run-dir", dir, "--state-dir", dir, "--punt-rate", "0")
	if err != nil {
		return err
	}
	w.agents = append(w.agents, p.PID)
	return p.Listens(ctx, filepath.Join(dir, "agent.sock"))
}

// tell makes a revision. It is sent to whom it concerns: the hosts that have ports or, when there are no agents yet, will begin with it.
func (w *Headwater) tell(ctx context.Context, set []*api.Object, gone ...state.Ref) error {
	revision, err := w.top.feed.Commit(ctx, set, gone)
	for _, h := range w.bed.Hosts() {
		if w.expected[h.Name] == 0 || slices.Contains(slices.Collect(maps.Values(w.where)), h.Name) {
			w.expected[h.Name] = revision
		}
	}
	return err
}

// AddPorts tells of ports, all at the first host but the one that the others ping.
func (w *Headwater) AddPorts(ctx context.Context, ports ...Port) error {
	var objects []*api.Object
	for _, p := range ports {
		if w.keys[p.IfaceID] == 0 {
			w.keys[p.IfaceID] = uint32(1 + len(w.keys))
		}
		w.members = append(w.members, p.IP.String())
		host := w.bed.Hosts()[0].Name
		if p.IP == farIP() {
			host = w.bed.Hosts()[1].Name
		}
		w.where[p.IfaceID] = host
		objects = append(objects, &api.Object{Kind: &api.Object_Port{Port: &api.Port{Id: p.IfaceID, Key: w.keys[p.IfaceID], Network: network, Mac: p.MAC.String(),
			FixedIps: []*api.FixedIP{{Subnet: subnet, Address: p.IP.String()}}, PortSecurity: true, SecurityGroups: []string{group}, Host: host, BindingEpoch: 1}}})
	}
	return w.tell(ctx, objects)
}

// DelPorts tells that ports are no more.
func (w *Headwater) DelPorts(ctx context.Context, ports ...Port) error {
	addresses := map[string]bool{}
	var refs []state.Ref
	for _, p := range ports {
		addresses[p.IP.String()] = true
		refs = append(refs, state.Ref{Kind: state.KindPort, ID: p.IfaceID})
	}
	w.members = slices.DeleteFunc(w.members, func(m string) bool { return addresses[m] })
	err := w.tell(ctx, nil, refs...)
	for _, p := range ports {
		delete(w.where, p.IfaceID)
	}
	return err
}

// AwaitPorts watches for hw-ready.
func (w *Headwater) AwaitPorts(ctx context.Context, h *hosts.Host, ports []Port) error {
	return awaitInterfaces(ctx, h, ports, "hw-ready")
}

// Sync waits until each agent has said that it carries out the last revision that concerns it.
func (w *Headwater) Sync(ctx context.Context) error {
	for _, h := range w.bed.Hosts() {
		if err := w.top.applied(ctx, h.Name, w.expected[h.Name]); err != nil {
			return err
		}
	}
	return nil
}

// group is the group as it is now.
func (w *Headwater) group(stateless bool) *api.Object {
	return &api.Object{Kind: &api.Object_SecurityGroup{SecurityGroup: &api.SecurityGroup{Id: group, Stateless: stateless, Rules: slices.Clone(w.rules)}}}
}

// changed tells of the group, and of what else there is to tell, and waits until all hosts carry it out.
func (w *Headwater) changed(ctx context.Context, more ...*api.Object) error {
	if err := w.tell(ctx, append(more, w.group(false))); err != nil {
		return err
	}
	return w.Sync(ctx)
}

// Protocols of IP, as rules have them: plus one.
const (
	icmpPlusOne = 1 + 1
	tcpPlusOne  = 6 + 1
)

// Group changes the group.
func (w *Headwater) Group(ctx context.Context) error {
	w.rules = []*api.SecurityRule{
		{Id: "out", Direction: api.SecurityRule_EGRESS},
		{Id: "ping", Direction: api.SecurityRule_INGRESS, ProtocolPlusOne: icmpPlusOne},
	}
	return w.changed(ctx)
}

func ruleID(n int) string { return fmt.Sprintf("rule-%d", n) }

// AddRule changes the group.
func (w *Headwater) AddRule(ctx context.Context, n int) error {
	w.rules = append(w.rules, &api.SecurityRule{Id: ruleID(n), Direction: api.SecurityRule_INGRESS, ProtocolPlusOne: tcpPlusOne,
		PortMin: uint32(8000 + n), PortMax: uint32(8000 + n), RemotePrefix: fmt.Sprintf("10.%d.0.0/16", n)})
	return w.changed(ctx)
}

// DelRule changes the group.
func (w *Headwater) DelRule(ctx context.Context, n int) error {
	w.rules = slices.DeleteFunc(slices.Clone(w.rules), func(r *api.SecurityRule) bool { return r.Id == ruleID(n) })
	return w.changed(ctx)
}

// partSize is how many members are in a part of the set.
const partSize = 256

// AddRemoteRule tells of the members, which no rule needed before, and of the rule.
func (w *Headwater) AddRemoteRule(ctx context.Context) error {
	var sets []*api.Object
	for part := range slices.Chunk(w.members, partSize) {
		sets = append(sets, &api.Object{Kind: &api.Object_AddressSet{AddressSet: &api.AddressSet{Id: fmt.Sprintf("%s-%d", group, len(sets)), Set: group, Addresses: part}}})
	}
	w.rules = append(w.rules, &api.SecurityRule{Id: "members", Direction: api.SecurityRule_INGRESS, RemoteSet: group})
	return w.changed(ctx, sets...)
}

// Processes are the agents; the server is this process, which does much else.
func (w *Headwater) Processes() map[Role][]int {
	return map[Role][]int{Agent: w.agents[:1], PeerAgent: w.agents[1:2]}
}
