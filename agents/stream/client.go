package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/frame"
	"github.com/headwater-cloud/headwater/agents/mtls"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Limits of a stream's messages and their times.
const (
	maxMessage   = 64 << 20         // bytes; a part has frame.PartSize unless one object alone is larger
	connectLimit = 20 * time.Second // from dialling to the stream
	idleProbe    = 20 * time.Second // without a word from the server: is it there?
	probeLimit   = 10 * time.Second
)

// Client is one subscription.
type Client struct {
	cfg     Config
	servers []string
	metrics *metrics
	out     *outbox
	file    *file
	boot    uint64

	held    holding // of Run's goroutine
	refused map[state.Ref]struct{}
	fresh   bool // nothing that is held can be built on: the next Subscribe asks for a snapshot
	handed  bool // the first commit is out
}

// New checks the configuration. Nothing happens before Run.
func New(cfg Config) (*Client, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c := &Client{cfg: cfg, metrics: m, out: newOutbox(), servers: orderFor(cmp.Or(cfg.Host, cfg.Credentials.Identity().Name), cfg.Servers),
		refused: map[state.Ref]struct{}{}}
	return c, nil
}

// orderFor is the order in which a host tries servers: by rendezvous hashing, so that a server more or less moves few hosts.
func orderFor(host string, servers []string) []string {
	weight := func(s string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s + "\x00" + host)) // never fails
		x := h.Sum64()
		x ^= x >> 33 // FNV's high bits are poor for short names
		x *= 0xff51afd7ed558ccd
		return x ^ x>>33
	}
	out := slices.Clone(servers)
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a, b)) })
	return slices.Compact(out)
}

// Run hands on what is kept, then follows a server until ctx ends, over lost connections and lost servers. It returns an error only where the
// one who takes the revisions does.
func (c *Client) Run(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.file.run(ctx) })
	g.Go(func() error { return c.follow(ctx) })
	return g.Wait()
}

// open reads the file and hands on what it holds.
func (c *Client) open(ctx context.Context) error {
	c.file = newFile(c.cfg.File, c)
	c.held, c.boot = c.file.load(ctx)
	if c.held.revision == 0 && c.held.incarnation == "" {
		return nil
	}
	return c.hand(ctx, &frame.Frame{Incarnation: c.held.incarnation, Revision: c.held.revision, Snapshot: true, Set: c.held.list()})
}

// errTaker marks an error of whoever takes the revisions.
type errTaker struct{ error }

// follow keeps a stream to one of the servers.
func (c *Client) follow(ctx context.Context) error {
	delay, at := time.Duration(0), 0
	for {
		began := c.held.received
		server := c.servers[at%len(c.servers)]
		err := c.attempt(ctx, server)
		var taker errTaker
		if ctx.Err() != nil {
			return nil
		}
		if errors.As(err, &taker) {
			return taker.error
		}
		c.cfg.Log.WarnContext(ctx, "stream ended", "server", server, "err", err)
		if c.held.received != began { // it was of use: start over with this server, at once
			delay = 0
		} else {
			at++
		}
		delay = min(max(2*delay, c.cfg.Retry/20), c.cfg.Retry)
		if at%len(c.servers) != 0 && delay > c.cfg.Retry/20 {
			delay /= 2 // there are others to try
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay/2 + rand.N(delay)): //nolint:gosec // only spreads the load
		}
	}
}

// attempt follows one server until the stream ends.
func (c *Client) attempt(ctx context.Context, server string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(connectLimit, func() { cancel(errors.New("no answer in time")) })
	defer limit.Stop()
	conn, err := c.dial(server)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it is of no use any more
	c.metrics.connects.Inc()
	s, err := conn.NewStream(ctx, &api.NetworkState_ServiceDesc.Streams[0], api.NetworkState_Watch_FullMethodName,
		grpc.ForceCodecV2(frame.Codec()), grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return cause(ctx, err)
	}
	sub := &api.Subscribe{Host: c.cfg.Host, Site: c.cfg.Site, Version: c.cfg.Version, Boot: c.boot}
	if !c.fresh {
		sub.Incarnation, sub.Revision = c.held.incarnation, c.held.revision
	}
	if err := s.SendMsg(&api.FromAgent{Message: &api.FromAgent_Subscribe{Subscribe: sub}}); err != nil {
		return cause(ctx, err)
	}
	c.out.again()
	var wait sync.WaitGroup
	wait.Go(func() { c.send(ctx, s, cancel) })
	err = c.receive(ctx, s, func() { limit.Stop() })
	c.metrics.connected.Set(0)
	cancel(err)
	wait.Wait()
	return err
}

