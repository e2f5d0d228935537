package state

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Change is one object that is made, changed or gone. Old and New are nil where there is none; never both.
type Change struct {
	Ref      Ref
	Old, New Object
}

// Index names a list of objects that have something in common, such as the ports of a network. A list changes when an object enters or leaves it.
type Index struct {
	List List
	ID   string
}

// List is what the objects of an index have in common.
type List uint8

// The lists. Each says what its ID is.
const (
	ListAll                List = iota // all of a kind; Kind.String()
	ListPortsOfNetwork                 // network
	ListPortsOfHost                    // host: plugged there now, or after their migration
	ListPortsOnHost                    // OnHost(network, host): those of the network that are plugged at the host, now or after their migration
	ListPortsOfGroup                   // security group
	ListSubports                       // parent port
	ListSubnetsOfNetwork               // network
	ListRoutersOfNetwork               // network: with an interface there, or their gateway
	ListFloatingOfPort                 // port
	ListFloatingOfRouter               // router
	ListFloatingOfNetwork              // external network
	ListPartsOfSet                     // address set
	ListGroupsOfSet                    // address set: security groups with a rule that names it
	ListSnatOfNetwork                  // external network
	ListSnatOnHost                     // OnHost(external network, host): what the host translates to
	ListSnatOfAddress                  // AtAddress(external network, address): its blocks
	ListNeighborsOfNetwork             // network
	ListNetworksOfPhysical             // physical network
	ListHostsOfSite                    // site
	ListPortsOfName                    // NameID of network and DNS name
	ListHostsOfNetwork                 // network: hosts that have ports of it, now or after their migration
	ListLogsOfPort                     // port: logs of it
	ListLogsOfGroup                    // security group: logs of it that name no port
	ListLogsOfProject                  // project: logs of it that name no port and no security group
	ListMirrorsOfPort                  // port: mirrors of its packets
	ListPortsOfMAC                     // WithMAC(network, address): ports that have the address in their allowed address pairs, and not for their own
	ListNeighborsOfPort                // port: addresses that it has announced
)

// OnHost is the id of a list of ports of a network on a host.
func OnHost(network, host string) string { return network + "@" + host }

// NameID is the ID of ListPortsOfName: names are the same whatever the case of their letters.
func NameID(network, name string) string { return network + " " + strings.ToLower(name) }

// WithMAC is the id of a list of what has an Ethernet address on a network.
func WithMAC(network string, mac MAC) string { return network + "@" + mac.String() }

// AtAddress is the id of a list of what has an address on a network.
func AtAddress(network string, a netip.Addr) string { return network + "@" + a.String() }

