package trace

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Mode is which real packet is followed.
type Mode string

// The modes.
const (
	Probe Mode = "probe" // one that is sent as if the port had
	Watch Mode = "watch" // the next that the port itself sends
	Off   Mode = "off"   // none
)

// Question is what a trace is to find out: where a packet goes that a port sends to an address.
type Question struct {
	Port        string     `json:"port"`
	To          netip.Addr `json:"to"`
	From        netip.Addr `json:"from,omitzero"`      // the port's first address of the family
	Proto       int        `json:"proto,omitempty"`    // 0: a ping; with Watch, anything
	SrcPort     uint16     `json:"src_port,omitempty"` // 0: any; with Probe one that is not in use, as a rule
	DstPort     uint16     `json:"dst_port,omitempty"`
	TTL         uint8      `json:"ttl,omitempty"`
	Length      int        `json:"length,omitempty"`
	Established bool       `json:"established,omitempty"`

	Live  Mode          `json:"live,omitempty"`  // "": Probe
	Count int           `json:"count,omitempty"` // with Watch, how many packets: 0 is 1
	Wait  time.Duration `json:"wait,omitempty"`  // how long a packet may take; 0: 5 s, or with Watch 30 s
}

// maxWait and maxCount bound what one question costs the hosts.
const (
	maxWait  = 10 * time.Minute
	maxCount = 1000
)

func (q *Question) defaults() error {
	switch q.Live {
	case "":
		q.Live = Probe
	case Probe, Watch, Off:
	default:
		return fault.New(fault.BadRequest, "", "%q is no way to follow a real packet: there are %s, %s and %s", q.Live, Probe, Watch, Off)
	}
	if q.Live == Probe && q.Established {
		return fault.New(fault.BadRequest, "", "a packet that is sent begins a connection: established goes with %s or %s", Watch, Off)
	}
	if q.Wait == 0 {
		if q.Wait = 5 * time.Second; q.Live == Watch {
			q.Wait = 30 * time.Second
		}
	}
	if q.Wait < 0 || q.Wait > maxWait || q.Count < 0 || q.Count > maxCount {
		return fault.New(fault.BadRequest, "", "a trace waits at most %s, for at most %d packets", maxWait, maxCount)
	}
	q.To, q.Count = q.To.Unmap(), max(q.Count, 1)
	if !q.To.IsValid() {
		return fault.New(fault.BadRequest, "", "the address that the packet is sent to is missing")
	}
	return nil
}

// packet is the packet that is asked about.
func (q *Question) packet(v *state.View) (Packet, error) {
	p := Packet{Src: q.From.Unmap(), Proto: q.Proto, SrcPort: q.SrcPort, DstPort: q.DstPort, TTL: q.TTL, Length: q.Length, Established: q.Established}
	if q.Proto == ICMPv6 || q.Proto == ICMP {
		p.Proto = 0 // an echo request of the family
	}
	switch {
	case p.Proto != TCP && p.Proto != UDP && p.Proto != SCTP:
		p.SrcPort, p.DstPort = 0, 0
	case p.SrcPort == 0: // a connection that no switch knows from a trace before
		p.SrcPort = uint16(32768 + mathrand.IntN(28232)) //nolint:gosec // nobody gains by guessing it
	}
	p, err := Compose(v, q.Port, q.To, p)
	if err != nil {
		return p, fault.Wrap(fault.BadRequest, "", err)
	}
	return p, nil
}

// Run follows a packet in three ways, which share nothing: by the state that store holds, by what the switches say that they would do, and by what they do with a real
// packet. Where these differ, the report names the layer that is at fault. store must not change meanwhile: it is a copy.
func Run(ctx context.Context, a Asker, store *state.Store, q Question) (*Report, error) {
	if err := q.defaults(); err != nil {
		return nil, err
	}
	var out *Report
	var err error
	store.Read(func(v *state.View) {
		t := &tracer{q: q, v: v, hosts: hosts{asker: a, known: map[string]*remote{}, unasked: map[string]string{}}, r: &Report{Port: q.Port, To: q.To.String(), Mode: q.Live}}
		out, err = t.r, t.run(ctx)
	})
	return out, err
}

