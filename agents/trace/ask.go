package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
)

// Asker asks the agents of hosts: a server of the site's stream does, for hosts whose streams lead to it, and an agent for itself and for others whose sockets it is told.
type Asker interface {
	// Ask sends the agent of a host a request, and calls each with every answer until it returns false or ctx ends, which then is the error.
	Ask(ctx context.Context, host string, r *api.Request, each func(*api.Answer) bool) error
}

// askLimit is how long an agent may take to say what its switch would do.
const askLimit = 10 * time.Second

// askOne is for requests that have one answer.
func askOne(ctx context.Context, a Asker, host string, r *api.Request) (*api.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var out *api.Answer
	if err := a.Ask(ctx, host, r, func(m *api.Answer) bool { out = m; return false }); err != nil {
		return nil, err
	}
	if out.GetError() != "" {
		return nil, errors.New(out.GetError())
	}
	return out, nil
}

// remote is the switch of a host, behind its agent.
type remote struct {
	asker   Asker
	host    string
	devices map[string]Device
}

var _ Switch = (*remote)(nil)

// reach asks a host what its switch's ports are.
func reach(ctx context.Context, a Asker, host string) (*remote, error) {
	m, err := askOne(ctx, a, host, &api.Request{What: &api.Request_TraceCheck{TraceCheck: &api.TraceCheck{}}})
	if err != nil {
		return nil, err
	}
	out := &remote{a, host, map[string]Device{}}
	for _, d := range m.GetTraceResult().GetDevices() {
		out.devices[d.GetName()] = Device{Port: d.GetPort(), Physical: d.GetPhysicalNetwork(), Tunnel: d.GetTunnel()}
	}
	return out, nil
}

// Trace implements Switch.
func (r *remote) Trace(ctx context.Context, flow string, established bool) (*api.TraceResult, error) {
	m, err := askOne(ctx, r.asker, r.host, &api.Request{What: &api.Request_TraceCheck{TraceCheck: &api.TraceCheck{Flow: flow, Established: established}}})
	return m.GetTraceResult(), err
}

// Devices implements Switch.
func (r *remote) Devices() map[string]Device { return r.devices }

// hosts are those that are asked, and why others cannot be.
type hosts struct {
	asker   Asker
	known   map[string]*remote
	unasked map[string]string
}

// one is a host that can be asked, or nil.
func (h *hosts) one(ctx context.Context, host string) *remote {
	if r, ok := h.known[host]; ok || h.unasked[host] != "" {
		return r
	}
	r, err := reach(ctx, h.asker, host)
	if err != nil {
		h.unasked[host] = err.Error()
		return nil
	}
	h.known[host] = r
	return r
}

// names are the hosts that can be asked.
func (h *hosts) names() []string { return slices.Sorted(maps.Keys(h.known)) }

// lifting is what hosts lift for one trace.
type lifting struct {
	asker Asker
	group sync.WaitGroup

	mu    sync.Mutex    // guards the fields below
	got   []lifted      // in the order in which they came
	news  chan struct{} // closed and replaced when there is more
	fault map[string]error
}

type lifted struct {
	host string
	*api.TraceLifted
}

func newLifting(a Asker) *lifting {
	return &lifting{asker: a, news: make(chan struct{}), fault: map[string]error{}}
}

// arm has a host lift packets until ctx ends, and returns when it does so.
func (l *lifting) arm(ctx context.Context, host string, arm *api.TraceArm) error {
	armed := make(chan error, 1)
	l.group.Go(func() {
		err := l.asker.Ask(ctx, host, &api.Request{What: &api.Request_TraceArm{TraceArm: arm}}, func(m *api.Answer) bool {
			switch {
			case m.GetError() != "":
				l.fail(host, errors.New(m.GetError()))
				tell(armed, errors.New(m.GetError()))
				return false
			case m.GetTraceLifted() != nil:
				l.add(lifted{host, m.GetTraceLifted()})
			case m.GetTraceArmed() != nil:
				tell(armed, nil)
			}
			return true
		})
		tell(armed, err)
	})
	select {
	case err := <-armed:
		if err != nil {
			return fmt.Errorf("host %s: lift packets: %w", host, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("host %s: lift packets: %w", host, ctx.Err())
	}
}

// tell sends the first that there is to tell.
func tell(c chan<- error, err error) {
	select {
	case c <- err:
	default:
	}
}

func (l *lifting) add(c lifted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, c)
	close(l.news)
	l.news = make(chan struct{})
}

// fail notes that a host has refused after it began.
func (l *lifting) fail(host string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault[host] = err
	close(l.news)
	l.news = make(chan struct{})
}

// so far are the copies that there are, and what is closed when there are more.
func (l *lifting) soFar() ([]lifted, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for host, err := range l.fault {
		errs = append(errs, fmt.Errorf("host %s: lift packets: %w", host, err))
	}
	return slices.Clone(l.got), l.news, errors.Join(errs...)
}
