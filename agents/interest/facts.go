package interest

import (
	"net/netip"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// node returns the node of a reference, made where there is none; nil for "".
func (g *Graph) node(k state.Kind, id string) *node {
	if id == "" {
		return nil
	}
	r := state.Ref{Kind: k, ID: id}
	n := g.nodes[r]
	if n == nil {
		n = &node{ref: r}
		g.nodes[r] = n
	}
	return n
}

func (g *Graph) nodesOf(k state.Kind, ids ...string) []*node {
	var out []*node
	for _, id := range ids {
		if n := g.node(k, id); n != nil {
			out = add(out, n)
		}
	}
	return out
}

// factsOf reads an object; nil for kinds that no host is sent.
func (g *Graph) factsOf(o state.Object) facts {
	switch o := o.(type) {
	case *state.Host:
		return hostFacts{g.everyone}
	case *state.Network:
		return networkFacts{o.Segment == state.Overlay}
	case *state.Subnet:
		return inNetwork{g.node(state.KindNetwork, o.Network), nil}
	case *state.Neighbor:
		return inNetwork{g.node(state.KindNetwork, o.Network), g.node(state.KindPort, o.Port)}
	case *state.Port:
		return &portFacts{g.node(state.KindNetwork, o.Network), g.nodesOf(state.KindHost, o.Host, o.NextHost),
			g.node(state.KindPort, o.Parent), g.nodesOf(state.KindSecurityGroup, o.SecurityGroups...), g.node(kindProject, o.Project)}
	case *state.Router:
		return g.routerFacts(o)
	case *state.FloatingIP:
		return &floatingFacts{g.node(state.KindNetwork, o.Network), g.node(state.KindRouter, o.Router), g.node(state.KindPort, o.Port)}
	case *state.SecurityGroup:
		f := &groupFacts{}
		for _, r := range o.Rules {
			if set := g.node(kindSet, r.RemoteSet); set != nil {
				f.sets = add(f.sets, set)
			}
		}
		return f
	case *state.Mirror:
		return mirrorFacts{g.node(state.KindPort, o.Port), g.node(state.KindPort, o.Target)}
	case *state.SecurityLog:
		switch {
		case o.Port != "":
			return logFacts{port: g.node(state.KindPort, o.Port)}
		case o.SecurityGroup != "":
			return logFacts{group: g.node(state.KindSecurityGroup, o.SecurityGroup)}
		}
		return logFacts{group: g.node(kindProject, o.Project)}
	case *state.AddressSet:
		return partFacts{g.node(kindSet, o.Set)}
	case *state.SnatAddress:
		return &snatFacts{g.node(state.KindNetwork, o.Network), g.node(state.KindRouter, o.Router), g.nodesOf(state.KindHost, o.Host, o.Owner)}
	}
	return nil
}

// routerFacts: a next hop is looked for in every network of the router. Addresses that two networks of one router share are
// nobody's plan, and one router more in a set does no harm.
func (g *Graph) routerFacts(o *state.Router) *routerFacts {
	f := &routerFacts{}
	networks := []*node{}
	owns := func(n *node, list []netip.Prefix) {
		networks = add(networks, n)
		for _, p := range list {
			f.owns = add(f.owns, hop{n, p.Addr()})
		}
	}
	for _, i := range o.Interfaces {
		n := g.node(state.KindNetwork, i.Network)
		f.interfaces = add(f.interfaces, n)
		owns(n, i.Addresses)
	}
	var next []netip.Addr
	if o.Gateway != nil {
		f.gateway = g.node(state.KindNetwork, o.Gateway.Network)
		f.open = o.Gateway.Snat == state.SnatNone
		f.acts = g.nodesOf(state.KindHost, o.Gateway.Hosts...)
		owns(f.gateway, o.Gateway.Addresses)
		next = slices.Clone(o.Gateway.NextHops)
	}
	for _, r := range o.Routes {
		next = append(next, r.NextHops...)
	}
	for _, n := range networks {
		for _, a := range next {
			f.wants = add(f.wants, hop{n, a})
		}
	}
	return f
}

// index is who owns or wants an address.
type index map[hop]map[*node]struct{}

func (x index) put(h hop, n *node) {
	if x[h] == nil {
		x[h] = map[*node]struct{}{}
	}
	x[h][n] = struct{}{}
}

func (x index) drop(h hop, n *node) {
	delete(x[h], n)
	if len(x[h]) == 0 {
		delete(x, h)
	}
}

// link enters what facts refer to, unlink takes it out.
func (g *Graph) link(n *node) {
	n.facts.refers(func(l link, to *node) {
		to.uses++
		if l == plain {
			return
		}
		back := &to.ext().back[l]
		if *back == nil {
			*back = map[*node]struct{}{}
		}
		(*back)[n] = struct{}{}
	})
	if r, ok := n.facts.(*routerFacts); ok {
		for _, h := range r.owns {
			g.owners.put(h, n)
		}
		for _, h := range r.wants {
			g.wanted.put(h, n)
		}
	}
}

func (g *Graph) unlink(n *node) {
	n.facts.refers(func(l link, to *node) {
		to.uses--
		g.batch.loose(to)
		if l != plain {
			delete(to.more.back[l], n)
		}
	})
	if r, ok := n.facts.(*routerFacts); ok {
		for _, h := range r.owns {
			g.owners.drop(h, n)
		}
		for _, h := range r.wants {
			g.wanted.drop(h, n)
		}
	}
}
