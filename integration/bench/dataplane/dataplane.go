// Package dataplane measures what turns desired networks into flows on hosts: how soon a new port is reached, what a
// thousand ports cost, what one security-group rule more does, how fast DHCP and ARP answer. Each [Contender] is
// put through the same on emulated hosts of its own, one after the other on the same machine.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// Port is a port of the one network that there is: subnet 10.128.0.0/16, gateway and DHCP server 10.128.0.1. All ports are in the
// one security group, which has no rules, and hinders nobody, until Group.
type Port struct {
	IfaceID string
	MAC     net.HardwareAddr
	IP      netip.Addr
}

// Role says which part of a contender a process is; the processes of a role are added up.
type Role string

// The roles.
const (
	Agent     Role = "the agent"                   // at the first host, which has the ports
	PeerAgent Role = "the agent at the other host" // which has one
	Central   Role = "what is at no host"
)

// Contender is a dataplane that can be measured. The measurement makes and plugs devices; the contender is told of
// ports as by an API.
type Contender interface {
	Name() string
	// MTU is how much of the underlay's 1500 bytes a VM may have.
	MTU() int
	// Up starts everything and makes the network.
	Up(ctx context.Context, bed *hosts.Bed) error
	AddPorts(ctx context.Context, ports ...Port) error
	DelPorts(ctx context.Context, ports ...Port) error
	// AwaitPorts returns when the flows of ports that are plugged in at a host are in its switch.
	AwaitPorts(ctx context.Context, h *hosts.Host, ports []Port) error
	// Sync returns when the switches of all hosts have everything that was asked for.
	Sync(ctx context.Context) error
	// Group makes the group stateful: out is free, in are ICMP and answers. It and what follows return when all switches have it.
	Group(ctx context.Context) error
	// AddRule lets TCP port 8000+n in from 10.n.0.0/16, and DelRule no longer.
	AddRule(ctx context.Context, n int) error
	DelRule(ctx context.Context, n int) error
	// AddRemoteRule lets in what members of the group send.
	AddRemoteRule(ctx context.Context) error
	// Down ends what Up started in this process; all else ends with the bed.
	Down()
	Processes() map[Role][]int // a role that it has not is not there
}

// Figure is something that was measured.
type Figure struct {
	Name, Unit, How string
	Value           float64
	Higher          bool // is better
}

// Sizes are how much to measure.
type Sizes struct {
	First     int // ports that are plugged in one after the other, with nothing beside them
	FirstMany int // the same, with the last of Bulk beside them
	Bulk      []int
	Rules     int
	TCP       time.Duration
}

// Full is the sizes of figures that are compared with earlier ones.
func Full() Sizes {
	return Sizes{First: 50, FirstMany: 20, Bulk: []int{100, 1000}, Rules: 10, TCP: 5 * time.Second}
}

// Measure puts a contender through everything. The figures of all contenders have the same names and order; a role that
// a contender has not has none.
func Measure(ctx context.Context, c Contender, sizes Sizes, logf func(format string, args ...any)) ([]Figure, error) {
	var figures []Figure
	err := onHosts(ctx, floor{}, "hwfloor", sizes, logf, func(beneath *measurement) error {
		return onHosts(ctx, c, "hwbench", sizes, logf, func(m *measurement) error {
			m.floor = beneath
			err := m.everything(ctx)
			figures = m.figures
			return err
		})
	})
	return figures, err
}

// onHosts has a contender measured on hosts of its own.
func onHosts(ctx context.Context, c Contender, prefix string, sizes Sizes, logf func(format string, args ...any), what func(*measurement) error) error {
	return hosts.Program(logf, func(t hosts.T) error {
		m := &measurement{Contender: c, sizes: sizes, logf: logf, bed: hosts.Up(t, hosts.Config{Prefix: prefix})}
		m.first, m.second = m.bed.Host("s1h1"), m.bed.Host("s1h2")
		defer m.Down()
		if err := m.up(ctx); err != nil {
			return err
		}
		return what(m)
	})
}

// measurement is one contender's.
type measurement struct {
	Contender
	sizes   Sizes
	floor   *measurement // of Open vSwitch alone, at the same time
	logf    func(format string, args ...any)
	bed     *hosts.Bed
	figures []Figure

	first, second *hosts.Host
	far           *hosts.VM // at the second host: whom the others ping
}

// up starts the contender, with a VM at the second host.
func (m *measurement) up(ctx context.Context) error {
	if err := m.Up(ctx, m.bed); err != nil {
		return err
	}
	var err error
	if m.far, _, err = m.vm(ctx, m.second, "far", farIP(), farOFPort); err != nil {
		return err
	}
	m.far.Plug()
	return m.Sync(ctx)
}