// cause is why a stream ended, where we ended it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) dial(server string) (*grpc.ClientConn, error) {
	tls := c.cfg.Credentials.Client(mtls.Upstream(c.cfg.Site))
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(tls)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: idleProbe, Timeout: probeLimit, PermitWithoutStream: true}),
		grpc.WithReadBufferSize(16 << 10), grpc.WithWriteBufferSize(8 << 10), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	}
	if dial := c.cfg.Dial; dial != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, address) }))
	}
	conn, err := grpc.NewClient("passthrough:///"+server, options...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", server, err)
	}
	return conn, nil
}

// send passes on what is said here.
func (c *Client) send(ctx context.Context, s grpc.ClientStream, cancel context.CancelCauseFunc) {
	for {
		for list := c.out.take(); list != nil; list = c.out.take() {
			for _, m := range list {
				if err := s.SendMsg(m); err != nil { // what of it was lost is said again on the next stream
					cancel(err)
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.out.wake:
		}
	}
}

// receive takes frames until the stream ends. established is called when the server has answered.
func (c *Client) receive(ctx context.Context, s grpc.ClientStream, established func()) error {
	var whole *frame.Frame
	for {
		var m frame.Message
		if err := s.RecvMsg(&m); err != nil {
			return cause(ctx, err)
		}
		established()
		if m.Frame == nil {
			c.request(m.Other)
			continue
		}
		part := m.Frame
		if whole == nil {
			whole = part
		} else if part.Revision != whole.Revision || part.Incarnation != whole.Incarnation || part.Snapshot != whole.Snapshot {
			c.fresh = true
			return fmt.Errorf("revision %d came in the middle of %d", part.Revision, whole.Revision)
		} else {
			whole.Set, whole.Gone, whole.Bad = append(whole.Set, part.Set...), append(whole.Gone, part.Gone...), append(whole.Bad, part.Bad...)
			whole.Digests = part.Digests
		}
		if part.More {
			continue
		}
		if err := c.take(ctx, whole); err != nil {
			return err
		}
		whole = nil
		c.metrics.connected.Set(1)
	}
}

// request hands a request on, or answers it.
func (c *Client) request(m *api.ToAgent) {
	if c.cfg.Request != nil {
		c.cfg.Request(m)
		return
	}
	if r := m.GetRequest(); r != nil {
		c.Send(&api.FromAgent{Host: m.GetHost(), Message: &api.FromAgent_Answer{Answer: &api.Answer{Id: r.GetId(), Error: "nothing is done on request here"}}})
	}
}

// Send passes a message up: Applied, Report or Answer. Its host is "" but for relays, which begin with the host's Subscribe. It never blocks.
func (c *Client) Send(m *api.FromAgent) { c.out.put(m) }

// Applied says that all up to a revision is carried out.
func (c *Client) Applied(incarnation string, revision uint64) {
	c.Send(&api.FromAgent{Message: &api.FromAgent_Applied{Applied: &api.Applied{Incarnation: incarnation, Revision: revision}}})
}

// Report tells what has changed on the host. It is merged with what was told before, all of which a server that is new is told.
func (c *Client) Report(r *api.Report) {
	c.Send(&api.FromAgent{Message: &api.FromAgent_Report{Report: r}})
}

// Answer answers a request.
func (c *Client) Answer(a *api.Answer) {
	c.Send(&api.FromAgent{Message: &api.FromAgent_Answer{Answer: a}})
}

// alarm raises an alarm of one's own, or ends it.
func (c *Client) alarm(code, object, text string, over bool) {
	c.Report(&api.Report{Alarms: []*api.Alarm{{Code: code, Object: object, Text: text, Over: over}}})
}
