package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/trace"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// asker asks this agent, and others by their sockets.
type asker struct {
	a     *Agent
	peers map[string]string
}

var _ trace.Asker = asker{}

// Ask implements trace.Asker.
func (k asker) Ask(ctx context.Context, host string, r *api.Request, each func(*api.Answer) bool) error {
	if host == k.a.cfg.Host {
		return k.a.Ask(ctx, r, each)
	}
	socket := k.peers[host]
	if socket == "" {
		return errors.New("the socket of its agent was not given")
	}
	return askSocket(ctx, socket, r, each)
}

// waiting bounds the answers that wait for who asked. More are lost.
const waiting = 1024

// Ask does what is asked for, and calls each with every answer until it returns false or ctx ends, which then is the error. What was armed ends with it.
func (a *Agent) Ask(ctx context.Context, r *api.Request, each func(*api.Answer) bool) error {
	answers := make(chan *api.Answer, waiting)
	if r.GetTimeoutMs() == 0 {
		r.TimeoutMs = timeLeft(ctx)
	}
	end := a.fulfil(ctx, r, func(m *api.Answer) {
		select {
		case answers <- m:
		default:
		}
	})
	if end != nil {
		defer end()
	}
	for {
		select {
		case m := <-answers:
			if !each(m) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// timeLeft is how long an asker waits at most, in milliseconds; 0: it does not say.
func timeLeft(ctx context.Context) uint32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint32(min(max(time.Until(deadline).Milliseconds(), 1), math.MaxUint32)) //nolint:gosec // in range
}

// askView answers a request of another host's agent, or of a person, as long as the asker listens: answers in the form of protodelim.
func (a *Agent) askView(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	request := &api.Request{}
	if err == nil {
		err = protojson.Unmarshal(raw, request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	flush := http.NewResponseController(w)
	_ = a.Ask(r.Context(), request, func(m *api.Answer) bool { // whoever asked has gone, otherwise
		_, err := protodelim.MarshalTo(w, m)
		return err == nil && flush.Flush() == nil
	})
}

// askSocket asks the agent that listens at a socket.
func askSocket(ctx context.Context, socket string, r *api.Request, each func(*api.Answer) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.GetTimeoutMs() == 0 {
		r.TimeoutMs = timeLeft(ctx)
	}
	raw, err := protojson.Marshal(r)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/ask", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	answer, err := client.Do(post)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) { // without the URL, which nobody knows
			err = op.Err
		}
		return fmt.Errorf("no agent answers at %s: %w", socket, err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	if answer.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "", "the agent at %s answered %s", socket, answer.Status)
	}
	for in := bufio.NewReader(answer.Body); ; {
		m := &api.Answer{}
		if err := protodelim.UnmarshalFrom(in, m); err != nil {
			return fmt.Errorf("agent at %s: %w", socket, errors.Join(ctx.Err(), err))
		}
		if !each(m) {
			return nil
		}
	}
}
