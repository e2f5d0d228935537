package interest

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// cloud is a site of hosts with 50 ports each: networks of 20 ports, five networks to a router with a gateway on one external network, a security group
// for each ten ports.
func cloud(hosts int) []state.Object {
	var out []state.Object
	out = append(out, &state.Network{ID: "ext", Segment: state.Flat, External: true}, &state.Subnet{ID: "sext", Network: "ext"})
	ports := hosts * 50
	for h := range hosts {
		out = append(out, &state.Host{ID: fmt.Sprintf("h%d", h)})
	}
	for n := range ports / 20 {
		out = append(out, &state.Network{ID: fmt.Sprintf("net%d", n)}, &state.Subnet{ID: fmt.Sprintf("sub%d", n), Network: fmt.Sprintf("net%d", n)})
	}
	for r := range ports / 100 {
		o := &state.Router{ID: fmt.Sprintf("r%d", r), Gateway: &state.Gateway{Network: "ext", Addresses: prefixes("192.0.2.1/24"), NextHops: addrs("192.0.2.254")}}
		for i := range 5 {
			o.Interfaces = append(o.Interfaces, state.RouterInterface{Network: fmt.Sprintf("net%d", r*5+i),
				Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r), byte(i), 1}), 24)}})
		}
		out = append(out, o)
	}
	for g := range ports / 10 {
		out = append(out, &state.SecurityGroup{ID: fmt.Sprintf("g%d", g), Rules: []state.SecurityRule{{RemoteSet: fmt.Sprintf("set%d", g)}}},
			&state.AddressSet{ID: fmt.Sprintf("set%d", g), Set: fmt.Sprintf("set%d", g)})
	}
	for p := range ports {
		out = append(out, plugged(p, (p*7919)%hosts))
	}
	return out
}

func plugged(p, host int) *state.Port {
	return &state.Port{ID: fmt.Sprintf("p%d", p), Network: fmt.Sprintf("net%d", p/20), Host: fmt.Sprintf("h%d", host), SecurityGroups: []string{fmt.Sprintf("g%d", p/10)}}
}

func BenchmarkBuild(b *testing.B) {
	const hosts = 1000
	objects := cloud(hosts)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	var graph, watches, total float64
	for b.Loop() {
		empty := heap()
		g := New()
		g.Apply(objects, nil)
		built := heap()
		total = 0
		for h := range hosts {
			total += float64(len(watched(g, fmt.Sprintf("h%d", h))))
		}
		graph, watches = built-empty, heap()-built
		runtime.KeepAlive(g)
	}
	b.ReportMetric(graph, "MiB/graph")
	b.ReportMetric(watches, "MiB/watches")
	b.ReportMetric(total/hosts, "objects/host")
	runtime.KeepAlive(objects)
}

func BenchmarkWatch(b *testing.B) {
	g := New()
	g.Apply(cloud(1000), nil)
	for b.Loop() {
		g.Watch("h7")
		g.Unwatch("h7")
	}
}

func BenchmarkChange(b *testing.B) {
	g := New()
	g.Apply(cloud(1000), nil)
	for h := range 1000 {
		g.Watch(fmt.Sprintf("h%d", h))
	}
	for _, tt := range []struct {
		name   string
		change func(i int) state.Object
	}{
		{"port-mac", func(i int) state.Object { return plugged(7, 593) }},
		{"port-binding", func(i int) state.Object { return plugged(7, i%1000) }},
		{"rule", func(i int) state.Object {
			return &state.SecurityGroup{ID: "g3", Rules: []state.SecurityRule{{RemoteSet: "set3"}, {PortMin: uint16(i)}}}
		}},
		{"router-interface", func(i int) state.Object {
			return &state.Router{ID: "r1", Interfaces: []state.RouterInterface{{Network: fmt.Sprintf("net%d", i%2)}}}
		}},
		{"external-subnet", func(i int) state.Object { return &state.Subnet{ID: "sext", Network: "ext", LeaseSeconds: uint32(i)} }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			hosts, i := 0, 0
			for b.Loop() {
				i++
				deltas, _ := g.Apply([]state.Object{tt.change(i)}, nil)
				hosts += len(deltas)
			}
			b.ReportMetric(float64(hosts)/float64(i), "hosts/op")
		})
	}
}