// tracer answers one question.
type tracer struct {
	q      Question
	v      *state.View
	hosts  hosts
	origin string
	p      Packet
	r      *Report

	told   string // the constant part of the packet that was watched for, and asked about
	waited int
}

func (t *tracer) run(ctx context.Context) error {
	src := state.Find[*state.Port](t.v, t.q.Port)
	if src == nil || src.Host == "" {
		return fault.New(fault.NotFound, "", "port %s: there is none in the state that this was asked of, or it is plugged nowhere", t.q.Port)
	}
	t.origin = src.Host
	if t.hosts.one(ctx, t.origin) == nil {
		return fault.New(fault.Unavailable, "", "port %s is on host %s, which cannot be asked: %s", t.q.Port, t.origin, t.hosts.unasked[t.origin])
	}
	var err error
	if t.p, err = t.q.packet(t.v); err != nil {
		return err
	}
	if err := t.foretell(ctx); err != nil {
		return err
	}
	switch t.q.Live {
	case Probe:
		err = t.probe(ctx)
	case Watch:
		err = t.watch(ctx)
	}
	if err == nil {
		err = t.foretellLater(ctx)
	}
	t.r.Unasked = t.hosts.unasked
	t.r.judge(t.q.Port)
	return err
}

// foretell is what should happen and what would.
func (t *tracer) foretell(ctx context.Context) error {
	t.r.Packet = t.p.Text()
	simulated, err := Simulate(t.v, t.q.Port, t.p)
	if err != nil {
		return err
	}
	checked, err := Check(ctx, t.v, func(host string) Switch {
		if r := t.hosts.one(ctx, host); r != nil {
			return r
		}
		return nil
	}, t.q.Port, t.p)
	if err != nil {
		return err
	}
	t.r.Simulated, t.r.Checked = simulated, checked
	checked.Many = simulated.Many
	checked.answers(t.q.Port, simulated)
	simulated.found(checked)
	for _, s := range t.r.Simulated.Steps {
		t.hosts.one(ctx, s.Host) // so that real packets are seen where they should come to, too
	}
	return nil
}

