package flows

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// What is copied to the agent, for each kind of packet and of log; each packet once, whatever logs there are of it.
func TestLog(t *testing.T) {
	t.Parallel()
	l := newFenced(t, "g1", "g2")
	l.set(&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{{ID: "ssh", Protocol: 6, PortMin: 22, PortMax: 22, ICMPType: -1, ICMPCode: -1}}}, &state.SecurityGroup{ID: "g2"})
	port := *state.Find[*state.Port](l.view(), "p1")
	port.Project = "tenant"
	l.set(&port)
	const from = "in_port=2,tcp,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01,nw_src=10.0.0.2,nw_dst=10.0.0.1,tcp_dst="
	const back = "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_src=22"
	says := func(what string, want string, flow string, ct string) {
		t.Helper()
		_, how := l.trace(flow, "--ct-next", ct)
		var got []string
		for _, part := range strings.Split(how, "controller(")[1:] {
			_, data, _ := strings.Cut(part, "userdata=")
			if data, ok := strings.CutPrefix(data, fmt.Sprintf("%02x.", byte(OpLog))); ok {
				got = append(got, data[:5])
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: copies %q, want %q\n%s", what, s, want, how)
		}
	}
	const acceptIn, dropIn, dropOut = "00.00", "01.00", "01.01"
	for _, tt := range []struct {
		name         string
		log          state.SecurityLog
		accept, drop bool
	}{
		{"of a group", state.SecurityLog{SecurityGroup: "g2", Accept: true, Drop: true}, true, true},
		{"of a group, what is accepted", state.SecurityLog{SecurityGroup: "g1", Accept: true}, true, false},
		{"of a group, what is dropped", state.SecurityLog{SecurityGroup: "g1", Drop: true}, false, true},
		{"of a port", state.SecurityLog{Port: "p1", Accept: true, Drop: true}, true, true},
		{"of a port with a group", state.SecurityLog{Port: "p1", SecurityGroup: "g1", Drop: true}, false, true},
		{"of a project", state.SecurityLog{Project: "tenant", Accept: true, Drop: true}, true, true},
		{"of another group", state.SecurityLog{SecurityGroup: "g9", Accept: true, Drop: true}, false, false},
		{"of another port", state.SecurityLog{Port: "p2", Accept: true, Drop: true}, false, false},
		{"of a port with a group that it has not", state.SecurityLog{Port: "p1", SecurityGroup: "g9", Accept: true, Drop: true}, false, false},
		{"of another project", state.SecurityLog{Project: "other", Accept: true, Drop: true}, false, false},
	} {
		tt.log.ID = "log"
		l.set(&tt.log)
		accepted, dropped, out := "", "", ""
		if tt.accept {
			accepted = acceptIn
		}
		if tt.drop {
			dropped, out = dropIn, dropOut
		}
		says(tt.name+": a connection begins", accepted, from+"22", "trk,new")
		says(tt.name+": it begins again, since nobody has answered", "", from+"22,ct_label=0x5", "trk,new")
		says(tt.name+": it goes on", "", from+"22", "trk,est")
		says(tt.name+": its answer", "", back, "trk,est,rpl")
		says(tt.name+": it was blocked, and is allowed again", accepted, from+"22,ct_mark=1", "trk,est")
		says(tt.name+": what no rule allows", dropped, from+"23", "trk,new")
		says(tt.name+": what belongs to nothing", dropped, from+"22", "trk,inv")
		says(tt.name+": of its own accord", out, back, "trk,new")
		says(tt.name+": a rule is gone", dropped, from+"23", "trk,est")
		l.same()
	}
	l.set(&state.SecurityLog{ID: "log", SecurityGroup: "g1", Accept: true, Drop: true}, &state.SecurityLog{ID: "more", Port: "p1", Accept: true, Drop: true},
		&state.SecurityLog{ID: "all", Project: "tenant", Accept: true, Drop: true})
	says("three logs: a connection begins", acceptIn, from+"22", "trk,new")
	says("three logs: what no rule allows", dropIn, from+"23", "trk,new")
	l.set(&state.SecurityGroup{ID: "g1", Stateless: true, Rules: []state.SecurityRule{{Protocol: 6, PortMin: 22, PortMax: 22, ICMPType: -1, ICMPCode: -1}}},
		&state.SecurityGroup{ID: "g2", Stateless: true})
	says("stateless: a packet", acceptIn, from+"22", "trk,new")
	says("stateless: what no rule allows", dropIn, from+"23", "trk,new")
	port.SecurityGroups = nil
	l.set(&port)
	says("no group, a log of the project: nothing is allowed", dropIn, from+"22", "trk,new")
	before := len(l.compiler.Meters())
	l.remove(state.Ref{Kind: state.KindSecurityLog, ID: "log"}, state.Ref{Kind: state.KindSecurityLog, ID: "more"}, state.Ref{Kind: state.KindSecurityLog, ID: "all"})
	says("no log", "", from+"23", "trk,new")
	if now := len(l.compiler.Meters()); now != before-2 {
		t.Errorf("%d meters before the logs went, %d now, want two less", before, now)
	}
	l.same()
}