// indexesOf are the lists that an object is in. The order does not matter; none stands twice.
func indexesOf(o Object) []Index {
	out := []Index{{ListAll, o.Ref().Kind.String()}}
	add := func(l List, id string) {
		if x := (Index{l, id}); id != "" && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	switch o := o.(type) {
	case *Host:
		add(ListHostsOfSite, o.Site)
	case *Network:
		add(ListNetworksOfPhysical, o.Physical)
	case *Subnet:
		add(ListSubnetsOfNetwork, o.Network)
	case *Port:
		add(ListPortsOfNetwork, o.Network)
		add(ListPortsOfHost, o.Host)
		add(ListPortsOfHost, o.NextHost)
		for _, h := range []string{o.Host, o.NextHost} {
			if h != "" {
				add(ListPortsOnHost, OnHost(o.Network, h))
			}
		}
		add(ListSubports, o.Parent)
		if o.DNSName != "" {
			add(ListPortsOfName, NameID(o.Network, o.DNSName))
		}
		for _, g := range o.SecurityGroups {
			add(ListPortsOfGroup, g)
		}
		for _, a := range o.AllowedPairs {
			if a.MAC != o.MAC {
				add(ListPortsOfMAC, WithMAC(o.Network, a.MAC))
			}
		}
	case *Router:
		for _, i := range o.Interfaces {
			add(ListRoutersOfNetwork, i.Network)
		}
		if o.Gateway != nil {
			add(ListRoutersOfNetwork, o.Gateway.Network)
		}
	case *FloatingIP:
		add(ListFloatingOfPort, o.Port)
		add(ListFloatingOfRouter, o.Router)
		add(ListFloatingOfNetwork, o.Network)
	case *SecurityGroup:
		for _, r := range o.Rules {
			add(ListGroupsOfSet, r.RemoteSet)
		}
	case *AddressSet:
		add(ListPartsOfSet, o.Set)
	case *SnatAddress:
		add(ListSnatOfNetwork, o.Network)
		add(ListSnatOnHost, OnHost(o.Network, o.Host))
		add(ListSnatOfAddress, AtAddress(o.Network, o.Address))
	case *Neighbor:
		add(ListNeighborsOfNetwork, o.Network)
		add(ListNeighborsOfPort, o.Port)
	case *SecurityLog:
		add(o.list())
	case *Mirror:
		add(ListMirrorsOfPort, o.Port)
	}
	return out
}

// Store holds the objects and the lists that they are in. Its methods may be called at the same time; what Read hands out holds
// as long as the function that got it runs.
type Store struct {
	mu   sync.RWMutex // guards the fields below
	view View
}

// View is the store at one moment.
type View struct {
	objects map[Ref]Object
	lists   map[Index]map[string]struct{}
	keys    map[keyOf]string
}

type keyOf struct {
	kind Kind
	key  uint32
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{view: View{objects: map[Ref]Object{}, lists: map[Index]map[string]struct{}{}, keys: map[keyOf]string{}}}
}

// Copy returns a store of its own with the same objects, for who reads for long.
func (s *Store) Copy() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := NewStore()
	out.view.objects, out.view.keys = maps.Clone(s.view.objects), maps.Clone(s.view.keys)
	for index, members := range s.view.lists {
		out.view.lists[index] = maps.Clone(members)
	}
	return out
}

// Read calls f with all that is there. f must not call the store.
func (s *Store) Read(f func(*View)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f(&s.view)
}

// Apply makes and changes the objects of set and takes those of gone away, at once, and returns what has changed, in the order of Ref.Compare.
// Both may name an object: then set holds. It is idempotent.
func (s *Store) Apply(set []Object, gone []Ref) []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := map[Ref]Change{}
	for _, r := range gone {
		if old := s.view.objects[r]; old != nil {
			s.view.remove(old)
			changes[r] = Change{r, old, nil}
		}
	}
	for _, o := range set {
		r := o.Ref()
		c, ok := changes[r]
		if !ok {
			c = Change{Ref: r, Old: s.view.objects[r]}
		}
		if now := s.view.objects[r]; now != nil {
			s.view.remove(now)
		}
		s.view.add(o)
		c.New = o
		changes[r] = c
	}
	out := make([]Change, 0, len(changes))
	for _, c := range changes {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int { return a.Ref.Compare(b.Ref) })
	return out
}

// Replace makes the store hold exactly the objects of set, of the kinds below Plug or from it on (local), and returns what has changed.
func (s *Store) Replace(set []Object, local bool) []Change {
	var gone []Ref
	s.Read(func(v *View) {
		for r := range v.objects {
			if r.Kind >= KindPlug == local {
				gone = append(gone, r)
			}
		}
	})
	return s.Apply(set, gone)
}

func (v *View) add(o Object) {
	r := o.Ref()
	v.objects[r] = o
	for _, x := range indexesOf(o) {
		v.enter(x, r.ID)
	}
	if k := keyed(o); k != 0 {
		v.keys[keyOf{r.Kind, k}] = r.ID
	}
}

func (v *View) remove(o Object) {
	r := o.Ref()
	delete(v.objects, r)
	for _, x := range indexesOf(o) {
		v.leave(x, r.ID)
	}
	if k := (keyOf{r.Kind, keyed(o)}); v.keys[k] == r.ID {
		delete(v.keys, k)
	}
}

func (v *View) enter(x Index, id string) {
	if v.lists[x] == nil {
		v.lists[x] = map[string]struct{}{}
		if hosts, host := hostsOf(x); host != "" {
			v.enter(hosts, host)
		}
	}
	v.lists[x][id] = struct{}{}
}

func (v *View) leave(x Index, id string) {
	if delete(v.lists[x], id); len(v.lists[x]) > 0 {
		return
	}
	delete(v.lists, x)
	if hosts, host := hostsOf(x); host != "" {
		v.leave(hosts, host)
	}
}

