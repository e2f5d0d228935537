package apps

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/headwater-cloud/headwater/agents/state"
)

const dnsPort = 53

// dnsTTL is how long guests may keep an answer, in seconds: names come and go with ports.
const dnsTTL = 30

// namesOfPorts answers questions for the names and addresses of ports in the domain of the asker's network, whichever server they are put to. All
// else goes on to that server.
type namesOfPorts struct{}

func (namesOfPorts) direct(c *Case) Outcome {
	if c.UDP == nil || c.UDP.DstPort != dnsPort {
		return Passed
	}
	if c.Port == nil || c.Net == nil || c.Net.DNSDomain == "" {
		return Passed
	}
	var p dnsmessage.Parser
	head, err := p.Start(c.UDP.Payload)
	if err != nil || head.Response || head.OpCode != 0 {
		return Passed
	}
	q, err := p.Question()
	if err != nil || q.Class != dnsmessage.ClassINET {
		return Passed
	}
	if _, err := p.Question(); err == nil {
		return Passed // several at once: no server answers that
	}
	bodies, known := resolve(c, q)
	if !known {
		return Passed
	}
	payload, err := dnsAnswer(head, q, bodies, edns(&p))
	if err != nil {
		return Passed
	}
	e := ends{c.EthSrc, c.EthDst, c.Src, c.Dst}.back()
	c.toPort(c.write.datagram(e, dnsPort, uint16(c.UDP.SrcPort), payload))
	return Answered
}

// resolve looks a name up. known is false for one that is not a port's.
func resolve(c *Case, q dnsmessage.Question) (bodies []dnsmessage.ResourceBody, known bool) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if addr, ok := reverseName(name); ok {
		if q.Type != dnsmessage.TypePTR {
			return nil, false
		}
		p := portOf(c, addr)
		if p == nil {
			return nil, false
		}
		full, err := dnsmessage.NewName(hostName(p, addr) + "." + c.Net.DNSDomain + ".")
		return []dnsmessage.ResourceBody{&dnsmessage.PTRResource{PTR: full}}, err == nil
	}
	label, ok := strings.CutSuffix(name, "."+strings.ToLower(c.Net.DNSDomain))
	if !ok || strings.Contains(label, ".") {
		return nil, false
	}
	addrs := addressesOf(c, label)
	for _, a := range addrs {
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			bodies = append(bodies, &dnsmessage.AResource{A: a.As4()})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	return bodies, len(addrs) > 0 // of other types the name has nothing, which is an answer too
}

// addressesOf are those of the ports that have a name, of their own or made of an address.
func addressesOf(c *Case, label string) []netip.Addr {
	var out []netip.Addr
	for _, p := range state.All[*state.Port](c.View, state.Index{List: state.ListPortsOfName, ID: state.NameID(c.Net.ID, label)}) {
		for _, f := range p.FixedIPs {
			out = append(out, f.Address)
		}
	}
	text, ok := strings.CutPrefix(label, "host-")
	if len(out) > 0 || !ok {
		return out
	}
	for _, sep := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(text, "-", sep)); err == nil {
			if p := portOf(c, a); p != nil && p.DNSName == "" {
				return []netip.Addr{a}
			}
		}
	}
	return nil
}

// portOf is the port of the network that has an address. It looks at all of them: such questions are rare.
func portOf(c *Case, a netip.Addr) (found *state.Port) {
	c.View.Each(state.Index{List: state.ListPortsOfNetwork, ID: c.Net.ID}, state.KindPort, func(o state.Object) bool {
		p, _ := o.(*state.Port)
		if slices.ContainsFunc(p.FixedIPs, func(f state.FixedIP) bool { return f.Address == a }) {
			found = p
		}
		return found == nil
	})
	return found
}

// reverseName is the address in a name under in-addr.arpa or ip6.arpa.
func reverseName(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(s, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	digits := []byte(strings.ReplaceAll(s, ".", ""))
	slices.Reverse(digits)
	raw, err := hex.DecodeString(string(digits))
	if err != nil || len(raw) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(raw)), true
}

// edns says whether the question has an EDNS option, which the answer must have then too (RFC 6891 section 6.1.1).
func edns(p *dnsmessage.Parser) bool {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return false
		}
		if h.Type == dnsmessage.TypeOPT {
			return true
		}
		if p.SkipAdditional() != nil {
			return false
		}
	}
}

func dnsAnswer(head dnsmessage.Header, q dnsmessage.Question, bodies []dnsmessage.ResourceBody, edns bool) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	for _, b := range bodies {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: dnsTTL}, Body: b})
	}
	if edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(1232, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	return m.Pack()
}