func (m *measurement) everything(ctx context.Context) error {
	if err := m.firstPings(ctx, m.sizes.First, 0); err != nil {
		return err
	}
	if err := m.answers(ctx); err != nil {
		return err
	}
	for i, n := range m.sizes.Bulk {
		m.logf("%s: %d ports ...", m.Name(), n)
		ports, devices, err := m.bulk(ctx, n)
		if err != nil {
			return err
		}
		if i < len(m.sizes.Bulk)-1 {
			if err := m.clear(ctx, ports, devices); err != nil {
				return err
			}
			continue
		}
		if err := m.firstPings(ctx, m.sizes.FirstMany, n); err != nil {
			return err
		}
		if err := m.group(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) add(name, unit, how string, value float64) {
	m.figures = append(m.figures, Figure{Name: name, Unit: unit, How: how, Value: value})
}

func (m *measurement) addHigher(name, unit, how string, value float64) {
	m.figures = append(m.figures, Figure{Name: name, Unit: unit, How: how, Value: value, Higher: true})
}

func farIP() netip.Addr { return netip.AddrFrom4([4]byte{10, 128, 0, 2}) }

// numbered is the address of the i-th VM that is plugged in by itself.
func numbered(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 128, 1, byte(1 + i)}) }

func gatewayIP() netip.Addr { return netip.AddrFrom4([4]byte{10, 128, 0, 1}) }

// vm makes a VM that is not plugged in yet, and its port.
func (m *measurement) vm(ctx context.Context, h *hosts.Host, name string, ip netip.Addr, ofport int) (*hosts.VM, Port, error) {
	vm := m.unknown(h, name, ip, ofport)
	return vm, portOf(vm), m.AddPorts(ctx, portOf(vm))
}

// unknown is a VM that the contender has not been told of.
func (m *measurement) unknown(h *hosts.Host, name string, ip netip.Addr, ofport int) *hosts.VM {
	return m.bed.VM(name, h, hosts.VMConfig{IPs: []netip.Prefix{netip.PrefixFrom(ip, 16)}, MTU: m.MTU(), OFPort: ofport, Unplugged: true})
}

func portOf(vm *hosts.VM) Port {
	return Port{IfaceID: vm.IfaceID, MAC: vm.MAC, IP: vm.IPs[0].Addr()}
}

// firstLimit bounds how long a first ping may take.
const firstLimit = time.Minute

// firstPings makes ports one after the other, beside others, and adds the figures.
func (m *measurement) firstPings(ctx context.Context, n, beside int) error {
	m.logf("%s: first pings of %d ports beside %d ...", m.Name(), n, beside)
	devices := m.floor.first.DummyPorts(beside)
	p, least, err := m.pings(ctx, n)
	if err != nil {
		return err
	}
	m.floor.first.RemovePorts(devices)
	where := ", empty host"
	if beside > 0 {
		where = fmt.Sprintf(", %d ports beside it", beside)
	}
	floor := least.rest.Quantile(.5)
	how := fmt.Sprintf("%d ports, one after the other: made by the contender's own API and plugged in with ovs-vsctl; the VM pings one at the other host every ms from before that. "+
		"The contender's own share is what follows after both, without the %.1f ms (p50) that Open vSwitch takes there where all flows stand beforehand, on hosts where ports are plugged in by turns with these", n, ms(floor))
	m.add("port made and plugged in until its first ping, p50"+where, "ms", how, ms(p.reached.Quantile(.5)))
	m.add("the same, p95"+where, "ms", how, ms(p.reached.Quantile(.95)))
	m.add("of it the API, p50"+where, "ms", how, ms(p.api.Quantile(.5)))
	m.add("of it ovs-vsctl, p50"+where, "ms", how, ms(p.plug.Quantile(.5)))
	m.add("of it the contender's own share, p50"+where, "ms", how, ms(p.rest.Quantile(.5)-floor))
	return nil
}

// pings is how long first pings took, each in all and in its parts.
type pings struct{ reached, api, plug, rest probe.Times }

