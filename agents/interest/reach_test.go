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

// forwarding is what a host does with a packet from one of its ports, told by looking everything up in a set of objects. It is written with no thought of
// sections: what it finds in a host's set must be what it finds among all objects of the site.
type forwarding struct {
	objects map[state.Ref]state.Object
	host    string
	out     []string
}

func (f *forwarding) say(format string, args ...any) {
	f.out = append(f.out, fmt.Sprintf(format, args...))
}

func each[T state.Object](f *forwarding, visit func(T)) {
	for _, o := range f.objects {
		if x, ok := o.(T); ok {
			visit(x)
		}
	}
}

func (f *forwarding) port(id string) *state.Port {
	p, _ := f.objects[state.Ref{Kind: state.KindPort, ID: id}].(*state.Port)
	return p
}

func (f *forwarding) network(id string) *state.Network {
	n, _ := f.objects[state.Ref{Kind: state.KindNetwork, ID: id}].(*state.Network)
	return n
}

// deliver says all that decides how a packet gets to a port.
func (f *forwarding) deliver(p *state.Port) {
	f.say("port %v", *p)
	if parent := f.port(p.Parent); parent != nil {
		f.say("of %v on %v", *parent, f.objects[state.Ref{Kind: state.KindHost, ID: parent.Host}])
	}
	for _, h := range []string{p.Host, p.NextHost} {
		f.say("on %v", f.objects[state.Ref{Kind: state.KindHost, ID: h}])
	}
}

// answer says who answers for an address in a network. On a physical network those that are not here answer for themselves.
func (f *forwarding) answer(network string, dst netip.Addr, local bool) {
	n := f.network(network)
	f.say("network %v", n)
	each(f, func(s *state.Subnet) {
		if s.Network == network {
			f.say("subnet %v", *s)
		}
	})
	each(f, func(o *state.Neighbor) {
		if o.Network == network {
			f.say("neighbor %v", *o)
			if p := f.port(o.Port); p != nil {
				f.deliver(p)
			}
		}
	})
	if n == nil || n.Segment != state.Overlay && !local {
		return
	}
	each(f, func(p *state.Port) {
		if p.Network == network && slices.ContainsFunc(p.FixedIPs, func(x state.FixedIP) bool { return x.Address == dst }) {
			f.deliver(p)
		}
	})
	each(f, func(r *state.Router) {
		for _, i := range r.Interfaces {
			if i.Network == network && owns(i.Addresses, dst) {
				f.say("interface of %s %v", r.ID, i)
			}
		}
	})
	if n.Segment != state.Overlay {
		return
	}
	each(f, func(o *state.FloatingIP) {
		if o.Network == network && o.Address == dst {
			f.say("floating %v", *o)
			if p := f.port(o.Port); p != nil {
				f.deliver(p)
			}
		}
	})
	each(f, func(r *state.Router) {
		if r.Gateway != nil && r.Gateway.Network == network && owns(r.Gateway.Addresses, dst) {
			f.say("gateway of %s %v", r.ID, *r.Gateway)
		}
	})
	each(f, func(s *state.SnatAddress) {
		if s.Network == network {
			f.say("snat %v", *s)
		}
	})
}

func owns(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr() == a })
}

