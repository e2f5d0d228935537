package stream

import (
	"maps"
	"slices"
	"sync"

	"github.com/headwater-cloud/headwater/agents/api"
)

// maxAnswers bounds the answers of a host that wait; who asked has a deadline, and lifted packets are samples.
const maxAnswers = 1024

// outbox gathers what is to be sent up: of one host, or of a relay's. What it holds is bounded by what hosts have, not by how long nobody
// takes it.
type outbox struct {
	mu    sync.Mutex // guards the fields below
	hosts map[string]*hostBox
	order []string // hosts with something to send
	wake  chan struct{}
}

// hostBox is what one host has said.
type hostBox struct {
	subscribe *api.Subscribe // of a relay's host, while its stream lasts
	applied   *api.Applied
	all       report // since the host's own Subscribe
	// What of it is not sent yet:
	queued, newSubscribe, newApplied bool
	left                             *api.Left
	fresh                            report
	answers                          []*api.Answer
}

// report is an api.Report whose parts can be replaced one by one.
type report struct {
	ports     map[string]*api.PortStatus
	tunnels   map[[2]string]*api.TunnelStatus
	flows     *api.FlowStatus
	alarms    map[[2]string]*api.Alarm
	neighbors map[string]*api.Neighbor
	gone      map[string]struct{} // neighbours
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// merge adds what a report says. A whole report forgets what is over: it is what a new server has to know.
func (r *report) merge(m *api.Report, whole bool) {
	for _, p := range m.GetPorts() {
		if put(&r.ports, p.GetPort(), p); whole && !p.GetPlugged() && p.GetError() == "" {
			delete(r.ports, p.GetPort())
		}
	}
	for _, t := range m.GetTunnels() {
		put(&r.tunnels, [2]string{t.GetHost(), t.GetAddress()}, t)
	}
	if m.GetFlows() != nil {
		r.flows = m.GetFlows()
	}
	for _, a := range m.GetAlarms() {
		k := [2]string{a.GetCode(), a.GetObject()}
		if put(&r.alarms, k, a); whole && a.GetOver() {
			delete(r.alarms, k)
		}
	}
	for _, n := range m.GetNeighbors() {
		put(&r.neighbors, n.GetId(), n)
		delete(r.gone, n.GetId())
	}
	for _, id := range m.GetNeighborsGone() {
		delete(r.neighbors, id)
		if !whole {
			put(&r.gone, id, struct{}{})
		}
	}
}

func (r *report) empty() bool {
	return len(r.ports)+len(r.tunnels)+len(r.alarms)+len(r.neighbors)+len(r.gone) == 0 && r.flows == nil
}

func (r *report) wire() *api.Report {
	return &api.Report{
		Ports: slices.Collect(maps.Values(r.ports)), Tunnels: slices.Collect(maps.Values(r.tunnels)), Flows: r.flows, Alarms: slices.Collect(maps.Values(r.alarms)),
		Neighbors: slices.Collect(maps.Values(r.neighbors)), NeighborsGone: slices.Collect(maps.Keys(r.gone)),
	}
}

func newOutbox() *outbox { return &outbox{hosts: map[string]*hostBox{}, wake: make(chan struct{}, 1)} }

// put takes a message of a host, "" for one's own.
func (o *outbox) put(m *api.FromAgent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := m.GetHost()
	box := o.hosts[h]
	if box == nil {
		box = &hostBox{}
		o.hosts[h] = box
	}
	switch x := m.GetMessage().(type) {
	case *api.FromAgent_Subscribe: // all that the host said before counts no more
		*box = hostBox{queued: box.queued, subscribe: x.Subscribe, newSubscribe: true}
	case *api.FromAgent_Applied:
		box.applied, box.newApplied = x.Applied, true
	case *api.FromAgent_Report:
		box.all.merge(x.Report, true)
		box.fresh.merge(x.Report, false)
	case *api.FromAgent_Answer:
		if box.answers = append(box.answers, x.Answer); len(box.answers) > maxAnswers {
			box.answers = box.answers[1:]
		}
	case *api.FromAgent_Left:
		*box = hostBox{queued: box.queued, left: x.Left}
	default:
		return
	}
	o.enqueue(h, box)
}

func (o *outbox) enqueue(h string, box *hostBox) {
	if !box.queued {
		box.queued = true
		o.order = append(o.order, h)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// again makes all that counts be sent once more, to a server that is new.
func (o *outbox) again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for h, box := range o.hosts {
		if box.left != nil { // nobody knows of the host there
			delete(o.hosts, h)
			continue
		}
		box.newSubscribe, box.newApplied = box.subscribe != nil, box.applied != nil
		box.fresh = report{}
		box.fresh.merge(box.all.wire(), false)
		o.enqueue(h, box)
	}
	o.order = slices.DeleteFunc(o.order, func(h string) bool { return o.hosts[h] == nil })
}

// take returns what a host has to send, in the order in which it is to be sent; nil when none has anything.
func (o *outbox) take() []*api.FromAgent {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.order) > 0 {
		h := o.order[0]
		o.order = o.order[1:]
		box := o.hosts[h]
		box.queued = false
		var out []*api.FromAgent
		if box.left != nil {
			out = append(out, &api.FromAgent{Host: h, Message: &api.FromAgent_Left{Left: box.left}})
			delete(o.hosts, h)
			return out
		}
		if box.newSubscribe {
			out = append(out, &api.FromAgent{Host: h, Message: &api.FromAgent_Subscribe{Subscribe: box.subscribe}})
		}
		if !box.fresh.empty() {
			out = append(out, &api.FromAgent{Host: h, Message: &api.FromAgent_Report{Report: box.fresh.wire()}})
		}
		if box.newApplied {
			out = append(out, &api.FromAgent{Host: h, Message: &api.FromAgent_Applied{Applied: box.applied}})
		}
		for _, a := range box.answers {
			out = append(out, &api.FromAgent{Host: h, Message: &api.FromAgent_Answer{Answer: a}})
		}
		box.newSubscribe, box.newApplied, box.fresh, box.answers = false, false, report{}, nil
		if len(out) > 0 {
			return out
		}
	}
	return nil
}