// pings makes ports one after the other, by turns with Open vSwitch alone: what that takes goes with what else the machine does. A VM pings before its port is there,
// and until it is answered.
func (m *measurement) pings(ctx context.Context, n int) (p, least pings, err error) {
	turns := []*measurement{m, m.floor}
	times := map[*measurement]*pings{m: &p, m.floor: &least}
	vms := map[*measurement][]*hosts.VM{}
	for i := range n {
		for _, turn := range turns {
			vm := turn.unknown(turn.first, fmt.Sprintf("v%d", i), numbered(i), firstOFPort+i)
			vms[turn] = append(vms[turn], vm)
			if err := turn.firstPing(ctx, vm, times[turn]); err != nil {
				return p, least, err
			}
		}
		slices.Reverse(turns)
	}
	for _, turn := range turns {
		var ports []Port
		for _, vm := range vms[turn] {
			ports = append(ports, portOf(vm))
		}
		if err := turn.DelPorts(ctx, ports...); err != nil {
			return p, least, err
		}
		for _, vm := range vms[turn] {
			vm.Delete()
		}
		if err := turn.Sync(ctx); err != nil {
			return p, least, err
		}
	}
	return p, least, nil
}

func (m *measurement) firstPing(ctx context.Context, vm *hosts.VM, p *pings) error {
	ctx, cancel := context.WithTimeout(ctx, firstLimit)
	defer cancel()
	socket, err := probe.Open(vm, "eth0")
	if err != nil {
		return err
	}
	defer socket.Close() //nolint:errcheck // nothing was written
	var g errgroup.Group
	var reached time.Duration
	start := time.Now()
	g.Go(func() error {
		first, err := socket.First(ctx, probe.Path{Src: vm.IPs[0].Addr(), Dst: farIP()}, start, time.Millisecond)
		reached = first.Reached
		return err
	})
	if err := m.AddPorts(ctx, portOf(vm)); err != nil {
		cancel()
		return err
	}
	api := time.Since(start)
	vm.Plug()
	plugged := time.Since(start)
	if err := g.Wait(); err != nil {
		return err
	}
	p.reached, p.api = append(p.reached, reached), append(p.api, api)
	p.plug, p.rest = append(p.plug, plugged-api), append(p.rest, reached-plugged)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// bulk plugs n ports in at the first host at once. What is measured begins when the contender is told of them; their
// devices are there by then, and their iface-ids are set right after.
func (m *measurement) bulk(ctx context.Context, n int) ([]Port, []string, error) {
	devices := m.first.DummyPorts(n)
	if err := m.Sync(ctx); err != nil {
		return nil, nil, err
	}
	var ports []Port
	var ids []string
	for i := range n {
		p := Port{IfaceID: fmt.Sprintf("lp%06d", i), MAC: hosts.MACOf(devices[i]), IP: netip.AddrFrom4([4]byte{10, 128, byte(16 + i/250), byte(1 + i%250)})}
		ports, ids = append(ports, p), append(ids, p.IfaceID)
	}
	before, err := m.usage()
	if err != nil {
		return nil, nil, err
	}
	flows, start := m.first.FlowCount(hosts.Integration), time.Now()
	if err := m.AddPorts(ctx, ports...); err != nil {
		return nil, nil, err
	}
	m.first.Bind(devices, ids)
	if err := m.AwaitPorts(ctx, m.first, ports); err != nil {
		return nil, nil, err
	}
	here := time.Since(start)
	if err := m.Sync(ctx); err != nil {
		return nil, nil, err
	}
	all := time.Since(start)
	after, err := m.usage()
	if err != nil {
		return nil, nil, err
	}
	if err := m.filled(ctx, flows+n); err != nil {
		return nil, nil, err
	}
	m.bulkFigures(n, here, all, flows, before, after)
	return ports, devices, nil
}

// filled waits until the first host has at least so many flows, before they are counted. On a busy machine a contender
// was seen to say that it is done while it fills a table anew that it has just emptied.
func (m *measurement) filled(ctx context.Context, least int) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for waited := false; m.first.FlowCount(hosts.Integration) < least; waited = true {
		if !waited {
			m.logf("%s says that it is done, and %d flows at least are not there", m.Name(), least)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

func (m *measurement) bulkFigures(n int, here, all time.Duration, flows int, before, after map[Role]hosts.Usage) {
	how := "ports without devices on one of two hosts, all at once: told through the API, and given their iface-ids by one ovs-vsctl; until the flows of the last are in. " +
		"CPU and resident memory are those of the dataplane's own processes"
	name := func(what string) string { return fmt.Sprintf("%d ports: %s", n, what) }
	m.add(name("until all flows are in at their host"), "s", how, here.Seconds())
	m.add(name("until all hosts are done"), "s", how, all.Seconds())
	m.add(name("flows for them"), "flows", how, float64(m.first.FlowCount(hosts.Integration)-flows))
	m.add(name("flows at the other host, all"), "flows", how, float64(m.second.FlowCount(hosts.Integration)))
	for _, role := range []Role{Agent, PeerAgent, Central} {
		if _, has := after[role]; has {
			m.add(name("CPU of "+string(role)), "s", how, (after[role].CPU - before[role].CPU).Seconds())
		}
	}
	for _, role := range []Role{Agent, Central} {
		if _, has := after[role]; has {
			m.add(name("memory of "+string(role)), "MiB", how, float64(after[role].Memory)/(1<<20))
		}
	}
}

func (m *measurement) clear(ctx context.Context, ports []Port, devices []string) error {
	if err := m.DelPorts(ctx, ports...); err != nil {
		return err
	}
	m.first.RemovePorts(devices)
	return m.Sync(ctx)
}

func (m *measurement) usage() (map[Role]hosts.Usage, error) {
	sums := map[Role]hosts.Usage{}
	for role, pids := range m.Processes() {
		for _, pid := range pids {
			u, err := hosts.UsageOf(pid)
			if err != nil {
				return nil, err
			}
			sum := sums[role]
			sums[role] = hosts.Usage{CPU: sum.CPU + u.CPU, Memory: sum.Memory + u.Memory}
		}
	}
	return sums, nil
}

// group changes the rules of a group that n ports of a host are in, and holds the contender to what they say.
func (m *measurement) group(ctx context.Context, n int) error {
	m.logf("%s: a security group of %d ports ...", m.Name(), n)
	guarded, port, err := m.vm(ctx, m.first, "guarded", netip.AddrFrom4([4]byte{10, 128, 3, 1}), 0)
	if err != nil {
		return err
	}
	guarded.Plug()
	guarded.Serve("tcp", netip.AddrPortFrom(port.IP, guardedPort))
	if err := errors.Join(m.Sync(ctx), m.guards(ctx, guarded, true)); err != nil {
		return err
	}
	how := fmt.Sprintf("a group of %d ports at one host; each change until the switches of all hosts have it", n)
	if err := m.one(how, "first stateful group", "its flows", func() error { return m.Group(ctx) }); err != nil {
		return err
	}
	if err := errors.Join(m.guards(ctx, guarded, false), m.rules(ctx, how)); err != nil {
		return err
	}
	if err := m.one(how, "rule that names the group itself", "its flows, all members", func() error { return m.AddRemoteRule(ctx) }); err != nil {
		return err
	}
	return m.guards(ctx, guarded, true)
}

// guardedPort is a TCP port that only the group's members may reach, once there is a rule for them.
const guardedPort = 7

// guards checks that ping reaches a VM, and whether TCP does.
func (m *measurement) guards(ctx context.Context, vm *hosts.VM, open bool) error {
	at := netip.AddrPortFrom(vm.IPs[0].Addr(), guardedPort)
	m.far.MustReach(at.Addr())
	if !open { // what answers does so in milliseconds
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
	}
	if _, err := m.far.Talk(ctx, "tcp", at); (err == nil) != open {
		return fmt.Errorf("TCP to a member of the group: want it to pass: %t; got error %v", open, err) //nolint:errorlint // it may be nil
	}
	return nil
}

// one makes one change, and adds how long it took and how many flows it brought.
func (m *measurement) one(how, name, flowsName string, f func() error) error {
	took, flows, err := m.change(f)
	if err != nil {
		return err
	}
	m.add(name, "ms", how, ms(took))
	m.add(flowsName, "flows", how, float64(flows))
	return nil
}

// rules adds rules one by one, and takes them away again.
func (m *measurement) rules(ctx context.Context, how string) error {
	var adds, dels probe.Times
	more := 0
	for i := range m.sizes.Rules {
		took, flows, err := m.change(func() error { return m.AddRule(ctx, 20+i) })
		if err != nil {
			return err
		}
		adds, more = append(adds, took), more+flows
	}
	for i := range m.sizes.Rules {
		took, _, err := m.change(func() error { return m.DelRule(ctx, 20+i) })
		if err != nil {
			return err
		}
		dels = append(dels, took)
	}
	m.add("one more rule, p50", "ms", how, ms(adds.Quantile(.5)))
	m.add("one more rule, p95", "ms", how, ms(adds.Quantile(.95)))
	m.add("flows of one more rule", "flows", how, float64(more)/float64(m.sizes.Rules))
	m.add("one rule less, p50", "ms", how, ms(dels.Quantile(.5)))
	return nil
}

// change returns how long a change took, and how many flows it brought the first host.
func (m *measurement) change(f func() error) (time.Duration, int, error) {
	flows, start := m.first.FlowCount(hosts.Integration), time.Now()
	err := f()
	took := time.Since(start)
	return took, m.first.FlowCount(hosts.Integration) - flows, err
}
