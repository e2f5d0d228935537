package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// Running is what a running agent works from: enough for another version of it to say what it would make of that.
type Running struct {
	Host     string      `json:"host"`
	Bridge   string      `json:"bridge"`
	Socket   string      `json:"socket"` // of the bridge
	PuntRate uint32      `json:"punt_rate"`
	OpRate   uint32      `json:"op_rate"`
	NameRate uint32      `json:"name_rate"`
	Names    bool        `json:"names"`
	LogRate  uint32      `json:"log_rate"`
	LogBurst uint32      `json:"log_burst"`
	Objects  []RawObject `json:"objects"`
}

// RawObject is an object as its kind has it.
type RawObject struct {
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
}

// runningView tells all that the program is made of.
func (a *Agent) runningView(*http.Request) (any, error) {
	out := Running{Host: a.cfg.Host, Bridge: a.cfg.Bridge, Socket: filepath.Join(a.cfg.ovsRunDir(), a.cfg.Bridge+".mgmt"), PuntRate: a.cfg.PuntRate,
		OpRate: a.cfg.OpRate, NameRate: a.cfg.NameRate, Names: a.cfg.Names, LogRate: a.cfg.LogRate, LogBurst: a.cfg.LogBurst}
	var err error
	a.core.store.Read(func(v *state.View) {
		for _, k := range allKinds() {
			for _, id := range v.IDs(state.Index{List: state.ListAll, ID: k.String()}) {
				raw, e := json.Marshal(v.Get(state.Ref{Kind: k, ID: id}))
				if e != nil {
					err = e
				}
				out.Objects = append(out.Objects, RawObject{k.String(), raw})
			}
		}
	})
	return out, err
}

// read makes the object.
func (o RawObject) read() (state.Object, error) {
	for _, make := range []func() state.Object{
		func() state.Object { return &state.Host{} }, func() state.Object { return &state.Network{} }, func() state.Object { return &state.Subnet{} },
		func() state.Object { return &state.Port{} }, func() state.Object { return &state.Router{} }, func() state.Object { return &state.FloatingIP{} },
		func() state.Object { return &state.SecurityGroup{} }, func() state.Object { return &state.AddressSet{} }, func() state.Object { return &state.SnatAddress{} },
		func() state.Object { return &state.Neighbor{} }, func() state.Object { return &state.SecurityLog{} }, func() state.Object { return &state.Mirror{} }, func() state.Object { return &state.Plug{} }, func() state.Object { return &state.Uplink{} },
		func() state.Object { return &state.Tunnel{} }, func() state.Object { return &state.Zone{} }, func() state.Object { return &state.Tap{} }, func() state.Object { return &state.Down{} },
	} {
		if out := make(); out.Ref().Kind.String() == o.Kind {
			return out, json.Unmarshal(o.Object, out)
		}
	}
	return nil, fmt.Errorf("an object of kind %s, which this version does not know", o.Kind)
}

// Upgrade says what this program would change in the switch of a running agent, which may be of another version, if it took its place. It changes nothing.
func Upgrade(ctx context.Context, r Running) (*Difference, error) {
	c := newCore(Config{Host: r.Host, Bridge: r.Bridge, PuntRate: r.PuntRate, OpRate: r.OpRate, NameRate: r.NameRate, Names: r.Names,
		LogRate: r.LogRate, LogBurst: r.LogBurst}, nil)
	var objects []state.Object
	for _, raw := range r.Objects {
		o, err := raw.read()
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	changes := c.store.Apply(objects, nil)
	c.store.Read(func(v *state.View) { c.compiler.Update(v, changes) })
	have, err := readSwitch(ctx, r.Socket)
	if err != nil {
		return nil, err
	}
	was := have.canary()
	d, err := c.difference(c.compiler, have)
	if err == nil && was.layout != flows.Layout {
		d.Layout, d.NewLayout = was.layout, flows.Layout
	}
	return d, err
}

// readSwitch reads all of a bridge by a connection of its own.
func readSwitch(ctx context.Context, socket string) (have *carried, err error) {
	conn, err := openflow.Dial(ctx, openflow.Config{Network: "unix", Address: socket})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		_ = conn.Run(ctx) // that it ended is seen by whoever reads
		return nil
	})
	have, err = read(ctx, conn)
	cancel()
	_ = g.Wait()
	return have, err
}
