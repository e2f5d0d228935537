package seclog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/headwater-cloud/headwater/agents/flows"
	"github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/state"
)

// desk is a Logger of a host with port p1 (key 7) in groups g1 and g2, and some logs.
type desk struct {
	*Logger
	store *state.Store
	said  bytes.Buffer // the agent's log
}

func newDesk(t testing.TB, cfg Config, stderr *bytes.Buffer) *desk {
	t.Helper()
	d := &desk{store: state.NewStore()}
	d.store.Apply([]state.Object{
		&state.Port{ID: "p1", Key: 7, Network: "n1", Project: "tenant", SecurityGroups: []string{"g1", "g2"}},
		&state.SecurityGroup{ID: "g1", Rules: []state.SecurityRule{
			{ID: "web", Protocol: 6, PortMin: 80, PortMax: 89, ICMPType: -1, ICMPCode: -1}, {ID: "all-web", Protocol: 6, PortMin: 80, PortMax: 80, ICMPType: -1, ICMPCode: -1},
			{ID: "near", Protocol: 6, PortMin: 80, PortMax: 80, ICMPType: -1, ICMPCode: -1, Remote: netip.MustParsePrefix("10.0.0.0/24")},
			{ID: "far", Protocol: 6, ICMPType: -1, ICMPCode: -1, Remote: netip.MustParsePrefix("10.9.0.0/24")},
			{ID: "members", Protocol: -1, ICMPType: -1, ICMPCode: -1, RemoteSet: "set"}, {ID: "ping", Protocol: 1, ICMPType: 8, ICMPCode: -1},
			{ID: "out", Egress: true, Protocol: -1, ICMPType: -1, ICMPCode: -1}, {ID: "ping6", V6: true, Protocol: 58, ICMPType: 128, ICMPCode: 0},
		}},
		&state.SecurityLog{ID: "by-group", SecurityGroup: "g2", Accept: true, Drop: true}, &state.SecurityLog{ID: "by-port", Port: "p1", Drop: true},
		&state.SecurityLog{ID: "by-project", Project: "tenant", Accept: true}, &state.SecurityLog{ID: "of-others", Project: "others", Accept: true, Drop: true},
		&state.SecurityLog{ID: "of-another-group", Port: "p1", SecurityGroup: "g9", Accept: true, Drop: true},
	}, nil)
	rules := map[uint32]flows.Rule{1: {Group: "g1"}, 2: {Group: "g1", RemoteSet: "set"}, 3: {Group: "g1", Egress: true}, 4: {Group: "gone"}}
	with := Parts{Host: "h1", Store: d.store, RuleOf: func(n uint32) (flows.Rule, bool) { r, ok := rules[n]; return r, ok }, Registerer: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(&d.said, nil)), Now: func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC) }}
	if stderr != nil {
		with.Stderr = stderr
	}
	var err error
	if d.Logger, err = New(cfg, with); err != nil {
		t.Fatal(err)
	}
	return d
}

