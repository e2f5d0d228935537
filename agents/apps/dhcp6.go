package apps

import (
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	dhcp6ServerPort = 547
	dhcp6ClientPort = 546
)

// dhcp6 is the DHCPv6 server of all subnets whose guests get addresses or options from one (RFC 9915). Like dhcp4 it keeps no leases.
type dhcp6 struct{ alarm *alarms }

// duid6 identifies the server. It is the same everywhere: a guest that has migrated renews with the server it knows.
func duid6() dhcpv6.DUID {
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: state.ServiceMAC.Bytes()}
}

// question6 is a message of a DHCPv6 client.
type question6 struct {
	*dhcpv6.Message
	own     []lease         // of stateful subnets
	subnets []*state.Subnet // those of the port's addresses that have DHCPv6
}

func (d *dhcp6) direct(c *Case) Outcome {
	if !c.Is6 || c.UDP == nil || c.UDP.DstPort != dhcp6ServerPort {
		return Passed
	}
	if c.Port == nil || c.Net == nil {
		return Foreign
	}
	q := &question6{}
	for _, l := range leases(c, func(s *state.Subnet) bool {
		return s.DHCP && s.CIDR.Addr().Is6() && s.AddressMode >= state.DHCPStateless
	}) {
		q.subnets = append(q.subnets, l.subnet)
		if l.subnet.AddressMode == state.DHCPStateful {
			q.own = append(q.own, l)
		}
	}
	if len(q.subnets) == 0 {
		return Passed
	}
	m, err := dhcpv6.FromBytes(c.UDP.Payload)
	if err != nil {
		return Malformed
	}
	message, ok := m.(*dhcpv6.Message)
	if !ok {
		return Foreign // a relay: its clients are no guests of ours
	}
	q.Message = message
	return d.answer(c, q)
}

// Which messages must name a server, and which must not (RFC 9915 section 16).
var (
	mustName6    = []dhcpv6.MessageType{dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeRelease}
	mustNotName6 = []dhcpv6.MessageType{dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind}
)

// valid is Passed for a message that may be answered.
func (q *question6) valid() Outcome {
	server, kind := q.Options.ServerID(), q.Type()
	switch {
	case q.Options.ClientID() == nil && kind != dhcpv6.MessageTypeInformationRequest:
		return Malformed
	case server == nil && slices.Contains(mustName6, kind), server != nil && slices.Contains(mustNotName6, kind):
		return Malformed
	case server != nil && !server.Equal(duid6()):
		return Silent
	case kind == dhcpv6.MessageTypeInformationRequest && (q.Options.OneIANA() != nil || q.Options.OneIATA() != nil || q.Options.OneIAPD() != nil):
		return Malformed
	}
	return Passed
}

func (d *dhcp6) answer(c *Case, q *question6) Outcome {
	if o := q.valid(); o != Passed {
		return o
	}
	r := &reply6{c: c, q: q, kind: dhcpv6.MessageTypeReply}
	switch q.Type() {
	case dhcpv6.MessageTypeSolicit:
		if q.Options.GetOne(dhcpv6.OptionRapidCommit) != nil {
			r.options.Add(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			r.kind = dhcpv6.MessageTypeAdvertise
			r.options.Add(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionPreference, OptionData: []byte{255}}) // no other is waited for
		}
		r.associations(r.assign)
	case dhcpv6.MessageTypeRequest:
		r.associations(r.assignOnLink)
	case dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		r.associations(r.renew)
	case dhcpv6.MessageTypeConfirm:
		return r.confirm()
	case dhcpv6.MessageTypeRelease:
		r.associations(r.release)
		r.status(iana.StatusSuccess, "released")
	case dhcpv6.MessageTypeDecline:
		d.alarm.raise(c, "dhcp address declined", "address", asked6(q))
		r.associations(r.release)
		r.status(iana.StatusSuccess, "noted")
	case dhcpv6.MessageTypeInformationRequest:
		r.refresh()
	default:
		return Malformed
	}
	r.configuration()
	r.send()
	return Answered
}

