// Package interest says which objects of a site a host needs: those that can matter to a packet that a port on the host sends or gets, and no others.
// It is pure: changes in, what enters and leaves each host's set out.
//
// A host's set is made of sections, which hosts share: a network's own (the network, its subnets and neighbours, with the ports that those are behind), its ports and
// routers, a router's (with its floating IPs), a security group, the parts of an address set, all hosts of the site with the gateways between sites, and what is the host's
// alone. A host subscribes to sections and an object belongs to sections, so that nothing is kept for each pair of a host and an object, and
// a change goes to the subscribers of the object's sections.
//
// A host subscribes
//   - of each port that is on it, now or after its migration: to the port's network with all its ports, to its security groups, and to the address sets
//     that their rules name. A trunk's parent and its subports are on the same hosts, and the parent is where its subports are;
//   - to each router with an interface in such a network, or with a gateway there where packets may come in: one without SNAT, or
//     on a network whose packets travel in tunnels, which no other host answers for; or whose gateway the host may act as;
//   - of each router: to the networks of its interfaces, with all their ports; to its external network, without its ports: they answer for themselves
//     on the physical network; and to the routers that own a next hop of its routes in one of its networks. Routers that merely share
//     a network with it come as objects, for their addresses, and are not followed: packets from here do not get any further. This ends at the
//     longest way that a packet can take (MaxHops);
//   - of each network whose packets travel in tunnels: also to what answers there beside ports, which nobody else would say: floating IPs and
//     their ports, gateways of routers, addresses that hosts translate to;
//   - to the logs of what its ports' security groups let by and drop: those of a group come with the group, those of a port go where the port is, and those
//     of a project to the hosts that have ports of the project;
//   - to the mirrors of its ports' packets and to those for its ports: each comes with the port that gets the copies, and that port's network without what is in it;
//   - to the SNAT addresses that it uses or owns, and to all hosts: it takes from tunnels what they send and nothing else, and which of them may send
//     does not follow from what it sends itself.
package interest

import "github.com/headwater-cloud/headwater/agents/state"

// MaxHops is the length of the longest chain of routers that is followed: the most that a packet's hop limit allows (RFC 791, RFC 8200).
const MaxHops = 255

// Delta is what a change means to a host.
type Delta struct {
	Set  []state.Ref // has entered the host's set, or was in it and changed; in the order of Ref.Compare
	Gone []state.Ref // was in the host's set and is no more; in the same order
}

// kindSet is the kind of nodes that stand for whole address sets, whose parts are the objects.
const kindSet state.Kind = 255

// kindProject is the kind of nodes that stand for projects, which ports and logs are of.
const kindProject state.Kind = 254
