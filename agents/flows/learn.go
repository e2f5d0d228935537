package flows

import (
	"encoding/binary"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

const (
	learnedFor  = 300  // seconds without a packet from an address; IEEE 802.1D has the same
	mostOutside = 4096 // addresses of one physical network
	mostBehind  = 64   // addresses behind one port
)

// learn remembers where the sender of a packet is, on the packet's network: what is sent to its Ethernet address gets a register with a number. Who has learned as many as he may learns no
// more until some are forgotten, and what he learned goes with the flow by which he did.
func (x *emitter) learn(about state.Ref, most uint32, register openflow.FieldID, number uint32) openflow.Action {
	return &openflow.Learn{
		Idle: learnedFor, Priority: PNormal, Table: uint8(TLearned), Cookie: uint64(x.cookie(about)), Flags: openflow.LearnDeleteLearned, Limit: most,
		Specs: []openflow.LearnSpec{
			{Kind: openflow.LearnMatch, From: openflow.Part{Field: openflow.Metadata, N: MetaNetworkBits}, To: openflow.Part{Field: openflow.Metadata, N: MetaNetworkBits}},
			{Kind: openflow.LearnMatch, From: openflow.Whole(openflow.EthSrc), To: openflow.Whole(openflow.EthDst)},
			{Kind: openflow.LearnLoad, Value: binary.BigEndian.AppendUint32(nil, number), To: openflow.Whole(register)},
			{Kind: openflow.LearnLoad, Value: []byte{0, 1}, To: openflow.Bit(RFlags, FlagLearned)},
		},
	}
}

// toLearned sends what is for nobody who is known, on a physical network that learns, to where its destination was seen: behind a port of this host, or outside. Only what was
// seen nowhere yet goes to all.
func toLearned(x *emitter, network *state.Network, uplink *state.Uplink) {
	in := inNetwork(network.Key)
	x.flow(network.Ref(), TSwitch, PLow, in, apply(set(RDest, 0), set(ROFPort, 0), load(RFlags, FlagLearned, 1, 0), lookUp(TLearned)), goTo(TForeign))
	seen := flagged(in, FlagLearned, true)
	outside := seen.Num(ROFPort, uint64(uplink.OFPort))
	x.flow(network.Ref(), TForeign, PNormal, seen.Num(ROFPort, 0), goTo(TDestination))
	x.flow(network.Ref(), TForeign, PNormal, flagged(outside, FlagUplink, false), goTo(TDestPPS))
	x.flow(Reason("unknown-mac"), TForeign, PNormal, flagged(outside, FlagUplink, true)) // a physical switch has forgotten where it is
}
