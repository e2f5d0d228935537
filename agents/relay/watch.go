package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
)

// service is the Server as grpc sees it.
type service struct {
	api.UnimplementedNetworkStateServer
	server *Server
}

type apiStream = grpc.BidiStreamingServer[api.FromAgent, api.ToAgent]

// Watch serves one stream. It returns as soon as the stream is to end, which frees whoever still reads or writes it.
func (v service) Watch(g apiStream) error {
	s := v.server
	id, until, err := s.peer(g.Context())
	if err != nil {
		return s.refuse("certificate", status.Errorf(codes.Unauthenticated, "%v", err)) // a status has no cause
	}
	ctx, cancel := context.WithCancelCause(g.Context())
	defer cancel(nil)
	expiry := time.AfterFunc(until.Sub(s.cfg.Now()), func() {
		cancel(status.Error(codes.Unauthenticated, "the certificate has expired: come back with a new one"))
	})
	defer expiry.Stop()
	late := time.AfterFunc(subscribeLimit, func() { cancel(status.Error(codes.DeadlineExceeded, "no Subscribe came")) })
	defer late.Stop()
	w := &watching{server: s, stream: g, id: id, cancel: cancel}
	s.children.Go(func() { cancel(w.receive(ctx, func() { late.Stop() })) })
	<-ctx.Done()
	if x := w.session(); x != nil {
		s.leave(x)
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		s.cfg.Log.InfoContext(g.Context(), "stream ended", "peer", id.String(), "err", err)
		return err
	}
	return nil
}

func (s *Server) peer(ctx context.Context) (mtls.Identity, time.Time, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return mtls.Identity{}, time.Time{}, errors.New("the connection has no TLS")
	}
	return s.cfg.Credentials.Peer(info.State)
}

func (s *Server) refuse(why string, err error) error {
	s.metrics.refused.WithLabelValues(why).Inc()
	return err
}

// watching is a stream that is served.
type watching struct {
	server *Server
	stream apiStream
	id     mtls.Identity
	cancel context.CancelCauseFunc

	mu sync.Mutex // guards the field below
	x  *session   // from Subscribe on
}

func (w *watching) session() *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.x
}

// receive reads what the client says, the first of which is Subscribe.
func (w *watching) receive(ctx context.Context, subscribed func()) error {
	m, err := w.stream.Recv()
	if err != nil {
		return err
	}
	s := w.server
	sub := m.GetSubscribe()
	if sub == nil || m.GetHost() != "" {
		return s.refuse("protocol", status.Error(codes.InvalidArgument, "the first message is one's own Subscribe"))
	}
	if why := s.mayNot(w.id, sub); why != "" {
		return s.refuse("identity", status.Errorf(codes.PermissionDenied, "%s may not subscribe: %s", w.id, why))
	}
	subscribed()
	x := &session{host: sub.GetHost(), boot: sub.GetBoot(), had: sub.GetIncarnation(), wants: sub.GetRevision(), wake: make(chan struct{}, 1), end: w.cancel}
	if w.id.Role == mtls.Relay {
		x.relay = w.id.Name
	}
	if err := s.enter(x, m); err != nil {
		return err
	}
	w.mu.Lock()
	w.x = x
	w.mu.Unlock()
	if ctx.Err() != nil { // it ended meanwhile, and whoever ended it did not see the session
		s.leave(x)
		return ctx.Err()
	}
	s.children.Go(func() { w.cancel(w.send(ctx, x)) })
	for {
		m, err := w.stream.Recv()
		if err != nil {
			return err
		}
		if err := s.said(x, m); err != nil {
			return err
		}
	}
}

// mayNot says why somebody may not subscribe to what is asked for; "" where it may.
func (s *Server) mayNot(id mtls.Identity, sub *api.Subscribe) string {
	switch {
	case id.Site != s.cfg.Site:
		return "this is site " + s.cfg.Site
	case id.Role == mtls.Host && sub.GetHost() == id.Name, id.Role == mtls.Relay && sub.GetHost() == "" && sub.GetSite() == s.cfg.Site:
		return ""
	case id.Role == mtls.Host:
		return "a host subscribes for itself"
	}
	return "a relay subscribes for its site"
}

// send sends what is queued until the stream ends.
func (w *watching) send(ctx context.Context, x *session) error {
	s := w.server
	limit := time.AfterFunc(s.cfg.SendLimit, func() { w.cancel(status.Error(codes.DeadlineExceeded, "the client did not read")) })
	limit.Stop()
	one := func(m *frame.Message) error {
		limit.Reset(s.cfg.SendLimit)
		defer limit.Stop()
		return w.stream.SendMsg(m)
	}
	for {
		messages, f := s.take(x)
		for _, m := range messages {
			if err := one(&frame.Message{Other: m}); err != nil {
				return err
			}
		}
		if f != nil {
			for part := range f.Parts() {
				if err := one(&frame.Message{Frame: part}); err != nil {
					return err
				}
				s.metrics.sent(part)
			}
		}
		if len(messages) > 0 || f != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-x.wake:
		}
	}
}