func asked6(q *question6) string {
	for _, ia := range q.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			return a.IPv6Addr.String()
		}
	}
	return ""
}

// reply6 is an answer under way.
type reply6 struct {
	c       *Case
	q       *question6
	kind    dhcpv6.MessageType
	options dhcpv6.Options
}

func status6(code iana.StatusCode, message string) dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: message}
}

func (r *reply6) status(code iana.StatusCode, message string) { r.options.Add(status6(code, message)) }

// associations answers each of the client's identity associations. All addresses go to the first; there are no temporary ones and no prefixes.
func (r *reply6) associations(answer func(ia *dhcpv6.OptIANA, first bool) dhcpv6.IdentityOptions) {
	for i, ia := range r.q.Options.IANA() {
		out := &dhcpv6.OptIANA{IaId: ia.IaId, Options: answer(ia, i == 0)}
		if l := r.lifetime(); i == 0 && len(r.q.own) > 0 && l != infinite6 {
			out.T1, out.T2 = l/2, l*4/5
		} else if l == infinite6 {
			out.T1, out.T2 = infinite6, infinite6
		}
		r.options.Add(out)
	}
	for _, ia := range r.q.Options.IATA() {
		out := &dhcpv6.OptIATA{IaId: ia.IaId}
		out.Options.Add(status6(iana.StatusNoAddrsAvail, "no temporary addresses here"))
		r.options.Add(out)
	}
	for _, ia := range r.q.Options.IAPD() {
		out := &dhcpv6.OptIAPD{IaId: ia.IaId}
		out.Options.Add(status6(iana.StatusNoPrefixAvail, "no prefixes here"))
		r.options.Add(out)
	}
}

// infinite6 is the lifetime of all ones (RFC 9915 section 7.7).
const infinite6 = time.Duration(0xffffffff) * time.Second

// lifetime is the shortest lease of the port's subnets.
func (r *reply6) lifetime() time.Duration {
	out := infinite6
	for _, s := range r.q.subnets {
		out = min(out, time.Duration(s.LeaseSeconds)*time.Second)
	}
	return out
}

// assign gives the first association all of the port's addresses.
func (r *reply6) assign(_ *dhcpv6.OptIANA, first bool) (out dhcpv6.IdentityOptions) {
	if !first || len(r.q.own) == 0 {
		out.Add(status6(iana.StatusNoAddrsAvail, "no more addresses for this port"))
		return out
	}
	for _, l := range r.q.own {
		t := time.Duration(l.subnet.LeaseSeconds) * time.Second
		out.Add(&dhcpv6.OptIAAddress{IPv6Addr: l.addr.AsSlice(), PreferredLifetime: t, ValidLifetime: t})
	}
	return out
}

// assignOnLink is assign, unless the client names an address that cannot be on its link (RFC 9915 section 18.3.2).
func (r *reply6) assignOnLink(ia *dhcpv6.OptIANA, first bool) (out dhcpv6.IdentityOptions) {
	for _, a := range ia.Options.Addresses() {
		if !r.onLink(a) {
			out.Add(status6(iana.StatusNotOnLink, "not an address of this network"))
			return out
		}
	}
	return r.assign(ia, first)
}

// renew gives the port's addresses, and takes those that are not its own any more (RFC 9915 sections 18.3.4 and 18.3.5).
func (r *reply6) renew(ia *dhcpv6.OptIANA, first bool) dhcpv6.IdentityOptions {
	out := r.assign(ia, first)
	for _, a := range ia.Options.Addresses() {
		if _, ok := r.find(a); !ok {
			out.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
		}
	}
	return out
}

// release says of which addresses there was no binding (RFC 9915 section 18.3.7).
func (r *reply6) release(ia *dhcpv6.OptIANA, _ bool) (out dhcpv6.IdentityOptions) {
	for _, a := range ia.Options.Addresses() {
		if _, ok := r.find(a); !ok {
			out.Add(status6(iana.StatusNoBinding, "not an address of this port"))
			return out
		}
	}
	out.Add(status6(iana.StatusSuccess, "released"))
	return out
}

