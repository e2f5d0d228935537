package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/integration/hosts"
	"github.com/headwater-cloud/headwater/integration/hosts/probe"
)

// Who watches a port gets a copy of each packet, once: on the same host and on another, of one direction or both, whatever its own security groups say; and nobody else does.
func TestAgentsMirror(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	ctx := t.Context()
	h := f.bed.Hosts()
	a, portA := f.vm("a", h[0], hosts.VMConfig{})
	b, _ := f.vm("b", h[1], hosts.VMConfig{})
	near, portNear := f.vm("near", h[0], hosts.VMConfig{})
	far, portFar := f.vm("far", h[1], hosts.VMConfig{})
	small, portSmall := f.vm("small", h[0], hosts.VMConfig{MTU: 1300})
	f.state.SecurityGroups = append(f.state.SecurityGroups, &api.SecurityGroup{Id: "closed"})
	for _, p := range []*api.Port{portNear, portFar, portSmall} {
		p.SecurityGroups = []string{"closed"}
	}
	f.state.Networks = append(f.state.Networks, &api.Network{Id: "n2", Key: 2, Mtu: 1300})
	portSmall.Network, portSmall.FixedIps = "n2", nil
	mirror := func(id string, key uint32, port, target *api.Port, direction api.Mirror_Direction) *api.Mirror {
		return &api.Mirror{Id: id, Key: key, Port: port.Id, Target: target.Id, Direction: direction}
	}
	f.state.Mirrors = []*api.Mirror{
		mirror("near", 901, portA, portNear, api.Mirror_BOTH), mirror("far", 902, portA, portFar, api.Mirror_IN),
		mirror("back", 903, portNear, portA, api.Mirror_BOTH), // who watches is watched: copies are not copied
	}
	f.settle(ctx)
	a.MustReach(b.IPs[0].Addr())
	far.MustNotReach(a.IPs[0].Addr())

	watch := func(vm *hosts.VM) *probe.Socket {
		s, err := probe.Open(vm, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	nearby, afar, tiny := watch(near), watch(far), watch(small)
	const size = 60 // bytes of the pings that are counted; those that end a count have others
	ping := func(n, bytes int, more ...string) {
		t.Helper()
		a.MustReach(b.IPs[0].Addr(), append([]string{"-c", fmt.Sprint(n), "-s", fmt.Sprint(bytes)}, more...)...)
	}
	counted := func(s *probe.Socket, who string, last, requests, replies int) {
		t.Helper()
		ends := byte(0) // with the answer
		if replies == 0 {
			ends = 8
		}
		got, err := echoes(ctx, s, size, last, ends)
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		for _, kind := range []struct {
			icmp  byte
			want  int
			words string
		}{{8, requests, "requests"}, {0, replies, "answers"}} {
			distinct := 0
			for e, n := range got {
				if e.icmp != kind.icmp {
					continue
				}
				if distinct++; n != 1 {
					t.Errorf("%s has %d copies of %+v, want one", who, n, e)
				}
			}
			if distinct < kind.want || kind.want == 0 && distinct > 0 {
				t.Errorf("%s has copies of %d %s, want %d", who, distinct, kind.words, kind.want)
			}
		}
	}
	ping(10, size, "-W", "1")
	ping(1, 80)
	counted(nearby, "near", 80, 10, 10)
	counted(afar, "far", 80, 0, 10)

	// A copy that the target's network does not take is dropped and counted; the packet itself goes on, and the others' copies too.
	f.state.Mirrors = append(f.state.Mirrors, mirror("small", 904, portA, portSmall, api.Mirror_OUT))
	f.settle(ctx)
	ping(3, 1372, "-M", "do")
	ping(10, size, "-W", "1")
	ping(1, 82)
	counted(tiny, "small", 82, 10, 0)
	counted(nearby, "near", 82, 10, 10)
	counted(afar, "far", 82, 0, 10)
	f.await(ctx, "copies that are too big are counted", func() error {
		if drops := f.drops(ctx, h[0]); drops["mirror-too-big"] < 3 {
			return fmt.Errorf("%v", drops)
		}
		return nil
	})

	// Without mirrors nobody gets anything any more.
	f.state.Mirrors = f.state.Mirrors[1:2]
	f.settle(ctx)
	ping(5, size)
	ping(1, 84)
	counted(afar, "far", 84, 0, 5)
	quiet, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if got, err := echoes(quiet, nearby, size, 84, 0); err == nil || len(got) > 0 {
		t.Errorf("who watches no more gets %v", got)
	}
}

// pinged is a ping or its answer.
type pinged struct {
	icmp    byte
	id, seq uint16
}

// echoes counts the pings of a size, and the answers, that come until a ping or an answer of another size does.
func echoes(ctx context.Context, s *probe.Socket, size, end int, kind byte) (map[pinged]int, error) {
	const headers = 14 + 20 + 8
	got := map[pinged]int{}
	_, err := s.Await(ctx, func(frame []byte) bool {
		if len(frame) < headers || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[23] != 1 {
			return false
		}
		icmp := frame[34:]
		e := pinged{icmp[0], binary.BigEndian.Uint16(icmp[4:]), binary.BigEndian.Uint16(icmp[6:])}
		switch len(frame) {
		case headers + size:
			got[e]++
		case headers + end:
			return e.icmp == kind
		}
		return false
	})
	return got, err
}
