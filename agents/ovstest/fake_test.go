package ovstest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	of "github.com/headwater-cloud/headwater/agents/openflow"
	"github.com/headwater-cloud/headwater/agents/ovstest"
)

// dial connects to a switch; updates is told of what comes unasked, and may be nil.
func dial(t testing.TB, path string, updates func(uint32, of.Message)) *of.Conn {
	t.Helper()
	c, err := of.Dial(t.Context(), of.Config{Network: "unix", Address: path, Handle: updates})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

var (
	someMatches = []of.Match{nil, of.Match{}.Num(of.InPort, 1), of.Match{}.Num(of.EthType, 0x800), of.Match{}.Num(of.EthType, 0x800).Num(of.IPProto, 6),
		of.Match{}.Num(of.EthType, 0x800).Num(of.IPProto, 6).Num(of.TCPDst, 80), of.Match{}.Masked(of.Reg0, of.Num(1), of.Num(1)), of.Match{}.Masked(of.Reg0, of.Num(3), of.Num(3)),
		of.Match{}.Masked(of.Reg0, of.Num(2), of.Num(2)), of.Match{}.Num(of.TCPDst, 80), of.Match{}.Num(of.EthType, 0x86dd).Num(of.ARPOp, 1)}
	someActions = [][]of.Action{nil, {&of.Output{Port: 1}}, {&of.Output{Port: 2}}, {&of.Group{Group: 1}}, {&of.Group{Group: 2}},
		{&of.Clone{Actions: []of.Action{&of.Output{Port: 1}}}}, {&of.Output{Port: 2}, &of.Output{Port: 1}}} // no SetField: whether two are equal depends on bytes that Open vSwitch does not clear
)

// aFlowMod draws one that will often meet another's flow.
func aFlowMod(t *rapid.T) of.Message {
	m := of.NewFlowMod(of.FlowCommand(rapid.IntRange(0, 4).Draw(t, "command"))) //nolint:gosec // small
	m.Table = rapid.SampledFrom([]uint8{0, 1, 2}).Draw(t, "table")
	if m.Command >= of.FlowDelete && rapid.Bool().Draw(t, "everywhere") {
		m.Table = of.AllTables
	}
	m.Priority = rapid.SampledFrom([]uint16{1, 2}).Draw(t, "priority")
	m.Cookie = rapid.SampledFrom([]uint64{0, 0x10001, 0x10002, 0x20001}).Draw(t, "cookie")
	if m.Command != of.FlowAdd {
		m.CookieMask = rapid.SampledFrom([]uint64{0, 0xff, 0xff0000, ^uint64(0)}).Draw(t, "mask")
	}
	if m.Command >= of.FlowDelete {
		m.OutPort = rapid.SampledFrom([]uint32{of.PortAny, of.PortAny, 1, 2}).Draw(t, "to port")
		m.OutGroup = rapid.SampledFrom([]uint32{of.AnyGroup, of.AnyGroup, 1}).Draw(t, "to group")
	} else {
		m.Flags = rapid.SampledFrom([]uint16{0, 0, of.FlowCheckOverlap, of.FlowResetCounts, of.FlowSendRemoved}).Draw(t, "flags")
	}
	if m.Command == of.FlowAdd {
		m.Idle = rapid.SampledFrom([]uint16{0, 1000}).Draw(t, "idle")
	}
	m.Match = rapid.SampledFrom(someMatches).Draw(t, "match")
	if actions := rapid.SampledFrom(someActions).Draw(t, "actions"); actions != nil {
		m.Instructions = append(m.Instructions, &of.InstrApply{Actions: actions})
	}
	if rapid.IntRange(0, 9).Draw(t, "meter") == 0 {
		m.Instructions = append([]of.Instruction{&of.InstrMeter{Meter: 1}}, m.Instructions...)
	}
	if rapid.IntRange(0, 4).Draw(t, "goes on") == 0 {
		m.Instructions = append(m.Instructions, &of.InstrGoto{Table: rapid.SampledFrom([]uint8{1, 2, 3}).Draw(t, "next")})
	}
	return m
}

func aGroupMod(t *rapid.T, commands ...of.GroupCommand) of.Message {
	m := &of.GroupMod{ID: rapid.SampledFrom([]uint32{1, 2}).Draw(t, "group"), Type: of.GroupType(rapid.IntRange(0, 3).Draw(t, "type")), //nolint:gosec // small
		Command: rapid.SampledFrom(append(commands, of.GroupAdd, of.GroupAdd, of.GroupModify, of.GroupAddOrModify)).Draw(t, "command")}
	for range rapid.IntRange(0, 2).Draw(t, "buckets") {
		b := of.NewBucket(&of.Output{Port: 1})
		if m.Type == of.GroupSelect {
			b.Weight = 1
		}
		if rapid.Bool().Draw(t, "watches") {
			b.WatchPort = 1
		}
		m.Buckets = append(m.Buckets, b)
	}
	if m.Command == of.GroupDelete {
		m.Buckets = nil
		if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
			m.ID = of.AllGroups
		}
	}
	return m
}

