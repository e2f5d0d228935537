package apps

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/state"
)

// advisor finds something out about a packet, and leaves it in the case. Advisors run in their order, before any director.
type advisor func(*Case)

// director answers packets of some operations.
type director struct {
	name     string
	altitude int // higher ones are asked first
	ops      []flows.Op
	quick    bool                // it neither waits nor learns, nor looks at all of anything that may be large: it may run where packets are read
	direct   func(*Case) Outcome // Passed: not mine
}

// observer is told what became of each packet.
type observer func(c *Case, director string, o Outcome)

// chain is the way of a packet through the three kinds.
type chain struct {
	advisors  []advisor
	directors [256][]director // by operation, by falling altitude
	quick     [256]bool       // operations all of whose directors are
	observers []observer
	log       *slog.Logger
	told      sync.Map // directors whose panic was logged
}

func newChain(log *slog.Logger, advisors []advisor, directors []director, observers []observer) *chain {
	ch := &chain{log: log, advisors: advisors, observers: observers}
	for _, d := range directors {
		for _, op := range d.ops {
			ch.directors[op] = append(ch.directors[op], d)
		}
	}
	for op, list := range ch.directors {
		slices.SortStableFunc(list, func(a, b director) int { return b.altitude - a.altitude })
		ch.quick[op] = !slices.ContainsFunc(list, func(d director) bool { return !d.quick })
	}
	return ch
}

// answer sends a packet through the chain. The case holds what it gave.
func (ch *chain) answer(c *Case, p *Packet, v *state.View, now time.Time) Outcome {
	c.reset(p, v, now)
	for _, advise := range ch.advisors {
		advise(c)
	}
	name, outcome := "none", Passed
	for _, d := range ch.directors[p.Op] {
		if outcome = ch.ask(d, c); outcome != Passed {
			name = d.name
			break
		}
	}
	if outcome == Passed && p.Paused != nil {
		c.resume(p.Frame, p.Paused)
	}
	for _, observe := range ch.observers {
		observe(c, name, outcome)
	}
	return outcome
}

// ask contains a director's panic: a packet of one tenant must not end the services of all. It is logged the first time, and counted always.
func (ch *chain) ask(d director, c *Case) (o Outcome) {
	defer func() {
		if r := recover(); r != nil {
			o, c.Replies, c.Learned, c.Gone = Panicked, nil, nil, nil
			if _, again := ch.told.LoadOrStore(d.name, true); !again && ch.log != nil {
				ch.log.Error("packet director panicked", "kind", d.name, "err", fmt.Sprint(r), "frame", fmt.Sprintf("%x", c.Frame), "stack", string(debug.Stack()))
			}
		}
	}()
	return d.direct(c)
}

// findOwner is the advisor that finds the objects behind the packet's keys.
func findOwner(c *Case) {
	if c.Source != 0 {
		c.Port, _ = c.View.ByKey(state.KindPort, c.Source).(*state.Port)
	}
	if c.Network != 0 {
		c.Net, _ = c.View.ByKey(state.KindNetwork, c.Network).(*state.Network)
	}
	if c.Net == nil && c.Port != nil {
		c.Net = state.Find[*state.Network](c.View, c.Port.Network)
	}
	if c.Router != 0 {
		c.Gateway, _ = c.View.ByKey(state.KindRouter, c.Router).(*state.Router)
	}
}

// serviceSource is who speaks for a subnet to its guests: the router whose interface has the subnet's gateway, or else the host's agent.
func serviceSource(v *state.View, s *state.Subnet) state.MAC {
	for _, r := range routersOf(v, s.Network) {
		for i := range r.Interfaces {
			if in := &r.Interfaces[i]; in.Network == s.Network && hasAddress(in, s) {
				return in.MAC
			}
		}
	}
	return state.ServiceMAC
}

func hasAddress(in *state.RouterInterface, s *state.Subnet) bool {
	for _, p := range in.Addresses {
		if p.Addr() == s.Gateway {
			return true
		}
	}
	return false
}

func routersOf(v *state.View, network string) []*state.Router {
	return state.All[*state.Router](v, state.Index{List: state.ListRoutersOfNetwork, ID: network})
}
