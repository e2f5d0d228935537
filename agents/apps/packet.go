package apps

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Packet is what the switch has sent up.
type Packet struct {
	Op      flows.Op
	Data    []byte     // behind the op, see there
	InPort  uint32     // of the switch
	Source  uint32     // key of the port that sent it; 0: none of this host
	Origin  uint32     // the same, also of a packet that is routed once more as if it had come back from outside
	Network uint32     // key of the network that it is in
	Router  uint32     // key of the router that has it; 0: none
	OutNet  uint32     // of flows.OpNeighbor: key of the network of the next hop
	NextHop netip.Addr // of flows.OpNeighbor
	Frame   []byte     // from the Ethernet header on; the packet's own
	// Paused is the packet-in of a packet that waits in the switch until it is resumed; nil: it has ended, and what becomes of it is ours.
	Paused *openflow.PacketIn2
}

// Target is where a Reply goes.
type Target uint8

// The targets.
const (
	ToPort    Target = iota // out of the switch, to the port with the key Reply.Port
	ToNetwork               // into the network with the key Reply.Network: to all of it, or to who has the Ethernet destination
	ToRouter                // to the router with the key Reply.Router, as if from the network Reply.Network, before it translates addresses
	ToResume                // on, from where Reply.Paused waits
)

// Reply is a frame and where it goes.
type Reply struct {
	To      Target
	Port    uint32
	Network uint32
	Router  uint32
	Frame   []byte
	Paused  *openflow.PacketIn2
}

// Outcome is what became of a packet.
type Outcome uint8

// The outcomes.
const (
	Passed    Outcome = iota // of a director: not mine. Of the chain: nobody answered, and the packet went on if it waited
	Answered                 // a reply was sent
	Noted                    // something was learned, or is under way
	Silent                   // by the protocol there is no answer
	Refused                  // the answer is no
	Malformed                // not a message that can be read
	Foreign                  // not of a port or a service that is here
	Limited                  // too many of them
	Panicked                 // a defect: see the log
	outcomes
)

// String is the outcome as metrics name it.
func (o Outcome) String() string {
	return [...]string{"passed", "answered", "noted", "silent", "refused", "malformed", "foreign", "limited", "panicked"}[o]
}

// Case is a packet, what the advisors found out about it, and what directors have made of it. It is valid while the chain runs.
type Case struct {
	Packet
	Headers

	View *state.View
	Now  time.Time

	Port    *state.Port    // that sent it; nil: none that is known
	Net     *state.Network // that it is in
	Gateway *state.Router  // the router that has it

	Replies []Reply
	Learned []state.Object // neighbours found
	Gone    []state.Ref    // and lost

	write writer
	four  question4
}

// reset makes the case one of another packet.
func (c *Case) reset(p *Packet, v *state.View, now time.Time) {
	c.View, c.Now, c.Port, c.Net, c.Gateway = v, now, nil, nil, nil
	clear(c.Replies)
	c.Replies, c.Learned, c.Gone = c.Replies[:0], nil, nil
	if p == nil {
		c.Packet = Packet{}
		c.Headers.clear()
		return
	}
	c.Packet = *p
	c.Headers.decode(p.Frame)
}

// party is who a packet counts against: the port that sent it, by its key, or of what no port of this host has sent, one of the shares of the router that
// has it. Which one the packet's source says, so that one guest of another host is not all of them.
type party uint32

const (
	afar       party = 1 << 31 // all that no port of this host has sent
	afarShares       = 8
)

// sender is the key of the port that the packet is of; 0: of none of this host.
func (p *Packet) sender() uint32 { return cmp.Or(p.Origin, p.Source) }

// party is the packet's.
func (c *Case) party() party {
	if by := c.sender(); by != 0 {
		return party(by)
	}
	h := fnv.New32a()
	a := c.Src.As16()
	_, _ = h.Write(a[:])
	return afar | party(c.Router*afarShares+h.Sum32()%afarShares)
}

// toPort answers the port that asked.
func (c *Case) toPort(frame []byte) { c.sendPort(c.Source, frame) }

func (c *Case) sendPort(key uint32, frame []byte) {
	c.Replies = append(c.Replies, Reply{To: ToPort, Port: key, Frame: frame})
}

func (c *Case) sendNetwork(key uint32, frame []byte) {
	c.Replies = append(c.Replies, Reply{To: ToNetwork, Network: key, Frame: frame})
}

// resume lets the packet go on, as the frame is now.
func (c *Case) resume(frame []byte, paused *openflow.PacketIn2) {
	c.Replies = append(c.Replies, Reply{To: ToResume, Frame: frame, Paused: paused})
}