// hostsOf is the list of hosts that a list of a network's ports on a host puts that host into; no other list does.
func hostsOf(x Index) (hosts Index, host string) {
	if x.List != ListPortsOnHost {
		return Index{}, ""
	}
	network, host, _ := strings.Cut(x.ID, "@")
	return Index{ListHostsOfNetwork, network}, host
}

func keyed(o Object) uint32 {
	switch o := o.(type) {
	case *Host:
		return o.Key
	case *Network:
		return o.Key
	case *Port:
		return o.Key
	case *Router:
		return o.Key
	}
	return 0
}

// Get returns an object, or nil.
func (v *View) Get(r Ref) Object { return v.objects[r] }

// Len is the number of objects.
func (v *View) Len() int { return len(v.objects) }

// IDs are the ids of a list, sorted.
func (v *View) IDs(x Index) []string {
	out := make([]string, 0, len(v.lists[x]))
	for id := range v.lists[x] {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// Each calls f with the objects of a list, in no order, until f returns false.
func (v *View) Each(x Index, kind Kind, f func(Object) bool) {
	for id := range v.lists[x] {
		if o := v.objects[Ref{kind, id}]; o != nil && !f(o) {
			return
		}
	}
}

// Has says whether a list has any member.
func (v *View) Has(x Index) bool { return len(v.lists[x]) > 0 }

// Members are the ids of a list, in no order.
func (v *View) Members(x Index) iter.Seq[string] { return maps.Keys(v.lists[x]) }

// ByKey returns the object of a kind that has a key, or nil.
func (v *View) ByKey(k Kind, key uint32) Object { return v.objects[Ref{k, v.keys[keyOf{k, key}]}] }

// Find returns the object of a reference as its type, or nil: Find[*Port](v, id).
func Find[T Object](v *View, id string) T {
	var zero T
	o, _ := v.objects[Ref{kindOf[T](), id}].(T)
	if any(o) == nil {
		return zero
	}
	return o
}

// All are the objects of a list, sorted by id: All[*Port](v, Index{ListPortsOfNetwork, id}).
func All[T Object](v *View, x Index) []T {
	ids := v.IDs(x)
	out := make([]T, 0, len(ids))
	for _, id := range ids {
		if o, ok := v.objects[Ref{kindOf[T](), id}].(T); ok {
			out = append(out, o)
		}
	}
	return out
}

func kindOf[T Object]() Kind {
	var zero T
	switch any(zero).(type) {
	case *Host:
		return KindHost
	case *Network:
		return KindNetwork
	case *Subnet:
		return KindSubnet
	case *Port:
		return KindPort
	case *Router:
		return KindRouter
	case *FloatingIP:
		return KindFloatingIP
	case *SecurityGroup:
		return KindSecurityGroup
	case *AddressSet:
		return KindAddressSet
	case *SnatAddress:
		return KindSnatAddress
	case *Neighbor:
		return KindNeighbor
	case *SecurityLog:
		return KindSecurityLog
	case *Mirror:
		return KindMirror
	case *Plug:
		return KindPlug
	case *Uplink:
		return KindUplink
	case *Tunnel:
		return KindTunnel
	case *Zone:
		return KindZone
	case *Tap:
		return KindTap
	case *Down:
		return KindDown
	}
	return 0
}

// KindOf is the kind of a type of objects.
func KindOf[T Object]() Kind { return kindOf[T]() }

// Touched are the lists whose members a change has changed, or may have.
func (c Change) Touched() []Index {
	var old, now []Index
	if c.Old != nil {
		old = indexesOf(c.Old)
	}
	if c.New != nil {
		now = indexesOf(c.New)
	}
	var out []Index
	add := func(list, except []Index) {
		for _, x := range list {
			if slices.Contains(except, x) {
				continue
			}
			out = append(out, x)
			if hosts, host := hostsOf(x); host != "" && !slices.Contains(out, hosts) {
				out = append(out, hosts)
			}
		}
	}
	add(old, now)
	add(now, old)
	slices.SortFunc(out, func(a, b Index) int { return cmp.Or(cmp.Compare(a.List, b.List), cmp.Compare(a.ID, b.ID)) })
	return out
}
