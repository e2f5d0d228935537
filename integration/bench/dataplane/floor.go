package dataplane

import (
	"context"
	"fmt"

	"github.com/headwater-cloud/headwater/integration/hosts"
)

// floor is no dataplane: the flows of all VMs that will be plugged in stand in the switches before. What is left of the time until a
// first ping is that of Open vSwitch, which nobody can do without.
type floor struct{ contender }

// contender keeps a floor from being asked what it cannot do.
type contender = Contender

// farOFPort is the port number that the VM at the second host asks for, and firstOFPort that of the first of those that are plugged
// in one after the other.
const (
	farOFPort   = 4999
	firstOFPort = 5000
)

func (floor) Name() string { return "Open vSwitch alone" }

func (floor) MTU() int { return 1500 - 50 }

// Up makes a wire between each VM to come and the far one: the tunnel's key is the number of the VM.
func (floor) Up(_ context.Context, bed *hosts.Bed) error {
	first, second := bed.Host("s1h1"), bed.Host("s1h2")
	here, there := first.AddVXLAN("vxlan0"), second.AddVXLAN("vxlan0")
	in, out := []string{}, []string{fmt.Sprintf("in_port=%d,actions=output:%d", there, farOFPort)}
	for i := range 100 {
		in = append(in, fmt.Sprintf("in_port=%d,actions=set_field:%d->tun_id,set_field:%s->tun_dst,output:%d", firstOFPort+i, i, second.UnderlayIP, here),
			fmt.Sprintf("in_port=%d,tun_id=%d,actions=output:%d", here, i, firstOFPort+i))
		for _, match := range []string{"arp,arp_tpa", "ip,nw_dst"} {
			out = append(out, fmt.Sprintf("in_port=%d,%s=%s,actions=set_field:%d->tun_id,set_field:%s->tun_dst,output:%d",
				farOFPort, match, numbered(i), i, first.UnderlayIP, there))
		}
	}
	first.AddFlows(hosts.Integration, in...)
	second.AddFlows(hosts.Integration, out...)
	return nil
}

func (floor) AddPorts(context.Context, ...Port) error { return nil }

func (floor) DelPorts(context.Context, ...Port) error { return nil }

func (floor) Down() {}

func (floor) Sync(context.Context) error { return nil }
