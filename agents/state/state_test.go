package state

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/api"
)

// Whoever writes a state by hand learns all that is wrong with an object at once, by the names of its fields.
func TestParseNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := Parse(&api.Object{Kind: &api.Object_Port{Port: &api.Port{
		Id: "p 1", Key: 1 << 21, Network: "net", Mac: "01:00:5e:00:00:01", FixedIps: []*api.FixedIP{{Address: "10.0.0"}},
	}}})
	if err == nil {
		t.Fatal("a port with five faults was taken")
	}
	for _, want := range []string{"port p 1", "id:", "key: 2097152", "mac: 01:00:5e:00:00:01", "fixed_ips:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if _, err := Parse(&api.Object{}); !errors.Is(err, ErrUnknownKind) {
		t.Errorf("an object of no kind: %v, want ErrUnknownKind", err)
	}
}

// A host with an address of all zeros would have every host take whatever came by no tunnel of that family for its packets.
func TestTunnelEndsAreAddressesOfHosts(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{"192.0.2.1": true, "2001:db8::1": true, "0.0.0.0": false, "::": false, "239.1.1.1": false, "ff02::1": false} {
		_, err := Parse(&api.Object{Kind: &api.Object_Host{Host: &api.Host{Id: "h1", Key: 1, TunnelEnds: []*api.TunnelEnd{{Address: address}}}}})
		if (err == nil) != ok {
			t.Errorf("a host with tunnel end %s: %v, want it taken: %t", address, err, ok)
		}
	}
}

func TestStoreLists(t *testing.T) {
	t.Parallel()
	s := NewStore()
	port := func(id, network, host string) *Port { return &Port{ID: id, Key: 7, Network: network, Host: host} }
	s.Apply([]Object{port("a", "n1", "h1"), port("b", "n1", "h2")}, nil)
	changes := s.Apply([]Object{port("a", "n2", "h1")}, []Ref{{KindPort, "b"}, {KindPort, "none"}})
	if len(changes) != 2 || changes[0].Old == nil || changes[0].New == nil || changes[1].New != nil {
		t.Fatalf("changes %+v, want a changed and b gone", changes)
	}
	if got, want := changes[0].Touched(), []Index{
		{ListPortsOfNetwork, "n1"}, {ListPortsOfNetwork, "n2"}, {ListPortsOnHost, OnHost("n1", "h1")}, {ListPortsOnHost, OnHost("n2", "h1")},
		{ListHostsOfNetwork, "n1"}, {ListHostsOfNetwork, "n2"},
	}; !slices.Equal(got, want) {
		t.Errorf("touched %v, want %v", got, want)
	}
	s.Read(func(v *View) {
		if got := v.IDs(Index{ListHostsOfNetwork, "n1"}); len(got) != 0 {
			t.Errorf("hosts of n1: %v, want none", got)
		}
		if got := v.IDs(Index{ListHostsOfNetwork, "n2"}); !slices.Equal(got, []string{"h1"}) {
			t.Errorf("hosts of n2: %v, want h1", got)
		}
		if got := v.IDs(Index{ListPortsOfNetwork, "n1"}); len(got) != 0 {
			t.Errorf("ports of n1: %v, want none", got)
		}
		if got := All[*Port](v, Index{ListPortsOfNetwork, "n2"}); len(got) != 1 || got[0].ID != "a" {
			t.Errorf("ports of n2: %v, want a", got)
		}
		if Find[*Port](v, "b") != nil || v.ByKey(KindPort, 7) == nil {
			t.Error("b is still there, or a is not found by its key")
		}
	})
	if again := s.Replace([]Object{port("c", "n1", "")}, false); len(again) != 2 {
		t.Errorf("replacing a by c changed %+v, want two", again)
	}
}

func TestEUI64(t *testing.T) {
	t.Parallel()
	m, err := ParseMAC("fa:16:3e:00:00:01")
	if err != nil || m.LinkLocal().String() != "fe80::f816:3eff:fe00:1" || m.String() != "fa:16:3e:00:00:01" {
		t.Errorf("%v %v %v", m, m.LinkLocal(), err)
	}
}

// A log says what it is about by what it names, and of what by its event; one that would be about nothing is refused.
func TestSecurityLog(t *testing.T) {
	t.Parallel()
	port := &Port{ID: "p", Project: "tenant", SecurityGroups: []string{"g"}}
	for _, tt := range []struct {
		name         string
		log          *api.SecurityLog
		covers       bool
		accept, drop bool
		list         Index
	}{
		{"of a project", &api.SecurityLog{Project: "tenant"}, true, true, true, Index{ListLogsOfProject, "tenant"}},
		{"of another project", &api.SecurityLog{Project: "other", Event: api.SecurityLog_DROP}, false, false, true, Index{ListLogsOfProject, "other"}},
		{"of a group, which another project may have", &api.SecurityLog{Project: "other", SecurityGroup: "g", Event: api.SecurityLog_ACCEPT}, true, true, false, Index{ListLogsOfGroup, "g"}},
		{"of another group", &api.SecurityLog{SecurityGroup: "h"}, false, true, true, Index{ListLogsOfGroup, "h"}},
		{"of a port", &api.SecurityLog{Port: "p"}, true, true, true, Index{ListLogsOfPort, "p"}},
		{"of a port with a group", &api.SecurityLog{Port: "p", SecurityGroup: "g"}, true, true, true, Index{ListLogsOfPort, "p"}},
		{"of a port that has not the group", &api.SecurityLog{Port: "p", SecurityGroup: "h"}, false, true, true, Index{ListLogsOfPort, "p"}},
		{"of another port", &api.SecurityLog{Project: "tenant", Port: "q"}, false, true, true, Index{ListLogsOfPort, "q"}},
	} {
		tt.log.Id = "l"
		o, err := Parse(&api.Object{Kind: &api.Object_SecurityLog{SecurityLog: tt.log}})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		log := o.(*SecurityLog) //nolint:errcheck,forcetypeassert // it was asked for
		if log.Covers(port) != tt.covers || log.Accept != tt.accept || log.Drop != tt.drop || !slices.Contains(indexesOf(log), tt.list) {
			t.Errorf("%s: covers %t, %+v in %v", tt.name, log.Covers(port), log, indexesOf(log))
		}
	}
	for want, log := range map[string]*api.SecurityLog{"project: a log": {Id: "l"}, "event: 7 is not known": {Id: "l", Port: "p", Event: 7}, "security_group:": {Id: "l", SecurityGroup: "a b"}} {
		if _, err := Parse(&api.Object{Kind: &api.Object_SecurityLog{SecurityLog: log}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", log, err, want)
		}
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	for direction, want := range map[api.Mirror_Direction][2]bool{api.Mirror_BOTH: {true, true}, api.Mirror_IN: {true, false}, api.Mirror_OUT: {false, true}} {
		o, err := Parse(&api.Object{Kind: &api.Object_Mirror{Mirror: &api.Mirror{Id: "m", Key: 9, Port: "p", Target: "q", Direction: direction}}})
		if m, ok := o.(*Mirror); err != nil || !ok || m.In != want[0] || m.Out != want[1] || !slices.Contains(indexesOf(m), Index{ListMirrorsOfPort, "p"}) {
			t.Errorf("%s: %+v, %v", direction, o, err)
		}
	}
	_, err := Parse(&api.Object{Kind: &api.Object_Mirror{Mirror: &api.Mirror{Id: "m", Port: "p", Target: "p", Direction: 5}}})
	for _, want := range []string{"key: 0", "target: port p would get its own packets", "direction: 5 is not known"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
