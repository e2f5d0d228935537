package trace

import (
	"slices"
	"testing"
)

// What leaves by the bridge of a physical network is in the network that it was routed to. Of a packet that was not looked up again on its way, the network
// that it came from was told.
func TestLeavingByAnotherBridge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		network    uint64
	}{
		{"routed", `Flow: tcp,in_port=1,nw_src=10.0.1.11

bridge("br-int")
----------------
 0. in_port=1, priority 1000, cookie 0x10100050c5d1f
    goto_table:90
90. reg7=0x2, priority 2000, cookie 0x10705143855c4
    output:2

bridge("br-ex")
---------------
 0. priority 0
    NORMAL

Final flow: tcp,reg7=0x2,metadata=0x5c,in_port=1,nw_src=10.0.1.11
Megaflow: recirc_id=0,eth,tcp,in_port=1
Datapath actions: 5
`, 0x5c},
		{"looked up again", `Flow: tcp,in_port=1
bridge("br-int")
 0. in_port=1, priority 1000
Final flow: tcp,reg7=0x2,metadata=0x7,in_port=1
Datapath actions: ct(zone=1),recirc(0x1)
Flow: recirc_id=0x1,tcp,metadata=0x7,in_port=1
bridge("br-int")
90. reg7=0x2, priority 2000
bridge("br-ex")
 0. priority 0
Final flow: unchanged
Datapath actions: 5
`, 0x7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := readTrace(tt.text, 0)
			if !slices.Equal(got.bridges, []string{"br-ex"}) || field(got.left, "metadata") != tt.network {
				t.Errorf("it leaves by %q as %s, want by br-ex in network %#x", got.bridges, got.left, tt.network)
			}
		})
	}
}