func aMeterMod(t *rapid.T) of.Message {
	return &of.MeterMod{ID: rapid.SampledFrom([]uint32{1, 2}).Draw(t, "meter"), Flags: of.MeterKBPS, Command: of.MeterCommand(rapid.IntRange(0, 2).Draw(t, "command")), //nolint:gosec // small
		Bands: []of.Band{{Type: 1, Rate: uint32(rapid.IntRange(1, 9).Draw(t, "rate"))}}} //nolint:gosec // small
}

// refusals are the types and codes of all errors within one, in their order.
func refusals(err error) string {
	var out []string
	var walk func(error)
	walk = func(err error) {
		var refused *of.SwitchError
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				walk(e)
			}
		} else if errors.As(err, &refused) {
			out = append(out, fmt.Sprintf("%d/%d", refused.Refusal.Type, refused.Refusal.Code))
		} else if err != nil {
			out = append(out, err.Error())
		}
	}
	walk(err)
	return strings.Join(out, " ")
}

// holds is all that a switch has, as text.
func holds(t fatal, c *of.Conn) []string {
	var out []string
	ask := func(kind of.PartKind, body of.Body, each func(of.Body)) {
		bodies, err := c.Multipart(context.Background(), kind, body)
		if err != nil {
			t.Fatalf("multipart %d: %v", kind, err)
		}
		for _, b := range bodies {
			each(b)
		}
	}
	ask(of.PartFlow, of.EveryFlow(), func(b of.Body) {
		for _, f := range b.(*of.FlowStatsList).Flows {
			f.Seconds, f.Nanos = 0, 0
			out = append(out, f.String())
		}
	})
	ask(of.PartGroupDesc, nil, func(b of.Body) {
		for _, g := range b.(*of.GroupDescList).Groups {
			out = append(out, g.String())
		}
	})
	ask(of.PartMeterConfig, &of.MeterRequest{Meter: of.AllMeters}, func(b of.Body) {
		for _, m := range b.(*of.MeterConfigList).Meters {
			out = append(out, m.String())
		}
	})
	slices.Sort(out)
	return out
}

type fatal interface {
	Fatalf(format string, args ...any)
}