// foretellLater asks the switches again while one of them is only finding out who is at the other end of a tunnel, which the first packet, or the first question, has it do.
func (t *tracer) foretellLater(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	ticker := time.NewTicker(attempt / 10)
	defer ticker.Stop()
	for slices.ContainsFunc(t.r.Checked.Ends, func(e End) bool { return e.Reason == noNeighbor }) {
		select {
		case <-ctx.Done():
			return nil //nolint:nilerr // what the switches said last holds
		case <-ticker.C:
		}
		if err := t.foretell(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// attempt is how long a probe may take before another one is sent: the first into a tunnel may be lost while the underlay finds out who is there.
const attempt = time.Second

// probe sends packets until one has been followed to its end, or the time is over.
func (t *tracer) probe(ctx context.Context) error {
	if t.p.Type == ARP {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.q.Wait)
	l := newLifting(t.hosts.asker)
	defer l.group.Wait()
	defer cancel()
	if err := t.armOthers(ctx, l); err != nil {
		return err
	}
	word := append([]byte("headwater trace "), make([]byte, 9)...)
	if _, err := rand.Read(word[16:]); err != nil {
		return fmt.Errorf("choose a packet: %w", err)
	}
	for ctx.Err() == nil {
		t.r.Sent++
		word[24] = byte(t.r.Sent)
		frame, err := Frame(t.p, uint16(word[16])<<8|uint16(word[17])^uint16(t.r.Sent), slices.Clone(word)) //nolint:gosec // any number will do
		if err != nil {
			return fault.Wrap(fault.BadRequest, "", err)
		}
		if err := l.arm(ctx, t.origin, &api.TraceArm{Port: t.q.Port, Frame: frame}); err != nil {
			return err
		}
		if done, err := t.await(ctx, l, attempt, t.followed); done || err != nil {
			return err
		}
	}
	return nil
}

// watch waits for packets that the port sends. What should and would happen is asked again for the first of them, which may differ from what was asked for in all that the
// filter leaves open.
func (t *tracer) watch(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, t.q.Wait)
	l := newLifting(t.hosts.asker)
	defer l.group.Wait()
	defer cancel()
	if err := t.armOthers(within, l); err != nil {
		return err
	}
	filter := &api.TraceFilter{Destination: t.q.To.String(), Protocol: uint32(t.q.Proto), SourcePort: uint32(t.q.SrcPort), DestinationPort: uint32(t.q.DstPort)} //nolint:gosec // 8 bits
	if t.q.From.IsValid() {
		filter.Source = t.q.From.String()
	}
	if err := l.arm(within, t.origin, &api.TraceArm{Port: t.q.Port, Filter: filter, Limit: uint32(t.q.Count)}); err != nil { //nolint:gosec // bounded
		return err
	}
	for {
		done, err := t.await(within, l, attempt, t.watched)
		if t.r.Sent = len(t.r.Live); done || err != nil || within.Err() != nil {
			return err
		}
	}
}

// armOthers has all hosts but the port's lift what arrives there marked.
func (t *tracer) armOthers(ctx context.Context, l *lifting) error {
	for _, host := range t.hosts.names() {
		if host == t.origin {
			continue
		}
		if err := l.arm(ctx, host, &api.TraceArm{}); err != nil {
			if ctx.Err() != nil {
				return err
			}
			delete(t.hosts.known, host)
			t.hosts.unasked[host] = err.Error()
		}
	}
	return nil
}

// await waits, for a while, until what is lifted is enough. It leaves the ways in the report.
func (t *tracer) await(ctx context.Context, l *lifting, while time.Duration, enough func(ctx context.Context, over bool) (bool, error)) (bool, error) {
	limit := time.NewTimer(while)
	defer limit.Stop()
	for over := false; ; {
		got, news, err := l.soFar()
		if err != nil {
			return false, err
		}
		var copies []Copy
		for _, g := range got {
			c, err := copyOf(t.v, g.host, g.TraceLifted)
			if err != nil {
				return false, fmt.Errorf("host %s has lifted what is no packet: %w", g.host, err)
			}
			copies = append(copies, c)
		}
		t.r.Live = ways(t.origin, func(host string) bool { return t.hosts.known[host] != nil }, copies)
		if done, err := enough(ctx, over); done || err != nil || over {
			return done, err
		}
		select {
		case <-news:
		case <-limit.C:
			over = true
		case <-ctx.Done():
			over = true
		}
	}
}

// followed says whether a probe has been followed to its end. What is seen nowhere any more may still be on its way, until its time is over.
func (t *tracer) followed(_ context.Context, over bool) (bool, error) {
	for _, w := range t.r.Live {
		if agrees := len(against(t.r.Checked, w, t.q.Port)) == 0; w.settled() && (agrees || !t.r.Checked.Many) || over && agrees {
			return true, nil
		}
	}
	return false, nil
}

// patience is how many attempts long packets that are seen nowhere any more may still be on their way.
const patience = 5

// watched says whether all packets have come, and been followed to their ends.
func (t *tracer) watched(ctx context.Context, over bool) (bool, error) {
	if len(t.r.Live) == 0 {
		return false, nil
	}
	if err := t.retell(ctx); err != nil {
		return false, err
	}
	if len(t.r.Live) < t.q.Count {
		return false, nil
	}
	if over {
		t.waited++
	}
	settled := !slices.ContainsFunc(t.r.Live, func(w *Way) bool { return !w.settled() })
	return settled || t.waited > patience, nil
}

// retell asks about the first packet that came.
func (t *tracer) retell(ctx context.Context) error {
	first := t.r.Live[0].Copies[0]
	if t.told == first.constant || ctx.Err() != nil {
		return nil
	}
	if first.packet.Type != IPv4 && first.packet.Type != IPv6 {
		return errors.New("what was lifted is no IP packet")
	}
	t.told, t.p = first.constant, first.packet
	t.p.Established = t.p.Established || t.q.Established
	return t.foretell(ctx)
}
