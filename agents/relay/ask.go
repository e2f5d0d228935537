package relay

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
)

// ask is a request that waits for answers.
type ask struct {
	host    string
	answers chan *api.Answer
}

// Ask sends a host a request, here or through a relay, and calls each with every answer until each returns false or ctx ends, which then is
// the error. The request's id and time are set here. Answers that come faster than each takes them are dropped.
func (s *Server) Ask(ctx context.Context, host string, r *api.Request, each func(*api.Answer) bool) error {
	a := &ask{host, make(chan *api.Answer, 64)}
	if err := s.ask(ctx, a, r); err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asks, r.GetId())
	}()
	for {
		select {
		case answer := <-a.answers:
			if !each(answer) {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("ask host %s: %w", host, ctx.Err())
		}
	}
}

func (s *Server) ask(ctx context.Context, a *ask, r *api.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[a.host]
	if h == nil || h.route == nil {
		return fmt.Errorf("host %s has no stream here", a.host)
	}
	s.lastAsk++
	r.Id = s.lastAsk
	if deadline, ok := ctx.Deadline(); ok {
		r.TimeoutMs = uint32(min(max(time.Until(deadline).Milliseconds(), 1), math.MaxUint32)) //nolint:gosec // in range
	}
	s.asks[r.Id] = a
	s.send(a.host, h, &api.ToAgent{Message: &api.ToAgent_Request{Request: r}})
	return nil
}

func (s *Server) answered(a *ask, m *api.Answer) {
	select {
	case a.answers <- m:
	default:
	}
}

// Deliver passes a message of the source on to a host. It implements Sink.
func (s *Server) Deliver(m *api.ToAgent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[m.GetHost()]
	switch x := m.GetMessage().(type) {
	case *api.ToAgent_Superseded:
		if h != nil && h.route != nil && h.boot <= x.Superseded.GetBoot() {
			s.supersede(m.GetHost(), h.route, x.Superseded.GetBoot())
		}
	case *api.ToAgent_Request:
		if h == nil || h.route == nil {
			s.cfg.Source.Tell(&api.FromAgent{Host: m.GetHost(), Message: &api.FromAgent_Answer{Answer: &api.Answer{
				Id: x.Request.GetId(), Error: "host " + m.GetHost() + " has no stream here",
			}}})
			return
		}
		s.send(m.GetHost(), h, m)
	}
}

// send sends a message the way to a host.
func (s *Server) send(name string, h *host, m *api.ToAgent) {
	out := &api.ToAgent{Message: m.GetMessage()}
	if h.route.relay != "" {
		out.Host = name
	}
	s.post(h.route, out)
}

// post queues a message. Of too many, the oldest are lost: who asked has a deadline.
func (s *Server) post(x *session, m *api.ToAgent) {
	if x.messages = append(x.messages, m); len(x.messages) > maxMessages {
		x.messages = x.messages[1:]
	}
	x.poke()
}