// The fake answers and holds what Open vSwitch answers and holds, whatever it is told.
func TestFakeIsLikeTheRealOne(t *testing.T) {
	t.Parallel()
	sw := ovstest.New(t)
	sw.Vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "fail_mode=secure",
		"--", "add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=dummy", "ofport_request=1",
		"--", "add-port", "br0", "p2", "--", "set", "Interface", "p2", "type=dummy", "ofport_request=2")
	addresses := []string{sw.Mgmt("br0"), ovstest.NewFake(t).Address}
	pair := []*of.Conn{dial(t, addresses[0], nil), dial(t, addresses[1], nil)}
	watchers := []*watcher{watch(t, addresses[0]), watch(t, addresses[1])}
	empty := []of.Message{of.NewFlowMod(of.FlowDelete), &of.GroupMod{Command: of.GroupDelete, ID: of.AllGroups}, &of.MeterMod{Command: of.MeterDelete, ID: of.AllMeters}}
	empty[0].(*of.FlowMod).Table = of.AllTables
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range pair {
			if err := c.SendAll(context.Background(), empty); err != nil {
				t.Fatalf("empty: %v", err)
			}
		}
		for _, w := range watchers {
			w.told(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"flow":  func(t *rapid.T) { both(t, pair, []of.Message{aFlowMod(t)}, (*of.Conn).SendAll) },
			"group": func(t *rapid.T) { both(t, pair, []of.Message{aGroupMod(t, of.GroupDelete)}, (*of.Conn).SendAll) },
			"meter": func(t *rapid.T) { both(t, pair, []of.Message{aMeterMod(t)}, (*of.Conn).SendAll) },
			"bundle": func(t *rapid.T) {
				var all []of.Message
				for range rapid.IntRange(1, 6).Draw(t, "messages") {
					if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
						all = append(all, aGroupMod(t))
					} else {
						m := aFlowMod(t).(*of.FlowMod)
						m.Flags &^= of.FlowCheckOverlap
						all = append(all, m)
					}
				}
				// What looks for more than one flow finds those that the same bundle has added only if Open vSwitch had others with the same fields before.
				slices.SortStableFunc(all, func(a, b of.Message) int { return cmp.Compare(rank(a), rank(b)) })
				both(t, pair, all, (*of.Conn).Bundle)
			},
			"": func(t *rapid.T) {
				if real, fake := watchers[0].told(t), watchers[1].told(t); !slices.Equal(real, fake) {
					t.Fatalf("Open vSwitch tells\n%s\nthe fake\n%s", strings.Join(real, "\n"), strings.Join(fake, "\n"))
				}
				if real, fake := holds(t, pair[0]), holds(t, pair[1]); !slices.Equal(real, fake) {
					t.Fatalf("Open vSwitch holds\n%s\nthe fake\n%s", strings.Join(real, "\n"), strings.Join(fake, "\n"))
				}
			},
		})
	})
}

// watcher is another controller, which is told of all changes.
type watcher struct {
	conn *of.Conn

	mu  sync.Mutex // guards the field below
	got []string
}

func watch(t *testing.T, address string) *watcher {
	t.Helper()
	w := &watcher{}
	w.conn = dial(t, address, func(_ uint32, m of.Message) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if m, ok := m.(*of.MultipartReply); ok { // a FlowRemoved comes when Open vSwitch has the time
			for _, u := range m.Body.(*of.FlowUpdateList).Updates {
				w.got = append(w.got, fmt.Sprintf("event %d, reason %d, %x %d %d %s %s", u.Event, u.Reason, u.Cookie, u.Table, u.Priority, u.Match, of.Names{}.Instructions(u.Instructions)))
			}
		}
	})
	if _, err := w.conn.Multipart(t.Context(), of.PartFlowMonitor, &of.FlowMonitorRequest{ID: 1, OutPort: of.PortAny, Table: of.AllTables,
		Flags: of.MonitorInitial | of.MonitorAdd | of.MonitorDelete | of.MonitorModify | of.MonitorActions}); err != nil {
		t.Fatal(err)
	}
	return w
}

// told is what it was told since it was asked last, in an order of its own: that of deletions is the switch's.
func (w *watcher) told(t *rapid.T) []string {
	if err := w.conn.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	slices.Sort(got)
	return got
}

// rank is 0 for what looks for more than one flow.
func rank(m of.Message) int {
	if f, ok := m.(*of.FlowMod); ok && (f.Command == of.FlowModify || f.Command == of.FlowDelete) {
		return 0
	}
	return 1
}

func both(t *rapid.T, pair []*of.Conn, all []of.Message, do func(*of.Conn, context.Context, []of.Message) error) {
	var said [2]string
	for i, c := range pair {
		said[i] = refusals(do(c, context.Background(), all))
	}
	if said[0] != said[1] {
		t.Fatalf("%v:\nOpen vSwitch says %q, the fake %q", all, said[0], said[1])
	}
}
