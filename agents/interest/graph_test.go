package interest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
)

func refs(s string) []string { return strings.Fields(s) }

func text(list []state.Ref) []string {
	out := []string{}
	for _, r := range list {
		out = append(out, r.ID)
	}
	slices.Sort(out)
	return out
}

// watched begins to watch a host and returns its set.
func watched(g *Graph, host string) []state.Ref {
	g.Watch(host)
	return g.Set(host)
}

func sorted(list []state.Ref) []state.Ref {
	slices.SortFunc(list, state.Ref.Compare)
	return list
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// site is a site with most of what decides: two tenants' routers on one external network, a transit network between two routers, a shared network.
func site() []state.Object {
	iface := func(network, addr string) state.RouterInterface {
		return state.RouterInterface{Network: network, Addresses: prefixes(addr)}
	}
	port := func(id, network, host string, groups ...string) *state.Port {
		return &state.Port{ID: id, Network: network, Host: host, SecurityGroups: groups}
	}
	return []state.Object{
		&state.Host{ID: "h1"}, &state.Host{ID: "h2"}, &state.Host{ID: "h3"}, &state.Host{ID: "h4"}, &state.Host{ID: "h5"}, &state.Host{ID: "gw", Gateway: true},
		&state.Network{ID: "net1"}, &state.Network{ID: "net2"}, &state.Network{ID: "net3"}, &state.Network{ID: "lone"},
		&state.Network{ID: "shared"}, &state.Network{ID: "ext", Segment: state.Flat, External: true},
		&state.Subnet{ID: "sub1", Network: "net1"}, &state.Subnet{ID: "sub2", Network: "net2"}, &state.Subnet{ID: "sube", Network: "ext"},
		port("p1", "net1", "h1", "g1"), port("p2", "net2", "h2", "g2"), &state.Port{ID: "p3", Network: "net3", Host: "h3", Project: "tenant"}, port("l1", "lone", "h4"), port("l2", "lone", "h5"),
		port("e1", "ext", "h5"), port("s1", "shared", "h2"),
		&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{{RemoteSet: "set1"}}}, &state.SecurityGroup{ID: "g2"},
		&state.AddressSet{ID: "set1/0", Set: "set1"}, &state.AddressSet{ID: "set1/1", Set: "set1"}, &state.AddressSet{ID: "set2", Set: "set2"},
		// r1 joins net1 and the shared network; r2 joins the shared network and net2; r1 has a route to net2, r3's net3 has none.
		&state.Router{ID: "r1", Interfaces: []state.RouterInterface{iface("net1", "10.1.0.1/24"), iface("shared", "10.9.0.1/24")},
			Routes:  []state.StaticRoute{{Destination: netip.MustParsePrefix("10.2.0.0/24"), NextHops: addrs("10.9.0.2")}},
			Gateway: &state.Gateway{Network: "ext", Addresses: prefixes("192.0.2.1/24"), Snat: state.SnatGateway, Hosts: []string{"gw"}}},
		&state.Router{ID: "r2", Interfaces: []state.RouterInterface{iface("net2", "10.2.0.1/24"), iface("shared", "10.9.0.2/24")}},
		&state.Router{ID: "r3", Interfaces: []state.RouterInterface{iface("net3", "10.3.0.1/24"), iface("shared", "10.9.0.3/24")},
			Gateway: &state.Gateway{Network: "ext", Addresses: prefixes("192.0.2.3/24"), Snat: state.SnatHost}},
		&state.FloatingIP{ID: "f1", Network: "ext", Router: "r1", Port: "p1"}, &state.FloatingIP{ID: "f3", Network: "ext", Router: "r3", Port: "p3"},
		&state.SnatAddress{ID: "snat3", Network: "ext", Router: "r3", Host: "h3", Owner: "h3"},
		&state.Neighbor{ID: "up", Network: "ext", Host: "h1"},
		&state.SecurityLog{ID: "log2", SecurityGroup: "g2"}, &state.SecurityLog{ID: "logp", Port: "l1"}, &state.SecurityLog{ID: "logt", Project: "tenant"},
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	g := New()
	g.Apply(site(), nil)
	const all = " gw h1 h2 h3 h4 h5" // any host may send
	const outside = " ext sube up" + all
	for host, want := range map[string][]string{
		// Over r1 and its route over r2 to net2; of r3, which only shares a network, its addresses. Ports of ext answer on the wire.
		"h1": refs("p1 net1 sub1 g1 set1/0 set1/1 r1 f1 shared s1 r2 net2 sub2 p2 r3" + outside),
		// Through the shared network, where s1 may send to any router: r1 and r3 and what they join.
		"h2": refs("p2 s1 net2 sub2 shared net1 sub1 p1 net3 p3 r1 r2 r3 f1 f3 g2 log2" + outside),
		"h3": refs("p3 net3 r3 f3 shared s1 r1 r2 snat3 logt" + outside),
		"h4": refs("l1 l2 lone logp" + all),
		// A guest of its own on the external network: what is there, but not what is behind routers that translate.
		"h5": refs("l1 l2 e1 lone" + outside),
		// It acts as r1's gateway without a port of its own.
		"gw": refs("r1 net1 sub1 p1 shared s1 r2 net2 sub2 p2 r3 f1" + outside),
		"h9": refs(all),
	} {
		slices.Sort(want)
		if got := text(watched(g, host)); !slices.Equal(got, want) {
			t.Errorf("%s has %v,\n want %v", host, got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		set  []state.Object
		gone []state.Ref
		want string
	}{
		{"a rule changes: only hosts with the group hear of it", []state.Object{&state.SecurityGroup{ID: "g2"}}, nil, "h2 set g2"},
		{"a rule names another set", []state.Object{&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{{RemoteSet: "set2"}}}}, nil,
			"h1 set g1 set2 gone set1/0 set1/1"},
		{"a port is plugged", []state.Object{&state.Port{ID: "l3", Network: "lone", Host: "h3"}}, nil,
			"h3 set l1 l2 l3 lone; h4 set l3; h5 set l3"},
		{"a port begins to migrate, and its next host learns all that it needs", []state.Object{&state.Port{ID: "l2", Network: "lone", Host: "h5", NextHost: "h3"}}, nil,
			"h3 set l1 l2 lone; h4 set l2; h5 set l2"},
		{"the last port goes", nil, []state.Ref{{Kind: state.KindPort, ID: "l1"}}, "h4 gone l1 l2 logp lone; h5 gone l1"},
		{"a port with a log moves, and the log with it", []state.Object{&state.Port{ID: "l1", Network: "lone", Host: "h5"}}, nil, "h4 gone l1 l2 logp lone; h5 set l1 logp"},
		{"a log turns to a project", []state.Object{&state.SecurityLog{ID: "log2", Project: "tenant"}}, nil, "h2 gone log2; h3 set log2"},
		{"a mirror comes: each end learns of the other", []state.Object{&state.Mirror{ID: "m", Port: "l1", Target: "p3"}}, nil, "h3 set m; h4 set m net3 p3"},
		{"a floating IP goes", nil, []state.Ref{{Kind: state.KindFloatingIP, ID: "f3"}}, "h2 gone f3; h3 gone f3"},
		{"a host comes: all take what it sends", []state.Object{&state.Host{ID: "h6"}}, nil, "gw set h6; h1 set h6; h2 set h6; h3 set h6; h4 set h6; h5 set h6"},
		{"nothing known goes", nil, []state.Ref{{Kind: state.KindPort, ID: "none"}}, ""},
		{"an interface joins", []state.Object{&state.Router{ID: "r4", Interfaces: []state.RouterInterface{{Network: "lone"}, {Network: "net3"}}}}, nil,
			"h2 set r4; h3 set l1 l2 lone r4; h4 set net3 p3 r3 r4; h5 set net3 p3 r3 r4"},
		{"a route's next hop moves to the other router", []state.Object{&state.Router{ID: "r2", Interfaces: []state.RouterInterface{{Network: "net2"}}},
			&state.Router{ID: "r3", Interfaces: []state.RouterInterface{{Network: "net3", Addresses: prefixes("10.3.0.1/24")}, {Network: "shared", Addresses: prefixes("10.9.0.2/24")}},
				Gateway: &state.Gateway{Network: "ext", Addresses: prefixes("192.0.2.3/24"), Snat: state.SnatHost}}}, nil,
			"gw set f3 net3 p3 r3 gone net2 p2 r2 sub2; h1 set f3 net3 p3 r3 gone net2 p2 r2 sub2; h2 set r2 r3; h3 set r3 gone r2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := New()
			g.Apply(site(), nil)
			for i := range 5 {
				g.Watch(fmt.Sprintf("h%d", i+1))
			}
			g.Watch("gw")
			deltas, _ := g.Apply(tt.set, tt.gone)
			var got []string
			for _, h := range []string{"gw", "h1", "h2", "h3", "h4", "h5"} {
				d, ok := deltas[h]
				if !ok {
					continue
				}
				s := h
				if len(d.Set) > 0 {
					s += " set " + strings.Join(text(d.Set), " ")
				}
				if len(d.Gone) > 0 {
					s += " gone " + strings.Join(text(d.Gone), " ")
				}
				got = append(got, s)
			}
			if s := strings.Join(got, "; "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

// A site in which everything has come and gone takes no more memory than an empty one.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	g := New()
	g.Watch("h1")
	var gone []state.Ref
	for _, o := range site() {
		g.Apply([]state.Object{o}, nil)
		gone = append(gone, o.Ref())
	}
	for _, r := range gone {
		g.Apply(nil, []state.Ref{r})
	}
	g.Unwatch("h1")
	if len(g.nodes)+len(g.owners)+len(g.wanted)+g.Watched() > 0 {
		t.Errorf("%d nodes, %d owners, %d wanted, %d watched are left", len(g.nodes), len(g.owners), len(g.wanted), g.Watched())
	}
}

// world draws random sites, small enough for chances to meet.
type world struct{ t *rapid.T }

func (w world) id(kind string, n int) string {
	return fmt.Sprintf("%s%d", kind, rapid.IntRange(0, n-1).Draw(w.t, kind))
}

func (w world) maybe(kind string, n int) string {
	if rapid.Bool().Draw(w.t, "some") {
		return w.id(kind, n)
	}
	return ""
}

func (w world) addr(network string) netip.Addr {
	return netip.AddrFrom4([4]byte{10, network[3] - '0', 0, byte(rapid.IntRange(1, 4).Draw(w.t, "addr"))})
}

func (w world) router() *state.Router {
	o := &state.Router{ID: w.id("r", 4)}
	for range rapid.IntRange(0, 3).Draw(w.t, "interfaces") {
		n := w.id("net", 6)
		o.Interfaces = append(o.Interfaces, state.RouterInterface{Network: n, Addresses: []netip.Prefix{netip.PrefixFrom(w.addr(n), 24)}})
	}
	for range rapid.IntRange(0, 2).Draw(w.t, "routes") {
		to := netip.PrefixFrom(w.addr(w.id("net", 6)), 24).Masked()
		o.Routes = append(o.Routes, state.StaticRoute{Destination: to, NextHops: []netip.Addr{w.addr(w.id("net", 6))}})
	}
	if rapid.Bool().Draw(w.t, "gateway") {
		n := w.id("net", 6)
		o.Gateway = &state.Gateway{Network: n, Addresses: []netip.Prefix{netip.PrefixFrom(w.addr(n), 24)}, NextHops: []netip.Addr{w.addr(n)},
			Snat: state.SnatMode(rapid.IntRange(0, 3).Draw(w.t, "snat"))}
		if h := w.maybe("h", 4); h != "" {
			o.Gateway.Hosts = []string{h}
		}
	}
	return o
}

func (w world) object() state.Object {
	switch rapid.IntRange(0, 11).Draw(w.t, "kind") {
	case 0:
		return &state.Host{ID: w.id("h", 4), Gateway: rapid.Bool().Draw(w.t, "gateway")}
	case 1:
		return &state.Network{ID: w.id("net", 6), Segment: state.SegmentKind(rapid.IntRange(0, 1).Draw(w.t, "segment"))}
	case 2:
		n := w.id("net", 6)
		return &state.Subnet{ID: "s" + n, Network: n, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n[3] - '0', 0, 0}), 24)}
	case 3:
		return w.router()
	case 4:
		return &state.FloatingIP{ID: w.id("f", 3), Network: w.id("net", 6), Router: w.maybe("r", 4), Port: w.maybe("p", 8),
			Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 3).Draw(w.t, "floating"))})}
	case 5:
		o := &state.SecurityGroup{ID: w.id("g", 3)}
		for range rapid.IntRange(0, 2).Draw(w.t, "rules") {
			o.Rules = append(o.Rules, state.SecurityRule{RemoteSet: w.maybe("set", 3)})
		}
		return o
	case 6:
		set := w.id("set", 3)
		return &state.AddressSet{ID: set + w.id("/", 2), Set: set}
	case 7:
		return &state.SnatAddress{ID: w.id("snat", 2), Network: w.id("net", 6), Router: w.maybe("r", 4), Host: w.id("h", 4), Owner: w.id("h", 4)}
	case 10:
		return &state.Mirror{ID: w.id("mirror", 3), Port: w.id("p", 8), Target: w.id("p", 8)}
	case 9:
		return &state.SecurityLog{ID: w.id("log", 3), Project: w.maybe("project", 2), SecurityGroup: w.maybe("g", 3), Port: w.maybe("p", 8)}
	case 8:
		return &state.Neighbor{ID: w.id("nb", 2), Network: w.id("net", 6), Host: w.maybe("h", 4), Port: w.maybe("p", 8)}
	}
	n := w.id("net", 6)
	o := &state.Port{ID: w.id("p", 8), Network: n, Project: w.maybe("project", 2), Host: w.maybe("h", 4), NextHost: w.maybe("h", 4), Parent: w.maybe("p", 8),
		FixedIPs: []state.FixedIP{{Address: w.addr(n)}}}
	if g := w.maybe("g", 3); g != "" {
		o.SecurityGroups = []string{g}
	}
	return o
}

