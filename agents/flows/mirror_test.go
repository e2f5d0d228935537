package flows

import (
	"strings"
	"testing"

	"github.com/headwater-cloud/headwater/agents/state"
)

// A mirrored packet goes on as before, and a copy of it to the port that watches, here or on another host; a copy is neither held against groups nor copied again.
func TestMirror(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.set(&state.Network{ID: "n1", Key: 7, MTU: 1450}, &state.Network{ID: "n2", Key: 8, MTU: 1300})
	l.plug(1, "n1", "10.0.0.1", nil)
	l.plug(2, "n1", "10.0.0.2", nil)
	l.plug(3, "n2", "10.1.0.3", func(p *state.Port) { p.PortSecurity = true }) // it may get nothing
	l.set(l.port(4, "n1", "h2", "10.0.0.4", nil))
	const from1 = "in_port=1,tcp,dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_dst=80"
	const from2 = "in_port=2,tcp,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:01,nw_src=10.0.0.2,nw_dst=10.0.0.1,tcp_dst=80"
	const asks = "in_port=1,arp,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=fa:16:3e:00:00:01"
	// The device that watches is p3: in clones, as far as the copy fits.
	here := func(bytes string) string {
		return `check_pkt_len\(size=` + bytes + `,gt\(drop\),le\(p3\)\),`
	}
	away := `check_pkt_len\(size=1464,gt\(drop\),le\((?:` + tunnelled("12", "0x2001f4") + `)\)\),`
	l.expect("no mirror", from1, "p2")
	l.set(&state.Mirror{ID: "m", Key: 500, Port: "p1", Target: "p3", In: true, Out: true})
	l.expect("what it sends", from1, here("1314")+"p2")
	l.expect("what it gets", from2, here("1314")+"p1")
	l.expect("what others say", strings.Replace(from2, "dl_dst=fa:16:3e:00:00:01", "dl_dst=fa:16:3e:00:00:77", 1), "drop")
	if does, how := l.trace(asks); strings.Count(does, "p3") != 2 || !strings.HasSuffix(does, "p1") {
		t.Errorf("a question that a flow answers: %s, want a copy of it and one of the answer\n%s", does, how)
	}
	l.set(&state.Mirror{ID: "m", Key: 500, Port: "p1", Target: "p3", In: true})
	l.expect("only what it gets: it sends", from1, "p2")
	l.expect("only what it gets: it gets", from2, here("1314")+"p1")
	l.set(&state.Mirror{ID: "m", Key: 500, Port: "p1", Target: "p4", Out: true})
	l.expect("to another host", from1, away+"p2")
	l.expect("to another host, what it gets", from2, "p1")
	l.set(&state.Mirror{ID: "m", Key: 500, Port: "p4", Target: "p3", In: true, Out: true})
	const in = "in_port=100,tun_src=172.31.1.12,tun_dst=172.31.1.11,tcp,dl_src=fa:16:3e:00:00:02,dl_dst=fa:16:3e:00:00:04,nw_src=10.0.0.2,nw_dst=10.0.0.4,tun_id="
	l.expect("from another host", in+"0x2001f4", "p3")
	l.expect("from another host, for a mirror that is gone", in+"0x2001f5", "drop")
	// Each watches the other, and a third both: a copy is no packet of theirs.
	l.set(&state.Mirror{ID: "m", Key: 500, Port: "p1", Target: "p2", In: true, Out: true}, &state.Mirror{ID: "back", Key: 501, Port: "p2", Target: "p1", In: true, Out: true})
	if does, how := l.trace(from1); strings.Count(does, "p1") != 1 || strings.Count(does, "p2") != 2 {
		t.Errorf("two that watch each other: %s, want a copy of what one sends, and one of what the other gets\n%s", does, how)
	}
	l.same()
	l.remove(state.Ref{Kind: state.KindMirror, ID: "m"}, state.Ref{Kind: state.KindMirror, ID: "back"})
	l.expect("no mirror any more", from1, "p2")
	l.same()
}
