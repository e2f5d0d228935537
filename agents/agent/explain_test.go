package agent

import (
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// What the switch has learned by the program's own flows is the program's, in whichever epoch; what somebody else has added that ends by itself is not.
func TestWhatWasLearnedIsOwn(t *testing.T) {
	t.Parallel()
	c := newCore(Config{Host: "h1", Bridge: "br-int"}, time.Now)
	c.epoch = 3
	changes := c.store.Apply([]state.Object{
		&state.Host{ID: "h1", Key: 1}, &state.Network{ID: "n1", Key: 1, MTU: 1500, Segment: state.Flat, Physical: "physnet1", Learn: true}, &state.Uplink{ID: "physnet1", OFPort: 101},
		&state.Port{ID: "p1", Key: 1, Network: "n1", MAC: 0xfa163e000001, Host: "h1", QoS: state.QoS{DSCP: -1}}, &state.Plug{ID: "p1", OFPort: 1, Zone: 1},
	}, nil)
	c.store.Read(func(v *state.View) { c.compiler.Update(v, changes) })
	learning := 0
	c.compiler.Flows(func(_ flows.FlowKey, f flows.Flow) bool {
		all, err := openflow.DecodeInstructions(f.Instructions)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			apply, ok := i.(*openflow.InstrApply)
			if !ok {
				continue
			}
			for _, a := range apply.Actions {
				learn, ok := a.(*openflow.Learn)
				if !ok {
					continue
				}
				learning++
				learned := met{key: flows.FlowKey{Table: flows.Table(learn.Table)}, timed: true}
				if !c.owns(learned, flows.Cookie(learn.Cookie)) {
					t.Errorf("what flow %#x has the switch learn is somebody else's", f.Cookie)
				}
			}
		}
		return true
	})
	if learning != 2 {
		t.Errorf("%d flows learn, want those of the port and of the physical network", learning)
	}
	for _, other := range []struct {
		table  flows.Table
		cookie flows.Cookie
	}{{flows.TLearned, 0}, {flows.TInRules, flows.Cookie(1) << 40}} {
		if c.owns(met{key: flows.FlowKey{Table: other.table}, timed: true}, other.cookie) {
			t.Errorf("a flow of table %d with cookie %#x that ends by itself is taken for one of the program", other.table, other.cookie)
		}
	}
}