// Whatever the history: each host's set is what a graph that is given the present objects finds, the deltas lead from each set to the next, and all
// steps from any revision on lead from its set to the present one.
func TestIncrementalIsFromScratch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := world{t}
		g := New()
		objects := map[state.Ref]state.Object{}
		sets := map[string]map[state.Ref]state.Object{}
		past := map[string][]map[state.Ref]state.Object{}
		var steps []*Step
		for i := range 4 {
			h := fmt.Sprintf("h%d", i)
			g.Watch(h)
			sets[h] = map[state.Ref]state.Object{}
			past[h] = append(past[h], sets[h])
		}
		for range rapid.IntRange(1, 30).Draw(t, "commits") {
			set, gone := commit(w, objects)
			deltas, step := g.Apply(set, gone)
			steps = append(steps, step)
			fresh := New()
			for _, o := range objects {
				fresh.Apply([]state.Object{o}, nil)
			}
			for h, held := range sets {
				sets[h] = follow(t, h, held, deltas[h], objects)
				past[h] = append(past[h], sets[h])
				want := sorted(watched(fresh, h))
				if got := sorted(g.Set(h)); !slices.Equal(got, want) {
					t.Fatalf("%s has %v, from scratch %v", h, got, want)
				}
				if len(sets[h]) != len(want) {
					t.Fatalf("%s was told %v, has %v", h, sets[h], want)
				}
				since := rapid.IntRange(0, len(steps)).Draw(t, "since")
				follow(t, h+" since", past[h][since], g.Since(h, steps[since:]), objects)
				for r, o := range sets[h] {
					if objects[r] != o {
						t.Fatalf("%s holds an old %v", h, r)
					}
				}
			}
		}
	})
}

func commit(w world, objects map[state.Ref]state.Object) (set []state.Object, gone []state.Ref) {
	for range rapid.IntRange(1, 4).Draw(w.t, "changes") {
		o := w.object()
		r := o.Ref()
		if slices.ContainsFunc(set, func(s state.Object) bool { return s.Ref() == r }) {
			continue
		}
		if _, there := objects[r]; there && rapid.IntRange(0, 2).Draw(w.t, "gone") == 0 {
			gone = append(gone, r)
			delete(objects, r)
			continue
		}
		set = append(set, o)
		objects[r] = o
	}
	return set, gone
}

// follow applies a delta to a set as an agent does. What is told must be news.
func follow(t *rapid.T, who string, held map[state.Ref]state.Object, d Delta, objects map[state.Ref]state.Object) map[state.Ref]state.Object {
	now := map[state.Ref]state.Object{}
	for r, o := range held {
		now[r] = o
	}
	for _, r := range d.Gone {
		if now[r] == nil {
			t.Fatalf("%s: %v is gone that was not there", who, r)
		}
		delete(now, r)
	}
	for _, r := range d.Set {
		if objects[r] == nil {
			t.Fatalf("%s: %v is set that is not there", who, r)
		}
		now[r] = objects[r]
	}
	return now
}
