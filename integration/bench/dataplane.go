package main

import (
	"context"
	"errors"
	"os"

	"github.com/headwater-cloud/headwater/integration/bench/dataplane"
)

// dataplaneAims are by the names of figures.
func dataplaneAims() map[string]float64 {
	return map[string]float64{
		"of it the dataplane and its API, p50, empty host":           5,
		"of it the dataplane and its API, p50, 1000 ports beside it": 5,
		"1000 ports: until all flows are in at their host":           2,
		"1000 ports: CPU of the agent":                               1,
		"1000 ports: memory of the agent":                            60,
		"first stateful group":                                       300,
		"one more rule, p50":                                         20,
		"flows of one more rule":                                     50,
		"rule that names the group itself":                           30,
	}
}

// measureDataplane puts OVN through what a host agent does, on emulated hosts.
func measureDataplane(ctx context.Context, b *bench) error {
	if os.Geteuid() != 0 {
		return errors.New("emulated hosts need root")
	}
	ovn, err := dataplane.NewOVN(ctx)
	if err != nil {
		b.note("no OVN to measure: %v", err)
		return nil
	}
	figures, err := dataplane.Measure(ctx, ovn, dataplane.Full(), b.say)
	b.report.dataplane(figures, ovn.Name())
	return err
}

// dataplane records figures of the peer.
func (r *report) dataplane(peer []dataplane.Figure, name string) {
	aims := dataplaneAims()
	for _, p := range peer {
		f := figure{Name: p.Name, Unit: p.Unit, Peer: new(p.Value), How: "the peer is " + name + "; " + p.How}
		if want, ok := aims[p.Name]; ok {
			r.aim(f, lower, want)
		} else {
			r.add(f)
		}
	}
}
