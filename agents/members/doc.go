// Package members tells who is alive: a pool of the hosts of a site, and a pool of the gateways of all sites. Each member announces what the
// others need of it: the ends of its tunnels, whether it is a gateway, and how it is. Liveness travels by gossip between the members
// themselves, so that it does not depend on Top or a relay.
//
// What it promises:
//   - A View is one moment's knowledge of this member. The views of different members agree soon, never at every moment: whoever acts on
//     one copes with another member acting on an older one.
//   - A member is dead when it has answered nobody for a while, asked directly and through others. It says that the agent is gone: its
//     switch may go on forwarding.
//   - A host id is one member. Who claims one that another holds is told so and stays out; the holder stays.
//   - Pools that were cut apart find together again, however long it took.
//
// What is gossiped is encrypted and authenticated by a key that the members share. Whoever has the key is believed.
package members
