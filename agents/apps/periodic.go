package apps

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/state"
)

// timed does things of its own accord.
type timed interface {
	// due does what is due at c.Now and returns when something will be next; the zero time: nothing, until the state changes.
	due(c *Case) time.Time
}

// Unsolicited router advertisements (RFC 4861 section 6.2.4 and its constants), in seconds: after the first three, one in a random time between
// these two, which are those of Neutron's radvd.
const (
	minAdvertInterval     = 30
	maxAdvertInterval     = 100
	maxInitialInterval    = 16
	initialAdvertisements = 3
	finalAdvertisements   = 3
	minAdvertDelay        = 3
)

// advertiser sends router advertisements to each plugged port, each at its own times: they are for that port alone. What changes is told
// soon, and of a router that goes its end.
type advertiser struct {
	host string
	rand func() float64 // in [0, 1)

	mu     sync.Mutex // guards the fields below
	stale  bool       // the state has changed
	synced time.Time
	ports  map[uint32]*advertised
}

// syncEvery bounds how often all ports are looked at, however often the state changes: each change of a thousand would look at a thousand ports.
const syncEvery = time.Second

// advertised is a port that gets advertisements.
type advertised struct {
	network *state.Network
	frames  [][]byte // what it gets
	sent    int      // of what it gets now
	next    time.Time
}

func newAdvertiser(host string, random func() float64) *advertiser {
	if random == nil {
		random = rand.Float64
	}
	return &advertiser{host: host, rand: random, stale: true, ports: map[uint32]*advertised{}}
}

// changed has the ports read again, if one of the changes is about them.
func (a *advertiser) changed(changes []state.Change) {
	about := []state.Kind{state.KindNetwork, state.KindSubnet, state.KindPort, state.KindRouter, state.KindPlug}
	if slices.ContainsFunc(changes, func(c state.Change) bool { return slices.Contains(about, c.Ref.Kind) }) {
		a.mu.Lock()
		a.stale = true
		a.mu.Unlock()
	}
}

func (a *advertiser) due(c *Case) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var next time.Time
	if again := a.synced.Add(syncEvery); a.stale && c.Now.Before(again) {
		next = again
	} else if a.stale {
		a.stale, a.synced = false, c.Now
		a.sync(c)
	}
	for key, p := range a.ports {
		if !p.next.After(c.Now) {
			for _, f := range p.frames {
				c.sendPort(key, f)
			}
			p.sent++
			p.next = c.Now.Add(a.interval(p))
			if p.network == nil && p.sent >= finalAdvertisements {
				delete(a.ports, key)
				continue
			}
		}
		if next.IsZero() || p.next.Before(next) {
			next = p.next
		}
	}
	return next
}

func (a *advertiser) interval(p *advertised) time.Duration {
	if p.network == nil {
		return minAdvertDelay * time.Second
	}
	seconds := minAdvertInterval + a.rand()*(maxAdvertInterval-minAdvertInterval)
	if p.sent < initialAdvertisements {
		seconds = min(seconds, maxInitialInterval)
	}
	return time.Duration(seconds * float64(time.Second))
}

// sync makes the ports those that are plugged and get advertisements now.
func (a *advertiser) sync(c *Case) {
	frames, final := map[string][][]byte{}, map[string][][]byte{}
	seen := map[uint32]bool{}
	get := func(p *state.Port) {
		n := state.Find[*state.Network](c.View, p.Network)
		if n == nil || p.Down {
			return
		}
		if _, ok := frames[n.ID]; !ok {
			frames[n.ID] = advertisements(c.View, &c.write, n, allNodes(), multicastMAC(allNodes()), routerLifetime)
		}
		seen[p.Key] = true
		a.set(c.Now, p.Key, n, frames[n.ID], final)
	}
	c.View.Each(state.Index{List: state.ListAll, ID: state.KindPlug.String()}, state.KindPlug, func(o state.Object) bool {
		p := state.Find[*state.Port](c.View, o.Ref().ID)
		if p == nil || p.Down {
			return true
		}
		get(p)
		for _, sub := range state.All[*state.Port](c.View, state.Index{List: state.ListSubports, ID: p.ID}) {
			get(sub)
		}
		return true
	})
	for key := range a.ports {
		if !seen[key] {
			delete(a.ports, key)
		}
	}
}

// set says what a port gets from now on. Without a router any more, it gets the end of the one that it had (RFC 4861 section 6.2.5).
func (a *advertiser) set(now time.Time, key uint32, n *state.Network, frames [][]byte, final map[string][][]byte) {
	was := a.ports[key]
	switch {
	case len(frames) > 0 && was == nil:
		// Not all at once: a host may have just begun with a thousand ports.
		delay := time.Duration(a.rand() * minAdvertDelay * float64(time.Second) / 2)
		a.ports[key] = &advertised{network: n, frames: frames, next: now.Add(delay)}
	case len(frames) > 0:
		if was.network == nil || !slices.EqualFunc(was.frames, frames, slices.Equal[[]byte]) {
			was.sent, was.next = 0, now
		}
		was.network, was.frames = n, frames
	case was != nil && was.network != nil:
		if final[was.network.ID] == nil {
			for _, f := range was.frames {
				final[was.network.ID] = append(final[was.network.ID], ended(f))
			}
		}
		was.network, was.frames, was.sent, was.next = nil, final[was.network.ID], 0, now
	}
}

// ended is an advertisement whose router is none any more: with a lifetime of 0.
func ended(frame []byte) []byte {
	var h Headers
	out := slices.Clone(frame)
	h.decode(out)
	if len(h.Transport) < 8 {
		return out
	}
	h.Transport[6], h.Transport[7] = 0, 0
	h.Transport[2], h.Transport[3] = 0, 0
	sum := icmp6Sum(h.Src, h.Dst, h.Transport)
	h.Transport[2], h.Transport[3] = byte(sum>>8), byte(sum)
	return out
}