// confirm says whether the client's addresses are of its link; without an address there is nothing to say (RFC 9915 section 18.3.3).
func (r *reply6) confirm() Outcome {
	found := false
	for _, ia := range r.q.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			if found = true; !r.onLink(a) {
				r.status(iana.StatusNotOnLink, "not an address of this network")
				r.send()
				return Refused
			}
		}
	}
	if !found {
		return Silent
	}
	r.status(iana.StatusSuccess, "all addresses are of this network")
	r.send()
	return Answered
}

func (r *reply6) find(a *dhcpv6.OptIAAddress) (lease, bool) {
	addr, _ := netip.AddrFromSlice(a.IPv6Addr)
	i := slices.IndexFunc(r.q.own, func(l lease) bool { return l.addr == addr })
	if i < 0 {
		return lease{}, false
	}
	return r.q.own[i], true
}

func (r *reply6) onLink(a *dhcpv6.OptIAAddress) bool {
	addr, _ := netip.AddrFromSlice(a.IPv6Addr)
	return slices.ContainsFunc(r.q.subnets, func(s *state.Subnet) bool { return s.CIDR.Contains(addr) })
}

// refresh says when a client without a lease should ask again (RFC 9915 section 21.23; at least 600 s).
func (r *reply6) refresh() {
	seconds := max(600, uint32(min(r.lifetime(), infinite6)/time.Second)) //nolint:gosec // at most 2^32-1
	if r.q.IsOptionRequested(dhcpv6.OptionInformationRefreshTime) {
		r.options.Add(dhcpv6.OptInformationRefreshTime(time.Duration(seconds) * time.Second))
	}
}

// configuration adds what the client asked for, and what the port's owner chose.
func (r *reply6) configuration() {
	chosen := map[dhcpv6.OptionCode]bool{}
	for _, x := range r.c.Port.DHCPOptions {
		code := dhcpv6.OptionCode(x.Code)
		if !x.V6 || code <= dhcpv6.OptionServerID || code == dhcpv6.OptionRapidCommit || chosen[code] {
			continue
		}
		if value, err := encodeOption(optionForms6, x); err == nil {
			chosen[code] = true
			r.options.Del(code)
			r.options.Add(&dhcpv6.OptionGeneric{OptionCode: code, OptionData: value})
		}
	}
	add := func(code dhcpv6.OptionCode, value []byte) {
		if len(value) > 0 && !chosen[code] && r.q.IsOptionRequested(code) {
			r.options.Add(&dhcpv6.OptionGeneric{OptionCode: code, OptionData: value})
		}
	}
	var servers []byte
	for _, a := range servers6(r.q.subnets) {
		servers = append(servers, a.AsSlice()...)
	}
	domain := r.c.Net.DNSDomain
	add(dhcpv6.OptionDNSRecursiveNameServer, servers)
	add(dhcpv6.OptionDomainSearchList, encodeNames(domain))
	if r.c.Port.DNSName != "" && domain != "" {
		add(dhcpv6.OptionFQDN, append([]byte{2}, encodeNames(r.c.Port.DNSName+"."+domain)...)) // the server decides (RFC 4704)
	}
}

// servers6 are the IPv6 name servers of some subnets, each once.
func servers6(subnets []*state.Subnet) []netip.Addr {
	var out []netip.Addr
	for _, s := range subnets {
		for _, a := range s.DNSServers {
			if a.Is6() && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (r *reply6) send() {
	m := &dhcpv6.Message{MessageType: r.kind, TransactionID: r.q.TransactionID}
	if id := r.q.Options.GetOne(dhcpv6.OptionClientID); id != nil {
		m.AddOption(id)
	}
	m.AddOption(dhcpv6.OptServerID(duid6()))
	for _, o := range r.options {
		m.AddOption(o)
	}
	// The client's port is its source port as a rule, but it listens at 546 (RFC 9915 section 7.2).
	e := ends{state.ServiceMAC, r.c.EthSrc, state.ServiceMAC.LinkLocal(), r.c.Src}
	r.c.toPort(r.c.write.datagram(e, dhcp6ServerPort, dhcp6ClientPort, m.ToBytes()))
}