func raw(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

const (
	ether4 = "fa163e000001 fa163e000002 0800 "
	ether6 = "fa163e000001 fa163e000002 86dd "
	ports4 = "4500003c 00004000 4006 0000 0a000005 0a000001 " // TCP
)

// copyOf is what the switch sends of a frame.
func copyOf(event, direction byte, frame []byte, fields ...openflow.MatchField) *openflow.PacketIn2 {
	return &openflow.PacketIn2{Packet: frame, UserData: []byte{byte(flows.OpLog), event, direction}, Metadata: fields}
}

func num(f openflow.FieldID, v uint64) openflow.MatchField {
	return openflow.MatchField{Field: f, Value: openflow.Num(v)}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	tcp80 := raw(ether4 + ports4 + "c000 0050 00000000 00000000 5002")
	ping6 := raw(ether6 + "60000000 0010 3a 40 20010db8000000000000000000000005 20010db8000000000000000000000001 8000 0000")
	for _, tt := range []struct {
		name   string
		packet *openflow.PacketIn2
		want   string // "": none
	}{
		{"accepted in", copyOf(flows.LogAccept, flows.LogIngress, tcp80, num(flows.RDest, 7), num(flows.RInRule, 1)),
			`"action":"ACCEPT","direction":"ingress","project_id":"tenant","log_ids":["by-group","by-project"],"port_id":"p1","network_id":"n1",` +
				`"security_group_id":"g1","rule_ids":["web","all-web","near"],"protocol":"tcp","source":"10.0.0.5","source_port":49152,"destination":"10.0.0.1","destination_port":80,"bytes":48`},
		{"accepted as a member", copyOf(flows.LogAccept, flows.LogIngress, tcp80, num(flows.RDest, 7), num(flows.RInRule, 2)),
			`"security_group_id":"g1","rule_ids":["members"],`},
		{"accepted out", copyOf(flows.LogAccept, flows.LogEgress, tcp80, num(flows.RSource, 7), num(flows.ROutRule, 3), num(flows.RDest, 8)),
			`"action":"ACCEPT","direction":"egress","project_id":"tenant","log_ids":["by-group","by-project"],"port_id":"p1","network_id":"n1","security_group_id":"g1","rule_ids":["out"],`},
		{"accepted by a group that is gone", copyOf(flows.LogAccept, flows.LogIngress, tcp80, num(flows.RDest, 7), num(flows.RInRule, 4)), `"security_group_id":"gone","protocol":"tcp"`},
		{"accepted by what nobody knows", copyOf(flows.LogAccept, flows.LogIngress, tcp80, num(flows.RDest, 7), num(flows.RInRule, 99)), `"network_id":"n1","protocol":"tcp"`},
		{"a ping", copyOf(flows.LogAccept, flows.LogIngress, ping6, num(flows.RDest, 7), num(flows.RInRule, 1)),
			`"rule_ids":["ping6"],"protocol":"icmpv6","source":"2001:db8::5","destination":"2001:db8::1","icmp_type":128,"icmp_code":0,`},
		{"denied", copyOf(flows.LogDrop, flows.LogIngress, tcp80, num(flows.RDest, 7), num(openflow.CTState, 0x21)),
			`"action":"DROP","direction":"ingress","project_id":"tenant","log_ids":["by-group","by-port"],"port_id":"p1","network_id":"n1","reason":"in-denied","protocol":"tcp"`},
		{"cut", copyOf(flows.LogDrop, flows.LogEgress, tcp80, num(flows.RSource, 7), num(openflow.CTState, 0x22)), `"reason":"out-cut"`},
		{"blocked", copyOf(flows.LogDrop, flows.LogIngress, tcp80, num(flows.RDest, 7), num(openflow.CTState, 0x22), num(openflow.CTMark, 1)), `"reason":"in-blocked"`},
		{"an answer that is blocked", copyOf(flows.LogDrop, flows.LogEgress, tcp80, num(flows.RSource, 7), num(openflow.CTState, 0x2a), num(openflow.CTMark, 1)), `"reason":"out-blocked"`},
		{"invalid", copyOf(flows.LogDrop, flows.LogIngress, tcp80, num(flows.RDest, 7), num(openflow.CTState, 0x30)), `"reason":"in-invalid"`},
		{"of a port that is gone", copyOf(flows.LogDrop, flows.LogIngress, tcp80, num(flows.RDest, 8)), ""},
		{"no packet", copyOf(flows.LogDrop, flows.LogIngress, nil, num(flows.RDest, 7)), ""},
		{"not said what", &openflow.PacketIn2{Packet: tcp80, UserData: []byte{byte(flows.OpLog)}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			d := newDesk(t, Config{}, &out)
			d.Handle(tt.packet)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // what has come is written all the same
			if err := d.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if tt.want == "" && out.Len() > 0 || !strings.Contains(out.String(), tt.want) || tt.want != "" && !strings.HasPrefix(out.String(), `{"time":"2026-11-21T12:00:00.000000005Z","host":"h1",`) {
				t.Errorf("got  %swant %s", out.String(), tt.want)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	const six = "6000000000202b4020010db800000000000000000000000520010db8000000000000000000000001"
	for _, tt := range []struct{ name, frame, want string }{
		{"TCP", ether4 + ports4 + "c0000050", "10.0.0.5 10.0.0.1 6 49152>80"},
		{"with options of IP", ether4 + "4600003c 00004000 4011 0000 0a000005 0a000001 01010101 00350036", "10.0.0.5 10.0.0.1 17 53>54"},
		{"a fragment", ether4 + "4500003c 00000010 4011 0000 0a000005 0a000001 00350036", "10.0.0.5 10.0.0.1 17 later"},
		{"cut off", ether4 + ports4 + "c000", "10.0.0.5 10.0.0.1 6"},
		{"cut off in IP", ether4 + ports4[:20], "no"},
		{"behind a routing header and a destination header", ether6 + six + "3c00000000000000" + "0601000000000000 0000000000000000" + "00500051", "2001:db8::5 2001:db8::1 6 80>81"},
		{"a first fragment of IPv6", ether6 + strings.Replace(six, "2b40", "2c40", 1) + "1100000100000001" + "00500051", "2001:db8::5 2001:db8::1 17 80>81"},
		{"a later one", ether6 + strings.Replace(six, "2b40", "2c40", 1) + "1100001100000001" + "00500051", "2001:db8::5 2001:db8::1 17 later"},
		{"ICMP", ether4 + strings.Replace(ports4, "4006", "4001", 1) + "0301", "10.0.0.5 10.0.0.1 1 type 3 code 1"},
		{"ARP", "fa163e000001 fa163e000002 0806 0001", "no"},
	} {
		h, ok := parse(raw(tt.frame))
		got := fmt.Sprint(h.src, " ", h.dst, " ", h.proto)
		switch {
		case !ok:
			got = "no"
		case h.later:
			got += " later"
		case h.ports:
			got += fmt.Sprintf(" %d>%d", h.srcPort, h.dstPort)
		case h.icmp:
			got += fmt.Sprintf(" type %d code %d", h.kind, h.code)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Whatever comes, there is a record that can be read, or none.
func FuzzRecord(f *testing.F) {
	f.Add(raw(ether4+ports4+"c0000050"), uint64(0x21), true)
	f.Add(raw(ether6+"6000000000202c4020010db800000000000000000000000520010db80000000000000000000000011100000100000001"), uint64(0), false)
	f.Add([]byte{}, uint64(1), true)
	d := newDesk(f, Config{}, nil)
	f.Fuzz(func(t *testing.T, frame []byte, ct uint64, drop bool) {
		r, ok := d.record(copied{time.Unix(0, 0), copyOf(byte(map[bool]int{true: flows.LogDrop}[drop]), flows.LogIngress, frame, num(flows.RDest, 7), num(openflow.CTState, ct), num(flows.RInRule, 1))})
		if !ok {
			return
		}
		if raw, err := json.Marshal(r); err != nil || bytes.ContainsAny(raw, "\n") {
			t.Errorf("%s, %v", raw, err)
		}
	})
}

// The file begins anew where it would become too large, and no record is lost or torn by it; what a dead agent left is added to.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("{\"port_id\":\"old\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &file{path: path, most: 100, keep: 2}
	for i := range 20 {
		if _, err := fmt.Fprintf(f, "{\"port_id\":\"port %02d\"}\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range []string{path + ".2", path + ".1", path} {
		open, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := open.Stat(); err != nil || info.Size() > 100 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		for lines := bufio.NewScanner(open); lines.Scan(); {
			var r Record
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			all = append(all, r.Port)
		}
		_ = open.Close()
	}
	if len(all) < 9 || all[len(all)-1] != "port 19" || all[0] != fmt.Sprintf("port %02d", 20-len(all)) {
		t.Errorf("kept %v", all)
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a third old file: %v", err)
	}
	bare := &file{path: filepath.Join(t.TempDir(), "log"), most: 10}
	for range 3 {
		if _, err := bare.Write([]byte("0123456789")); err != nil {
			t.Error(err)
		}
	}
	if err := bare.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(bare.path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v are left where none is kept", left, err)
	}
}

// What is lost is counted: by the switch's meters, for want of time, and where the file cannot be written, of which the agent's log tells once. It goes on when it can.
func TestLost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	d := newDesk(t, Config{File: filepath.Join(dir, "log")}, nil)
	p := copyOf(flows.LogDrop, flows.LogIngress, raw(ether4+ports4+"c0000050"), num(flows.RDest, 7))
	for range queueLength + 3 {
		d.Handle(p)
	}
	d.Metered(11)
	lost := func(reason string) float64 { return testutil.ToFloat64(d.lost[reason]) }
	if lost(lostQueue) != 3 || lost(lostMeter) != 11 {
		t.Errorf("%v lost for the queue, %v by meters, want 3 and 11", lost(lostQueue), lost(lostMeter))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
	if lost(lostWrite) != queueLength || strings.Count(d.said.String(), "security log was not written") != 1 {
		t.Errorf("%v were not written, and the log says %q", lost(lostWrite), d.said.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.Handle(p)
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(d.records[Drop]); n != 1 {
		t.Errorf("%v records, want one", n)
	}
	if problems, err := testutil.GatherAndLint(d.with.Registerer.(*prometheus.Registry)); err != nil || len(problems) > 0 { //nolint:errcheck,forcetypeassert // it is one
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

// Records that many packets ask for at once are whole lines.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := newDesk(t, Config{}, &out)
	ctx, cancel := context.WithCancel(t.Context())
	var all, run sync.WaitGroup
	run.Go(func() { _ = d.Run(ctx) })
	for range 4 {
		all.Go(func() {
			for range 200 {
				d.Handle(copyOf(flows.LogAccept, flows.LogIngress, raw(ether4+ports4+"c0000050"), num(flows.RDest, 7), num(flows.RInRule, 1)))
			}
		})
	}
	all.Wait()
	cancel()
	run.Wait()
	n := 0
	for lines := bufio.NewScanner(&out); lines.Scan(); n++ {
		if err := json.Unmarshal(lines.Bytes(), &Record{}); err != nil {
			t.Error(err)
		}
	}
	if n != 800 {
		t.Errorf("%d records, want 800", n)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{{MaxBytes: -1}, {Keep: -1}, {Keep: 5000}} {
		if _, err := New(c, Parts{}); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
