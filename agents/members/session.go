package members

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// session is one Run.
type session struct {
	pool      *Pool
	transport *transport
	list      *memberlist.Memberlist
	ready     atomic.Bool    // transport and list are set
	over      atomic.Bool    // memberlist's timers may still go off: nobody is to hear of it
	attempts  sync.WaitGroup // to join
	dialling  addresses      // of attempts
	lost      chan error     // holds one: the host id is another machine's. Never closed
}

// serve runs until ctx ends or the host id is lost.
func (s *session) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, s.transport.hangUp)()
	for _, part := range []func(context.Context){s.tell, s.announce, s.join} {
		g.Go(func() error {
			part(ctx)
			return nil
		})
	}
	g.Go(func() error {
		select {
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	err := g.Wait()
	s.attempts.Wait()
	return err
}

// forgetEvery is how often members that are gone are looked over.
const forgetEvery = time.Minute

// tell calls Changed.
func (s *session) tell(ctx context.Context) {
	p := s.pool
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.forget()
		case <-p.wake:
			if p.cfg.Changed != nil {
				p.cfg.Changed(p.View())
			}
		}
	}
}

// announceTime bounds the wait until an announcement has gone out; it goes out later where the time is too short.
const announceTime = time.Second

// announce has the others know what this member says anew.
func (s *session) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.pool.retell:
			if err := s.list.UpdateNode(announceTime); err != nil {
				s.pool.log.DebugContext(ctx, "announcement delayed", "err", err)
			}
		}
	}
}

// leave says that this member is about to go, so that nothing new is sent to it, lets that be passed on, and then says that it is gone.
func (s *session) leave(ctx context.Context) {
	p := s.pool
	third := max(p.cfg.Farewell/3, 1)
	p.mu.Lock()
	says := p.says
	p.mu.Unlock()
	says.Health = Leaving
	raw, err := says.encode()
	if err == nil {
		p.mu.Lock()
		p.announced = raw // only here: a later Run says again how the member is
		p.mu.Unlock()
		err = s.list.UpdateNode(third)
	}
	if s.list.NumMembers() > 1 {
		<-time.After(min(third, passedOn*p.cfg.Gossip)) // ctx has ended: nothing else ends this
	}
	if err = errors.Join(err, s.list.Leave(third)); err != nil {
		p.log.DebugContext(ctx, "farewell not heard", "err", err)
	}
}

// passedOn is how many rounds of gossip bring news to all but a few, after they went out.
const passedOn = 5

// close ends everything.
func (s *session) close(ctx context.Context) {
	s.over.Store(true)
	if err := s.list.Shutdown(); err != nil {
		s.pool.log.WarnContext(ctx, "gossip not closed", "err", err)
	}
}

// What follows is called by memberlist, some of it under its lock: it calls nothing of memberlist's and does not wait.

// NodeMeta is what this member announces.
func (s *session) NodeMeta(int) []byte {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.pool.announced
}

// NotifyMsg takes a message of the kind that we do not send.
func (*session) NotifyMsg([]byte) {}

// GetBroadcasts is none.
func (*session) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is none.
func (*session) LocalState(bool) []byte { return nil }

// MergeRemoteState takes nothing.
func (*session) MergeRemoteState([]byte, bool) {}

// errName refuses a member for its name.
var errName = errors.New("no member of this pool by its name")

// NotifyAlive refuses who is not of this pool.
func (s *session) NotifyAlive(n *memberlist.Node) error {
	id, ok := parseID(n.Name)
	if !ok || s.pool.cfg.Scope == Site && id.Site != s.pool.cfg.Site || !address(n).IsValid() {
		s.pool.metrics.refused.WithLabelValues(refusedName).Inc()
		return errName
	}
	return nil
}

func address(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}

// NotifyJoin takes a member that came, or came back.
func (s *session) NotifyJoin(n *memberlist.Node) {
	m := s.read(n)
	m.Since = s.pool.now()
	s.note(m, eventJoined, "member joined")
	if m.ID != s.pool.id && !s.over.Load() {
		s.pool.joined()
	}
}

// NotifyUpdate takes what a member says anew.
func (s *session) NotifyUpdate(n *memberlist.Node) {
	m := s.read(n)
	s.pool.mu.Lock()
	m.Since = s.pool.members[m.ID].Since
	s.pool.mu.Unlock()
	s.note(m, eventUpdated, "")
}

// NotifyLeave takes a member that died or left. Memberlist does not say which; who left had said before that it would.
func (s *session) NotifyLeave(n *memberlist.Node) {
	m := s.read(n)
	m.Since = s.pool.now()
	if m.Health == Leaving {
		m.State = Left
		s.note(m, eventLeft, "member left")
		return
	}
	m.State = Dead
	s.note(m, eventDied, "member died")
}

// read makes a Member of what memberlist knows.
func (s *session) read(n *memberlist.Node) Member {
	id, _ := parseID(n.Name) // NotifyAlive has seen it
	m := Member{ID: id, At: address(n)}
	a, err := decodeMeta(n.Meta)
	if err != nil {
		reason := refusedMeta
		if errors.Is(err, errMetaVersion) {
			reason = refusedVersion
		}
		s.pool.metrics.refused.WithLabelValues(reason).Inc()
		m.Unreadable = true
		return m
	}
	m.Meta, m.Boot, m.Bound = a.Meta, a.Boot, a.Bound
	return m
}

// note takes a member's new state into the view.
func (s *session) note(m Member, event, message string) {
	if s.over.Load() {
		return
	}
	p := s.pool
	p.metrics.events.WithLabelValues(event).Inc()
	if message != "" && m.ID != p.id {
		p.log.Info(message, "host", m.ID.String(), "at", m.At.String())
	}
	p.change(func() { p.members[m.ID] = m })
}
