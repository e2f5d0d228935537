package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/agents/trace"
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
			_ = a.fulfil(ctx, r, func(with *api.Answer) { a.answer(r, with) }) // what is armed ends with its time
		}
	}
}

// fulfil does what is asked for, and tells the answers, of which there is at least one. end ends what goes on after that.
func (a *Agent) fulfil(ctx context.Context, r *api.Request, tell func(*api.Answer)) (end func()) {
	limit, cancel := context.WithTimeout(ctx, requestLimit(r))
	defer cancel()
	var err error
	switch {
	case r.GetTraceArm() != nil:
		end, err = a.arm(limit, tell, r.GetTraceArm(), requestLimit(r))
	case r.GetTraceCheck() != nil:
		var result *api.TraceResult
		if result, err = a.check(limit, r.GetTraceCheck()); err == nil {
			tell(&api.Answer{What: &api.Answer_TraceResult{TraceResult: result}})
		}
	default:
		err = fmt.Errorf("host %s does not know such a request", a.cfg.Host)
	}
	if err != nil {
		tell(&api.Answer{Error: err.Error()})
	}
	return end
}

func requestLimit(r *api.Request) time.Duration {
	if r.GetTimeoutMs() == 0 {
		return 10 * time.Second
	}
	return time.Duration(r.GetTimeoutMs()) * time.Millisecond
}

// check has the switch say what it would do with a packet, and says of each flow that this names whose it is and what it has counted.
func (a *Agent) check(ctx context.Context, check *api.TraceCheck) (*api.TraceResult, error) {
	out := &api.TraceResult{}
	for name, d := range a.Devices() {
		out.Devices = append(out.Devices, &api.TraceDevice{Name: name, Port: d.Port, PhysicalNetwork: d.Physical, Tunnel: d.Tunnel})
	}
	if len(check.GetFrame()) == 0 && check.GetFlow() == "" {
		return out, nil
	}
	flow, more := check.GetFlow(), []string(nil)
	if flow == "" {
		var err error
		if flow, err = a.traceFlow(check); err != nil {
			return nil, err
		}
		more = []string{hex.EncodeToString(check.GetFrame())}
	} else if strings.HasPrefix(flow, "-") {
		return nil, fmt.Errorf("flow %q: want the words of ovs-fields(7)", flow)
	}
	text, err := a.ofprotoTrace(ctx, flow, append(more, trace.Established(check.GetEstablished())...)...)
	if err != nil {
		return nil, err
	}
	out.Text = text
	out.Steps, err = a.explain(ctx, trace.Flows(text))
	return out, err
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
