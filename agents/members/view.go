package members

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// ID names a member.
type ID struct {
	Site ident.SiteID
	Host string
}

// String is SITE/HOST.
func (id ID) String() string { return string(id.Site) + "/" + id.Host }

// Compare orders by site and then by host.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Site, other.Site), cmp.Compare(id.Host, other.Host))
}

// parseID reads what String writes.
func parseID(s string) (ID, bool) {
	site, host, _ := strings.Cut(s, "/") // a site's name has no slash
	return ID{ident.SiteID(site), host}, siteForm.MatchString(site) && hostForm.MatchString(host)
}

// State is whether a member is there.
type State uint8

// The states. Members that are suspected of being dead are Alive until the suspicion is confirmed, or refuted.
const (
	Alive State = iota
	Dead        // it answers nobody
	Left        // it said that it would go
)

// String is "alive", "dead" or "left".
func (s State) String() string { return [...]string{"alive", "dead", "left"}[s] }

// Member is what is known of one member. Its Ends must not be changed.
type Member struct {
	ID
	State State
	Since time.Time      // of State, by this host's clock
	At    netip.AddrPort // where it gossips from
	// Unreadable says that the member's announcement is of a later version, or damaged: it lives, and nothing else is known of it.
	Unreadable bool
	Meta
	Boot  uint64    // differs after each start of its program
	Bound time.Time // since when its machine has the host id, by its own word
}

// forwards reports whether the member does the work of a gateway, and whether it will for a while.
func (m *Member) forwards() (now, lasting bool) {
	now = m.State == Alive && m.Gateway && m.Health != Sick
	return now, now && m.Health == Healthy
}

// Conflict is a host id that two machines claim.
type Conflict struct {
	ID
	Holds  netip.AddrPort // who is the member
	Claims netip.AddrPort // who is not
	Since  time.Time
}

// View is what this member knows of the pool, itself included. It never changes.
type View struct {
	self      ID
	members   []Member   // sorted by ID
	conflicts []Conflict // sorted by ID, Claims
}

// Self is this member's own id.
func (v *View) Self() ID { return v.self }

// All is every member known, sorted by id, also those that died or left not long ago.
func (v *View) All() iter.Seq[Member] { return slices.Values(v.members) }

// Alive is the members that are alive, sorted by id.
func (v *View) Alive() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for i := range v.members {
			if v.members[i].State == Alive && !yield(v.members[i]) {
				return
			}
		}
	}
}

// Member returns the member of that id.
func (v *View) Member(id ID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.members, id, func(m Member, id ID) int { return m.ID.Compare(id) })
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Conflicts are the host ids that were claimed twice within the last minutes.
func (v *View) Conflicts() []Conflict { return slices.Clone(v.conflicts) }

// Ends are the tunnel ends of all members that are alive, the sick ones too: a switch forwards without its agent.
func (v *View) Ends() map[ID][]state.TunnelEnd {
	ends := make(map[ID][]state.TunnelEnd, len(v.members))
	for m := range v.Alive() {
		if len(m.Ends) > 0 {
			ends[m.ID] = m.Ends
		}
	}
	return ends
}

// Gateways are the gateways of a site that can be sent to: alive and not sick, and not leaving unless all are.
func (v *View) Gateways(site ident.SiteID) []Member {
	var now, lasting []Member
	for i := range v.members {
		if v.members[i].Site != site {
			continue
		}
		works, lasts := v.members[i].forwards()
		if works {
			now = append(now, v.members[i])
		}
		if lasts {
			lasting = append(lasting, v.members[i])
		}
	}
	if len(lasting) > 0 {
		return lasting
	}
	return now
}

// Forwarder is the designated forwarder of a network at a site: which of Gateways takes in what is sent to all of the network there.
func (v *View) Forwarder(site ident.SiteID, network uint32) (ID, bool) {
	return Forwarder(network, v.Gateways(site))
}
