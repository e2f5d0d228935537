package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// maxRequests bounds the requests that wait; who asked has a deadline.
const maxRequests = 64

// Request takes what a server asks the host to do now. It does not wait; the answer goes to the Reporter.
func (a *Agent) Request(m *api.ToAgent) {
	select {
	case a.requests <- m:
	default:
		a.answer(m.GetRequest(), &api.Answer{Error: fmt.Sprintf("%d requests wait already", maxRequests)})
	}
}

func (a *Agent) answer(r *api.Request, with *api.Answer) {
	if a.reporter != nil {
		with.Id = r.GetId()
		a.reporter.Answer(with)
	}
}

func (a *Agent) answerRequests(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-a.requests:
			r := m.GetRequest()
			limit, cancel := context.WithTimeout(ctx, requestLimit(r))
			answer, err := a.fulfil(limit, r)
			cancel()
			if err != nil {
				answer = &api.Answer{Error: err.Error()}
			}
			a.answer(r, answer)
		}
	}
}

func requestLimit(r *api.Request) time.Duration {
	if r.GetTimeoutMs() == 0 {
		return 10 * time.Second
	}
	return time.Duration(r.GetTimeoutMs()) * time.Millisecond
}

func (a *Agent) fulfil(ctx context.Context, r *api.Request) (*api.Answer, error) {
	if arm := r.GetTraceArm(); arm != nil {
		return &api.Answer{}, a.arm(ctx, r.GetId(), arm)
	}
	check := r.GetTraceCheck()
	if check == nil {
		return nil, fmt.Errorf("host %s does not know such a request", a.cfg.Host)
	}
	flow, err := a.traceFlow(check)
	if err != nil {
		return nil, err
	}
	text, err := a.cfg.command(ctx, "ofproto/trace", "--names", a.cfg.Bridge, flow, hex.EncodeToString(check.GetFrame()))
	if err != nil {
		return nil, err
	}
	return &api.Answer{What: &api.Answer_TraceResult{TraceResult: &api.TraceResult{Text: text}}}, nil
}

// traceFlow is where a packet comes from, in the words of ovs-fields(7).
func (a *Agent) traceFlow(check *api.TraceCheck) (flow string, err error) {
	err = fmt.Errorf("port %s is not plugged on host %s", check.GetPort(), a.cfg.Host)
	a.core.store.Read(func(v *state.View) {
		if check.GetPort() != "" {
			if plug := state.Find[*state.Plug](v, check.GetPort()); plug != nil {
				flow, err = fmt.Sprintf("in_port=%d", plug.OFPort), nil
			}
			return
		}
		if flow = fromTunnel(v, a.cfg.Host, check.GetTunnelKey()); flow != "" {
			err = nil
			return
		}
		err = fmt.Errorf("host %s has no tunnel to any other host", a.cfg.Host)
	})
	return flow, err
}

// fromTunnel is a packet with a key from any of the hosts whose tunnels come here; "" where there is none.
func fromTunnel(v *state.View, here string, key uint32) string {
	self := state.Find[*state.Host](v, here)
	if self == nil {
		return ""
	}
	for _, other := range state.All[*state.Host](v, state.Index{List: state.ListAll, ID: state.KindHost.String()}) {
		mine, ok := other.Reach(self)
		if !ok || other.ID == here {
			continue
		}
		its, _ := self.Reach(other)
		if t := state.Find[*state.Tunnel](v, state.TunnelID(mine.Encap, mine.Port)); t != nil {
			field := "tun_src"
			if its.Address.Is6() {
				field = "tun_ipv6_src"
			}
			return fmt.Sprintf("in_port=%d,tun_id=%#x,%s=%s", t.OFPort, key, field, its.Address)
		}
	}
	return ""
}