// The copy is metered and short, and what becomes of the packet does not depend on it: the flow that would have dropped it counts it, under its own reason.
func TestLogLeavesPacketsAlone(t *testing.T) {
	t.Parallel()
	l := newFenced(t, "g1")
	l.set(&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{{Protocol: 6, PortMin: 22, PortMax: 22, ICMPType: -1, ICMPCode: -1}}})
	const from = "in_port=2,tcp,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01,nw_src=10.0.0.2,nw_dst=10.0.0.1,tcp_dst="
	logs := &state.SecurityLog{ID: "log", SecurityGroup: "g1", Accept: true, Drop: true}
	for _, tt := range []struct {
		port, ct string
		copied   bool
	}{{"22", "trk,new", true}, {"22", "trk,est", false}, {"23", "trk,new", true}, {"23", "trk,est", true}, {"22", "trk,inv", true}} {
		last := func() (does, by string) { // behind the connection tracker
			does, how := l.trace(from+tt.port, "--ct-next", tt.ct)
			for line := range strings.Lines(how) {
				if _, c, ok := strings.Cut(line, "cookie "); ok {
					by = c
				}
			}
			return does[strings.LastIndex(does, "|")+2:], by
		}
		without, by := last()
		l.set(logs)
		with, byThen := last()
		l.remove(logs.Ref())
		copied, rest := "", with
		if tt.copied {
			metered := regexp.MustCompile(`^(?:clone|sample)\(.*meter\(.*userspace\([^|]*max_len=128\)+`)
			copied = metered.FindString(with)
			if rest = strings.TrimPrefix(with[len(copied):], ","); rest == "" {
				rest = "drop"
			}
		}
		if rest != without || by != byThen || (copied != "") != tt.copied {
			t.Errorf("%v: without a log %s by %s, with one %s by %s", tt, without, by, with, byThen)
		}
	}
}

// However many ports a log is of, it is a few flows, and none when it goes.
func TestLogsAreFewFlows(t *testing.T) {
	t.Parallel()
	const n = 1000
	b, _ := newBare(crowd(n)...)
	ports := grouped(n, "sg")
	for _, o := range ports {
		o.(*state.Port).Project = "tenant" //nolint:errcheck,forcetypeassert // it is one
	}
	b.set(append(ports, crowdGroup())...)
	meters := len(b.c.Meters())
	for _, tt := range []struct {
		name string
		log  *state.SecurityLog
		want int
	}{
		{"of a group", &state.SecurityLog{ID: "log", SecurityGroup: "sg", Accept: true, Drop: true}, 8},
		{"of a group, what is dropped", &state.SecurityLog{ID: "log", SecurityGroup: "sg", Drop: true}, 2},
		{"of a project", &state.SecurityLog{ID: "log", Project: "tenant", Accept: true, Drop: true}, 8},
		{"of a port", &state.SecurityLog{ID: "log", Port: "p7", Accept: true, Drop: true}, 8},
	} {
		if d := b.set(tt.log); len(d.Flows) != tt.want || len(d.Meters) != (tt.want+4)/6 {
			t.Errorf("%s: %d flows and %d meters, want %d", tt.name, len(d.Flows), len(d.Meters), tt.want)
		}
		if d := b.apply(nil, tt.log.Ref()); len(d.Flows) != tt.want || len(b.c.Meters()) != meters {
			t.Errorf("%s is gone: %d flows change, want %d; %d meters, want %d", tt.name, len(d.Flows), tt.want, len(b.c.Meters()), meters)
		}
	}
	off := New(Config{Host: labHost})
	b.s.Apply([]state.Object{&state.SecurityLog{ID: "log", SecurityGroup: "sg", Drop: true}}, nil)
	b.s.Read(func(v *state.View) {
		var all []state.Change
		for _, k := range []state.Kind{state.KindPort, state.KindPlug, state.KindSecurityGroup, state.KindNetwork, state.KindSecurityLog} {
			for _, id := range v.IDs(state.Index{List: state.ListAll, ID: k.String()}) {
				all = append(all, state.Change{Ref: state.Ref{Kind: k, ID: id}, New: v.Get(state.Ref{Kind: k, ID: id})})
			}
		}
		off.Update(v, all)
	})
	off.Flows(func(k FlowKey, f Flow) bool {
		if do, _ := openflow.DecodeInstructions(f.Instructions); strings.Contains(fmt.Sprint(do), "Controller") && Class(ruleLog) == f.Cookie.Class() {
			t.Errorf("without a rate there are no logs: %v", k)
		}
		return true
	})
}
