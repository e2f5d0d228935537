package flows

import (
	"fmt"
	"slices"

	"github.com/headwater-cloud/headwater/agents/state"
)

// The rules. Their numbers stand in cookies: a number is never given to another rule.
const (
	ruleStatic   rule = 1  // what every host has
	rulePort     rule = 2  // a port that is plugged here: the way in
	ruleNetwork  rule = 3  // a network that ports here can reach
	rulePeer     rule = 4  // a port of such a network: how it is found
	ruleFlood    rule = 5  // the groups of such a network
	ruleServices rule = 6  // what the agent does in such a network
	ruleRouter   rule = 7  // a router that ports here can reach
	ruleNeighbor rule = 8  // what was learned of who has which address on a network
	ruleFloating rule = 9  // a floating IP
	ruleGateway  rule = 10 // a router's gateway
	ruleFence    rule = 11 // a plugged port's security groups
	ruleGroups   rule = 12 // a set of security groups that some plugged port has
	ruleGroup    rule = 13 // a security group
	ruleSet      rule = 14 // an address set, for one group and direction
	ruleLimit    rule = 15 // a plugged port's quality of service
	ruleExternal rule = 16 // how a network is joined to its physical network
	ruleSnat     rule = 17 // an address, or a block of its ports, that this host has a part in
	ruleAddress  rule = 18 // such an address as a whole
	ruleSender   rule = 19 // a host that sends here by tunnels
	ruleTap      rule = 32 // packets that are watched
	ruleLog      rule = 40 // records of what a set of groups, or a port's, let begin or drop
	ruleMirror   rule = 41 // the copies of a mirror
	ruleMirrored rule = 42 // a plugged port that has mirrors
	ruleClaimed  rule = 43 // an Ethernet address that ports of a network may have besides their own
	rulePart     rule = 20 // a part of an address set, for one group and direction
)

// about says what a rule does and which of the others it may need in a circle.
type about struct {
	name    string
	cycle   bool
	compile func(x *emitter, id string)
}

func (r rule) about() about {
	switch r {
	case ruleStatic:
		return about{"static", false, compileStatic}
	case rulePort:
		return about{"port", false, compilePort}
	case ruleNetwork:
		return about{"network", true, compileNetwork}
	case rulePeer:
		return about{"peer", false, compilePeer}
	case ruleFlood:
		return about{"flood", false, compileFlood}
	case ruleServices:
		return about{"services", false, compileServices}
	case ruleTap:
		return about{"tap", false, compileTap}
	case ruleLog:
		return about{"log", false, compileLog}
	case ruleMirror:
		return about{"mirror", false, compileMirror}
	case ruleMirrored:
		return about{"mirrored", false, compileMirrored}
	case ruleFence:
		return about{"fence", false, compileFence}
	case ruleGroups:
		return about{"groups", false, compileGroups}
	case ruleGroup:
		return about{"group", false, compileGroup}
	case ruleSet:
		return about{"set", false, compileSet}
	case rulePart:
		return about{"part", false, compilePart}
	case ruleRouter:
		return about{"router", true, compileRouter}
	case ruleNeighbor:
		return about{"neighbors", false, compileNeighbors}
	case ruleFloating:
		return about{"floating", false, compileFloating}
	case ruleGateway:
		return about{"gateway", false, compileGateway}
	case ruleExternal:
		return about{"external", false, compileExternal}
	case ruleSnat:
		return about{"snat", false, compileSnat}
	case ruleAddress:
		return about{"address", false, compileAddress}
	case ruleSender:
		return about{"sender", false, compileSender}
	case ruleClaimed:
		return about{"claimed", false, compileClaimed}
	case ruleLimit:
		return about{"limit", false, compileLimit}
	}
	return about{fmt.Sprintf("rule %d", uint8(r)), false, func(*emitter, string) {}}
}

func (r rule) mayCycle() bool                { return r.about().cycle }
func (r rule) compile(x *emitter, id string) { r.about().compile(x, id) }

// String is the name of the part of the compiler that makes the class's flows.
func (c Class) String() string { return rule(c).about().name }

// rootsOf are the units that an object calls for at a host by being there. Everything else is compiled because something needs it.
func rootsOf(host string, o state.Object) []unitKey {
	switch o := o.(type) {
	case *state.Host:
		return []unitKey{{ruleSender, o.ID}}
	case *state.Plug:
		return []unitKey{{rulePort, o.ID}}
	case *state.Mirror:
		return []unitKey{{ruleMirror, o.ID}}
	case *state.Tap:
		return []unitKey{{ruleTap, o.ID}}
	case *state.Router:
		if o.Gateway != nil && slices.Contains(o.Gateway.Hosts, host) {
			return []unitKey{{ruleRouter, o.ID}} // those that do not act as its gateway may have to
		}
	case *state.SnatAddress:
		if o.Host == host || o.Owner == host {
			return []unitKey{{ruleSnat, o.ID}}
		}
	}
	return nil
}
