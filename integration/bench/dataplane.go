package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/headwater-cloud/headwater/integration/bench/dataplane"
)

// dataplaneAims are by the names of figures.
func dataplaneAims() map[string]float64 {
	return map[string]float64{
		"of it the contender's own share, p50, empty host":           5,
		"of it the contender's own share, p50, 1000 ports beside it": 5,
		"1000 ports: until all flows are in at their host":           2,
		"1000 ports: CPU of the agent":                               1,
		"1000 ports: memory of the agent":                            60,
		"first stateful group":                                       300,
		"one more rule, p50":                                         20,
		"flows of one more rule":                                     50,
		"rule that names the group itself":                           30,
		dataplane.PacketInsAnswered:                                  50_000,
	}
}

// measureDataplane puts the host agent and OVN through the same, one after the other.
func measureDataplane(ctx context.Context, b *bench) error {
	if os.Geteuid() != 0 {
		return errors.New("emulated hosts need root")
	}
	program, err := b.goBuild(ctx, "headwater-agent")
	if err != nil {
		return err
	}
	if err := measureControllers(ctx, b); err != nil {
		return err
	}
	ours, err := dataplane.Measure(ctx, dataplane.NewHeadwater(program), dataplane.Full(), b.say)
	if err != nil {
		b.report.dataplane(ours, nil, "")
		return err
	}
	ovn, err := dataplane.NewOVN(ctx)
	if err != nil {
		b.note("no OVN to compare with: %v", err)
		b.report.dataplane(ours, nil, "")
		return nil
	}
	peer, err := dataplane.Measure(ctx, ovn, dataplane.Full(), b.say)
	b.report.dataplane(ours, peer, "; the peer is "+ovn.Name())
	return err
}

// giveBack is what the bench runs itself as, as a controller.
const giveBack = "giveback"

// measureControllers puts our OpenFlow and os-ken's beside each other.
func measureControllers(ctx context.Context, b *bench) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	all, who := []dataplane.Controller{dataplane.NewOpenFlow(self, giveBack)}, ""
	osken, err := dataplane.NewOSKen(ctx)
	if err != nil {
		b.note("no os-ken to compare with: %v", err)
	} else {
		all, who = append(all, osken), "; the peer is "+osken.Name
	}
	figures, err := dataplane.MeasureControllers(ctx, dataplane.FullControllers(), b.say, all...)
	b.report.dataplane(append(figures, nil, nil)[0], append(figures, nil, nil)[1], who)
	return err
}

// dataplane records figures of ours beside those of the peer, which may have some more.
func (r *report) dataplane(ours, peer []dataplane.Figure, who string) {
	all := peer
	if len(peer) < len(ours) {
		all = ours
	}
	aims, value, peerValue := dataplaneAims(), byName(ours), byName(peer)
	for _, p := range all {
		f := figure{Name: p.Name, Unit: p.Unit, How: p.How + who, Ours: value[p.Name], Peer: peerValue[p.Name]}
		want, has := aims[p.Name]
		d := lower
		if p.Higher {
			d = higher
		}
		if f.Ours != nil && f.Peer != nil && *f.Ours > 0 && *f.Peer > 0 {
			f.Ratio = *f.Peer / *f.Ours
			if p.Higher {
				f.Ratio = *f.Ours / *f.Peer
			}
			if !has && strings.HasPrefix(p.Name, "DHCP offer") { // no worse than the peer
				want, has = *f.Peer, true
			}
		}
		if has {
			r.aim(f, d, want)
		} else {
			r.add(f)
		}
	}
}

func byName(figures []dataplane.Figure) map[string]*float64 {
	values := map[string]*float64{}
	for i := range figures {
		values[figures[i].Name] = &figures[i].Value
	}
	return values
}