func holds(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// route is what a router does.
func (f *forwarding) route(r *state.Router, dst netip.Addr, hops int) {
	if hops == 0 {
		return
	}
	f.say("router %s", r.ID)
	each(f, func(o *state.FloatingIP) {
		if o.Router == r.ID {
			f.say("its floating %v", *o)
		}
	})
	for _, i := range r.Interfaces {
		if holds(i.Addresses, dst) {
			f.answer(i.Network, dst, true)
		}
	}
	for _, s := range r.Routes {
		if s.Destination.Contains(dst) {
			for _, next := range s.NextHops {
				f.pass(r, next, dst, hops)
			}
		}
	}
	if g := r.Gateway; g != nil {
		for _, next := range g.NextHops {
			f.answer(g.Network, next, false)
			f.pass(r, next, dst, hops)
		}
		for _, h := range g.Hosts {
			f.say("acts %v", f.objects[state.Ref{Kind: state.KindHost, ID: h}])
		}
	}
}

// pass hands a packet to the routers that own a next hop in one of the router's networks.
func (f *forwarding) pass(r *state.Router, next, dst netip.Addr, hops int) {
	networks := map[string]bool{}
	for _, i := range r.Interfaces {
		networks[i.Network] = true
	}
	if r.Gateway != nil {
		networks[r.Gateway.Network] = true
	}
	each(f, func(other *state.Router) {
		for _, i := range other.Interfaces {
			if networks[i.Network] && owns(i.Addresses, next) {
				f.route(other, dst, hops-1)
				return
			}
		}
		if g := other.Gateway; g != nil && networks[g.Network] && owns(g.Addresses, next) {
			f.route(other, dst, hops-1)
		}
	})
}

// packet is what becomes of a packet from a port to an address; the guest may hand it to any router of its network.
func (f *forwarding) packet(p *state.Port, dst netip.Addr) {
	for _, g := range p.SecurityGroups {
		if o, ok := f.objects[state.Ref{Kind: state.KindSecurityGroup, ID: g}].(*state.SecurityGroup); ok {
			f.say("group %v", *o)
			each(f, func(part *state.AddressSet) {
				if slices.ContainsFunc(o.Rules, func(r state.SecurityRule) bool { return r.RemoteSet == part.Set }) {
					f.say("part %v", *part)
				}
			})
		}
	}
	each(f, func(m *state.Mirror) {
		if target := f.port(m.Target); m.Port == p.ID || m.Target == p.ID {
			f.say("mirror %v", *m)
			if target != nil {
				f.deliver(target)
				f.say("network %v", f.network(target.Network))
			}
		}
	})
	each(f, func(l *state.SecurityLog) {
		if l.Covers(p) {
			f.say("log %v", *l)
		}
	})
	if p.Parent != "" {
		f.say("parent %v", f.port(p.Parent))
	}
	f.answer(p.Network, dst, true)
	each(f, func(r *state.Router) {
		enters := slices.ContainsFunc(r.Interfaces, func(i state.RouterInterface) bool { return i.Network == p.Network })
		if g := r.Gateway; g != nil && g.Network == p.Network {
			n := f.network(p.Network)
			enters = enters || g.Snat == state.SnatNone || n != nil && n.Segment == state.Overlay
		}
		if enters {
			f.route(r, dst, 4)
		}
	})
}

// verdict is all that decided, in a form that can be compared. What is said twice is the same.
func (f *forwarding) verdict() string {
	slices.Sort(f.out)
	return strings.Join(slices.Compact(f.out), "\n")
}

// What a host's set leaves out cannot matter: every packet that a port of the host sends fares the same by the host's set as by all objects of the site.
func TestSetSuffices(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := world{t}
		objects := map[state.Ref]state.Object{}
		g := New()
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			set, gone := commit(w, objects)
			g.Apply(set, gone)
		}
		for i := range 4 {
			host := fmt.Sprintf("h%d", i)
			part := map[state.Ref]state.Object{}
			for _, r := range watched(g, host) {
				part[r] = objects[r]
			}
			for _, o := range objects {
				p, ok := o.(*state.Port)
				if !ok || !p.On(host) {
					continue
				}
				dst := w.addr(w.id("net", 6))
				all, own := &forwarding{objects: objects, host: host}, &forwarding{objects: part, host: host}
				all.packet(p, dst)
				own.packet(p, dst)
				if a, b := all.verdict(), own.verdict(); a != b {
					t.Fatalf("%s, from %s to %s: with all objects\n%s\nwith its set\n%s", host, p.ID, dst, a, b)
				}
			}
		}
	})
}
