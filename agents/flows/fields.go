package flows

import (
	"fmt"
	"hash/fnv"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Table is a table of the switch. Packets only go up, so that the order of the numbers is that of the pipeline.
type Table uint8

// The tables. TableMap says what each is for.
const (
	TClassify    Table = 0
	TTrunk       Table = 1
	TTap         Table = 2
	TTunnelIn    Table = 3
	TSourcePPS   Table = 4
	TSourceL2    Table = 5
	TSourceIP    Table = 6
	TSourceRate  Table = 7
	TPuntClass   Table = 8
	TPuntAdmit   Table = 9
	TPunt        Table = 10
	TARP         Table = 12
	TNDPrepare   Table = 13
	TND          Table = 14
	TOutTrack    Table = 20
	TOutState    Table = 21
	TOutRules    Table = 22
	TOutCommit   Table = 23
	TRouterMAC   Table = 30
	TRouterIn    Table = 40
	TNatIn       Table = 41
	TNatBack     Table = 42
	TRoute       Table = 43
	TPolicy      Table = 44
	TNeighbor    Table = 45
	TSize        Table = 46
	TTooBig      Table = 47
	TNatOut      Table = 48
	TNatShared   Table = 49
	TRouterOut   Table = 50
	TRouterOwn   Table = 51
	TRouterAdmit Table = 52
	TRouterShare Table = 53
	TSwitch      Table = 60
	TLearned     Table = 61
	TForeign     Table = 64
	TDestination Table = 65
	TFlood       Table = 66
	TTunnel      Table = 67
	TInTrack     Table = 70
	TInState     Table = 71
	TInRules     Table = 72
	TInCommit    Table = 73
	TDestPPS     Table = 79
	TDestRate    Table = 80
	TTapOut      Table = 85
	TMirror      Table = 86
	TReply       Table = 88
	TOutput      Table = 90
	TCanary      Table = 200
)

// TableInfo says what a table is for.
type TableInfo struct {
	Table Table
	Name  string
	// Miss is what becomes of a packet that no flow of the table fits: the table where it goes on, or 0 and the reason of its drop. With neither, the table
	// only meters: flows that have something for the agent look packets up in it first, and go on.
	Miss   Table
	Reason string
	Doc    string
}

// TableMap is the pipeline. A flow of priority 0 in each table does what Miss and Reason say, and counts.
func TableMap() []TableInfo {
	return []TableInfo{
		{TClassify, "classify", 0, "unknown-port", "By where a packet comes from: its network and source port, the connection tracking zone of the port; of a tunnel, whether the sender is a host that is known."},
		{TTrunk, "trunk", 0, "unknown-vlan", "Of tagged packets from a trunk's parent: the subport; the tag is taken off."},
		{TTap, "tap", TSourcePPS, "", "Empty unless a trace or a mirror was asked for: copies what a port sends."},
		{TTunnelIn, "tunnel-in", 0, "unknown-tunnel", "Of what another host sent: what the tunnel's key names."},
		{TSourcePPS, "source-pps", TSourceL2, "", "Quality of service: packets a second from a port."},
		{TSourceL2, "source-l2", 0, "source-mac", "Port security: Ethernet source, sender addresses of ARP, link-layer addresses of neighbour discovery; what only routers and DHCP servers may say."},
		{TSourceIP, "source-ip", 0, "source-ip", "Port security: IP source, with allowed address pairs."},
		{TSourceRate, "source-rate", TPuntClass, "", "Quality of service: bits a second from a port, and the mark that its packets get."},
		{TPuntClass, "punt-class", TARP, "", "Which packets may need the agent: DHCP, router solicitations, metadata, DNS."},
		{TPuntAdmit, "punt-admit", TPunt, "", "The meter of each port for such packets."},
		{TPunt, "punt", TARP, "", "To the agent, where the network has the service; else on."},
		{TARP, "arp", TNDPrepare, "", "Answers to ARP requests for addresses that are known."},
		{TNDPrepare, "nd-prepare", TOutTrack, "", "Turns a neighbour solicitation for a known address into an advertisement."},
		{TND, "nd", 0, "nd", "Fills in the advertisement's options and sends it back. A table of its own, since its fields exist only once the type is that of an advertisement."},
		{TOutTrack, "out-track", 0, "out-ethertype", "What a guest with security groups sends: looks up its connection, or, where all its groups are stateless, goes to the rules. ARP, neighbour discovery, multicast listeners' reports and what a DHCP client says go on."},
		{TOutState, "out-state", TOutRules, "", "By the connection's state: answers, and errors about it, go on where it is not blocked; all else to the rules."},
		{TOutRules, "out-rules", 0, "out-denied", "The egress rules of the port's groups: conjunctions of the set of groups, what a rule says of the packet, and the addresses of a remote group. An established connection that none allows any more is marked blocked. What a log asks for is copied to the agent before it is dropped."},
		{TOutCommit, "out-commit", TRouterMAC, "", "Remembers an allowed connection and the rule that allowed it. What a log asks for is copied to the agent first."},
		{TRouterMAC, "router-mac", TSwitch, "", "To a router's own Ethernet address, or to that of a floating IP or of an address that sources are translated to: to the router; else switched."},
		{TRouterIn, "router-in", TNatIn, "", "Packets to the router itself, packets whose TTL ends, packets that no router passes on."},
		{TNatIn, "nat-in", TRoute, "", "Destinations that stand for others: floating IPs, and answers to what was translated."},
		{TNatBack, "nat-back", 0, "no-connection", "Answers to an address that several routers share: which router the connection is of."},
		{TRoute, "route", 0, "no-route", "The longest prefix: next hop and outgoing network. Several next hops by a group."},
		{TPolicy, "policy", TNeighbor, "", "Between the route and the neighbour: what a gateway on another host must do."},
		{TNeighbor, "neighbor", 0, "no-neighbor", "The next hop's Ethernet address and port. One that is not known is asked for by the agent, on networks where that helps."},
		{TSize, "size", TNatOut, "", "Whether the packet is too big for the network that it is routed to, where that takes less than others of the router."},
		{TTooBig, "too-big", TNatOut, "", "Packets that are too big go to the agent, which answers; their addresses are still those that their sender knows."},
		{TNatOut, "nat-out", TRouterOut, "", "Sources that are translated: floating IPs, and addresses shared by many."},
		{TNatShared, "nat-shared", TRouterOut, "", "The second translation of sources, where several routers share an address: the first has told the routers' connections apart."},
		{TRouterOut, "router-out", TDestination, "", "The router's Ethernet address, one from the TTL, and into the next network."},
		{TRouterOwn, "router-own", 0, "to-router", "What is for a router itself: echo requests are answered, what asks for a port is told that there is none."},
		{TRouterAdmit, "router-admit", 0, "", "The meters of what routers have for the agent: each port's own, and of what no port of this host has sent, each router's. A router's flow looks a packet up here before it sends it to the agent, and goes on in its own table."},
		{TRouterShare, "router-share", 0, "", "The same for what comes to a gateway from other hosts: one of the router's meters, by the packet's source."},
		{TSwitch, "switch", 0, "unknown-mac", "The Ethernet destination within the network: a port; of an address that several ports may have, the one that has it now, or each of them while that is not known; or all."},
		{TLearned, "learned", 0, "", "Where Ethernet addresses that no port has were last seen, on networks that learn; looked up from switch. Its flows are the switch's own: they go when nothing has come from an address for 5 minutes."},
		{TForeign, "foreign", TFlood, "", "To an Ethernet address that no port has, on a network that learns: where it was seen, or to all."},
		{TDestination, "destination", 0, "unknown-destination", "The destination port: on this host, or on another in a tunnel, or through the bridge of a physical network. The only table that a migration changes."},
		{TFlood, "flood", 0, "no-flood", "To all of a network: its ports here, and one copy for each other host that has some."},
		{TTunnel, "tunnel", 0, "no-tunnel", "Into the tunnel that the destination's host is reached by, with the port's key. What came out of a tunnel for a port that has moved goes on once, and says so in its key."},
		{TInTrack, "in-track", 0, "in-ethertype", "What a guest with security groups gets, as out-track; what a DHCP server says goes on."},
		{TInState, "in-state", TInRules, "", "As out-state."},
		{TInRules, "in-rules", 0, "in-denied", "The ingress rules of the port's groups, as out-rules."},
		{TInCommit, "in-commit", TDestPPS, "", "As out-commit."},
		{TDestPPS, "dest-pps", TDestRate, "", "Quality of service: packets a second to a port. What is flooded is another packet from here on for each port that has limits: they drop no copies for others."},
		{TDestRate, "dest-rate", TTapOut, "", "Quality of service: bits a second to a port."},
		{TTapOut, "tap-out", TOutput, "", "Empty unless a trace was asked for: copies what goes out."},
		{TMirror, "mirror", 0, "no-mirror", "Copies of mirrored packets: to the port that they are for, or to its host. What that port's network does not take is dropped."},
		{TReply, "reply", 0, "reply", "An answer that a flow made: back to where the question came from."},
		{TOutput, "output", 0, "not-plugged", "Out of the port in register 7; of a trunk's subport with its tag. What a mirrored port gets, answers of flows too, is copied first."},
		{TCanary, "canary", 0, "canary", "No packet comes here. Flows whose cookies say which epoch and layout the switch carries out."},
	}
}

// Layout is the number of the pipeline's layout: it goes up when a table's meaning changes, so that flows of the old and the new one do not mix.
const Layout = 1

// The registers and what they hold. Those that are not named are free within a table.
const (
	RFlags   = openflow.Reg0
	RSource  = openflow.Reg1 // key of the port that sent the packet; 0: none of this host
	RDest    = openflow.Reg2 // key of the port that gets it
	RNextHop = openflow.Reg3 // IPv4
	RScratch = openflow.Reg4
	ROutNet  = openflow.Reg5   // key of the network that a routed packet leaves to
	RZone    = openflow.Reg6   // connection tracking zone of the port at hand: the sender's up to TOutCommit, the receiver's from TDestination on
	ROFPort  = openflow.Reg7   // the switch's port that the packet leaves by
	RInRule  = openflow.Reg8   // conjunction that let the packet in
	ROutRule = openflow.Reg9   // conjunction that let the packet out
	ROrigin  = openflow.Reg10  // key of the port that sent the packet, also once RSource says nothing of it any more: whose meters count it
	RGroups  = openflow.Reg11  // the set of security groups of the port at hand
	RNextV6  = openflow.XXReg3 // next hop, IPv6: registers 12 to 15
)

// Bits of RFlags.
const (
	FlagTunnel    = 0 // came from another host
	FlagUplink    = 1 // came from a physical network
	FlagRouted    = 2 // a router passed it on
	FlagOnce      = 3 // came from another host that had it from a third: it goes to no fourth
	FlagPunt      = 4 // may need the agent
	FlagTooBig    = 5 // for the network that it is routed to
	FlagTrace     = 6
	FlagAgent     = 7  // the agent sent it
	FlagNatted    = 8  // its destination was translated here
	FlagSource    = 9  // its Ethernet source is that of the address that its source was translated to
	FlagTurn      = 10 // its destination on an external network is at this host too: it is routed once more
	FlagLearned   = 11 // its Ethernet destination was learned
	FlagApart     = 12 // what its receiver's limits drop is this packet only, and no copies for others
	FlagMirrorOut = 14 // copied, or a copy: what its port sent
	FlagMirrorIn  = 15 // copied, or a copy: what its port gets
	FlagLogOut    = 16 // looked up again behind a log of what its sender's groups say of it
	FlagLogIn     = 17 // the same of its receiver's
)

// ConjStateless is the bit of a conjunction's number that says that its group keeps no connections.
const ConjStateless = 1 << 31

// The metadata: the network in bits 0 to 31, the router in 32 to 52, the slot of a trace in 56 to 63.
const (
	MetaNetworkBits = 32
	MetaRouterFrom  = 32
	MetaRouterBits  = 21
	MetaTraceFrom   = 56
	MetaTraceBits   = 8
)

// Types of a tunnel's key, in bits 21 and 22; bit 23 says that the packet is traced, bits 0 to 20 are the key.
const (
	TunnelNetwork = 0 // to all of a network
	TunnelPort    = 1 // to a port
	TunnelRouter  = 2 // to a router, for its gateway
	TunnelMoved   = 3 // to a port, from the host where it was before

	TunnelTraceBit = 23
)

// TunnelKey is the key of a tunnel for something of a type.
func TunnelKey(kind int, key uint32) uint64 { return uint64(kind)<<21 | uint64(key) } //nolint:gosec // one of four types

// Bits of ct_mark. A connection is blocked in the direction in which it began.
const (
	MarkInBlocked  = 0 // no rule lets it in any more
	MarkOutBlocked = 1 // no rule lets it out any more
)

// Parts of ct_label: the conjunction that let the connection in, and the one that let it out.
const (
	LabelIn  = 0  // bits 0 to 31
	LabelOut = 32 // bits 32 to 63
)

// Op is the first byte of what a packet-in carries: what the agent is to do.
type Op uint8

// The operations. What follows the byte stands behind each.
const (
	OpDHCPv4      Op = 1 + iota
	OpDHCPv6         //
	OpSolicit        // router solicitation
	OpNeighbor       // the next hop, in RNextHop or RNextV6, has no known address on the network in ROutNet; the packet waits there
	OpTTL            // a router got a packet that ends here
	OpTooBig         // 2 bytes: the MTU that it does not fit into; its addresses are still those that its sender knows, but of answers to what was translated
	OpUnreachable    // 1 byte: the code of ICMP's destination unreachable (IPv4's)
	OpDNS            //
	OpMetadata       //
	OpAnnounce       // an address has moved: ARP or a neighbour advertisement from an allowed address pair, or of a host outside
	OpTrace          // 1 byte: where it was lifted; with TraceDrop 1 byte more: the table
	OpLog            // 2 bytes: LogAccept or LogDrop, LogIngress or LogEgress; the packet is cut off behind its headers
)

// Where a traced packet was lifted.
const (
	TraceIn   = 0 // where its port sent it
	TraceOut  = 1 // where it left the host: for another, or for the port that it is for
	TraceDrop = 2 // where no flow of a table would have it

	TraceArrived  = 3 // where it came from another host
	TraceAnswered = 4 // where a flow made an answer of it: the answer
)

// String is the operation in a word.
func (o Op) String() string {
	names := [...]string{OpDHCPv4: "dhcpv4", OpDHCPv6: "dhcpv6", OpSolicit: "solicit", OpNeighbor: "neighbor", OpTTL: "ttl", OpTooBig: "too-big",
		OpUnreachable: "unreachable", OpDNS: "dns", OpMetadata: "metadata", OpAnnounce: "announce", OpTrace: "trace", OpLog: "log"}
	if int(o) < len(names) && names[o] != "" {
		return names[o]
	}
	return fmt.Sprintf("operation %d", uint8(o))
}

// Priorities. Flows of a higher one win; what fits more closely stands higher within a table.
const (
	PMiss   = 0
	PLow    = 100
	PNormal = 1000
	PHigh   = 2000
	PTop    = 3000
)

// Class is what part of the compiler a flow is from. It stands in bits 40 to 47 of the flow's cookie.
type Class uint8

// Cookie is a flow's cookie: the epoch in bits 48 to 63, the class in 40 to 47, the kind of object in 32 to 39, and in 0 to 31
// a hash of the object's id.
type Cookie uint64

// Epoch is when the switch was last filled anew.
func (c Cookie) Epoch() uint16 { return uint16(c >> 48) } //nolint:gosec // the upper 16 bits

// Class is what part of the compiler the flow is from.
func (c Cookie) Class() Class { return Class(c >> 40) } //nolint:gosec // bits 40 to 47

// Kind is what the flow is about; 0: nothing of the state.
func (c Cookie) Kind() state.Kind { return state.Kind(c >> 32) } //nolint:gosec // bits 32 to 39

// Object is the Hash of the id of what the flow is about.
func (c Cookie) Object() uint32 { return uint32(c) } //nolint:gosec // bits 0 to 31

// WithEpoch is the cookie in an epoch.
func (c Cookie) WithEpoch(epoch uint16) Cookie { return c&^(0xffff<<48) | Cookie(epoch)<<48 }

// EpochMask selects the epoch of a cookie.
const EpochMask uint64 = 0xffff << 48

// Hash is a number of 32 bits, never 0, for some words: FNV-1a.
func Hash(words ...string) uint32 {
	h := fnv.New32a()
	for _, w := range words {
		_, _ = h.Write([]byte(w))
		_, _ = h.Write([]byte{0})
	}
	return max(h.Sum32(), 1)
}

// Numbers of groups: what a group is for in bits 28 to 31 (never 15: those are the switch's own), and below what it names.
const (
	GroupFlood      = 1 << 28 // network key: all of a network
	GroupFloodHere  = 2 << 28 // network key: its ports of this host
	GroupFloodChunk = 3 << 28 // network key and chunk: some of them
	GroupRoute      = 4 << 28 // number of router and destination: next hops
	GroupSnat       = 5 << 28 // router key: blocks of ports
	GroupHandOut    = 6 << 28 // number of network and address: the hosts that share it
	GroupFloodAway  = 7 << 28 // network key and chunk: some of the other hosts that it is on, where those are many

	groupBits = 1<<28 - 1
)

// Numbers of meters: the port's key and what the meter is for.
const (
	MeterPunt = 1 << 24 // port key: packets for the agent
	MeterIn   = 2 << 24 // port key: bits to the port
	MeterOut  = 3 << 24 // port key: bits from it
	MeterInP  = 4 << 24 // port key: packets to it
	MeterOutP = 5 << 24 // port key: packets from it
	MeterOp   = 6 << 24 // operation: packets for the agent that none of the others counts

	MeterRouted   = 7 << 24  // port key: what routers have for the agent of the port's packets
	MeterNames    = 8 << 24  // port key: questions for names
	MeterGateway  = 9 << 24  // router key, and in bits 21 to 23 the share: what it has for the agent of what other hosts sent to this one as its gateway
	MeterRouter   = 10 << 24 // router key: what it has for the agent of other packets that no port of this host has sent
	MeterAnnounce = 11 << 24 // network key: what is said outside of who has which address
	MeterLog      = 12 << 24 // number of what is logged: copies for the agent
)
