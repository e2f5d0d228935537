package openflow_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	of "github.com/headwater-cloud/headwater/agents/openflow"
)

// written are flows with every kind of match, action and instruction of this package's tests.
func written() []*of.FlowMod {
	var out []*of.FlowMod
	add := func(match of.Match, items []of.Instruction) {
		n := len(out)
		out = append(out, flow(of.FlowAdd, func(m *of.FlowMod) {
			m.Cookie, m.Table, m.Priority, m.Match, m.Instructions = uint64(n), uint8(n%4), uint16(100+n), match, items //nolint:gosec // small
		}))
	}
	for _, tt := range matches {
		add(tt.want, apply(&of.Output{Port: 1}))
	}
	for _, tt := range acts {
		on, _, found := strings.Cut(tt.text, "|")
		if !found {
			on = "ip"
		}
		add(actsOn[on], apply(tt.want...))
	}
	add(nil, []of.Instruction{&of.InstrMeter{Meter: 9}, &of.InstrApply{Actions: []of.Action{&of.Output{Port: 1}}}, &of.InstrClear{},
		&of.InstrWrite{Actions: []of.Action{&of.Group{Group: 5}}}, &of.InstrWriteMetadata{Value: 5, Mask: 0xff}, &of.InstrGoto{Table: 9}})
	add(nil, []of.Instruction{&of.InstrWriteMetadata{Value: 0, Mask: ^uint64(0)}})
	add(nil, apply(&of.Conjunction{ID: 5, Clause: 0, N: 2}, &of.Conjunction{ID: 6, Clause: 2, N: 3}))
	last := out[len(out)-1]
	last.Priority, last.Idle, last.Hard, last.Flags = 0x8000, 5, 6, of.FlowSendRemoved|of.FlowResetCounts
	return out
}

// ovs-ofctl reads the text of a flow as the flow.
func TestOfctlReadsTexts(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	for _, f := range written() {
		text := f.String()
		got := o.run("add-flow", "SWITCH", text)
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", text, len(got))
			continue
		}
		same(t, text, got[0], f)
	}
}

// changes are messages that a file of ovs-ofctl bundle has a word for.
func changes() []of.Message {
	out := []of.Message{
		flow(of.FlowModify, func(m *of.FlowMod) { m.Table, m.Match, m.Instructions = 2, ip(), apply(&of.Output{Port: 7}) }),
		flow(of.FlowModify, func(m *of.FlowMod) { m.Table, m.Cookie, m.CookieMask = 2, 5, 0xff }),
		flow(of.FlowModifyStrict, func(m *of.FlowMod) { m.Priority = 9 }),
		flow(of.FlowDelete, func(m *of.FlowMod) { m.Table = of.AllTables }),
		flow(of.FlowDelete, func(m *of.FlowMod) { m.Cookie, m.CookieMask, m.Match = 7<<48, 0xffff<<48, tcp() }),
		flow(of.FlowDelete, func(m *of.FlowMod) { m.Table, m.OutPort, m.OutGroup = 7, 4, 5 }),
		flow(of.FlowDeleteStrict, func(m *of.FlowMod) { m.Table, m.Priority, m.Match = 4, 7, of.Match{}.Num(of.InPort, 1) }),
		flow(of.FlowDeleteStrict, func(m *of.FlowMod) { m.Table = 5 }),
	}
	for _, tt := range messages {
		if g, ok := tt.want.(*of.GroupMod); ok {
			out = append(out, g)
		}
	}
	return append(out, &of.GroupMod{Command: of.GroupDelete, ID: 5}, &of.GroupMod{ID: 9, Type: of.GroupSelect, Buckets: []of.Bucket{
		{Weight: 1, WatchPort: 3, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 1}}}, of.NewBucket()}})
}

// A file of texts is read by ovs-ofctl bundle as the messages.
func TestOfctlReadsTextsOfChanges(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	all := changes()
	for _, f := range written() {
		all = append(all, f)
	}
	var file strings.Builder
	for _, m := range all {
		switch m.(type) {
		case *of.FlowMod:
			fmt.Fprintf(&file, "flow %s\n", m)
		case *of.GroupMod:
			text := fmt.Sprint(m)
			if strings.HasPrefix(text, "group_id") {
				text = "add " + text
			}
			fmt.Fprintf(&file, "group %s\n", text)
		}
	}
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []*of.BundleAdd
	for _, raw := range o.run("bundle", "SWITCH", path) {
		_, m, err := of.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if add, ok := m.(*of.BundleAdd); ok {
			got = append(got, add)
		}
	}
	if len(got) != len(all) {
		t.Fatalf("ovs-ofctl sent %d messages for %d texts", len(got), len(all))
	}
	for i, want := range all {
		a, err1 := of.Append(nil, 0, got[i].Message)
		b, err2 := of.Append(nil, 0, want)
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %s%s\n%s\nwant\n%s", want, errText(err1), errText(err2), hex.Dump(a), hex.Dump(b))
		}
	}
}

func TestOfctlReadsTextsOfMeters(t *testing.T) {
	t.Parallel()
	o := newOfctl(t)
	verbs := map[of.MeterCommand]string{of.MeterAdd: "add-meter", of.MeterModify: "mod-meter", of.MeterDelete: "del-meter"}
	for _, m := range []*of.MeterMod{
		{Flags: of.MeterKBPS | of.MeterBurst | of.MeterCount, ID: 3, Bands: []of.Band{{Type: 1, Rate: 1000, Burst: 100}, {Type: 2, Rate: 7, Burst: 1, Level: 2}}},
		{Command: of.MeterModify, Flags: of.MeterPktPS, ID: 4, Bands: []of.Band{{Type: 1, Rate: 5}}},
		{Command: of.MeterDelete, ID: 5}, {Command: of.MeterDelete, ID: of.AllMeters},
	} {
		got := o.run(verbs[m.Command], "SWITCH", m.String())
		if len(got) != 1 {
			t.Errorf("%s: ovs-ofctl sent %d messages", m, len(got))
			continue
		}
		same(t, m.String(), got[0], m)
	}
}

// What a real switch has is written as ovs-ofctl writes it, to the letter; and what it is told by our texts is what it is told by our messages.
func TestTextsAsDumped(t *testing.T) {
	t.Parallel()
	b := newBridge(t)
	b.sw.Vsctl(collectors...)
	b.must(t, b.SendAll(t.Context(), options()))
	b.must(t, b.SendAll(t.Context(), []of.Message{
		&of.MeterMod{Flags: of.MeterKBPS | of.MeterBurst | of.MeterCount, ID: 9, Bands: []of.Band{{Type: 1, Rate: 1000, Burst: 5}}},
		&of.MeterMod{Flags: of.MeterPktPS, ID: 10, Bands: []of.Band{{Type: 1, Rate: 7}}},
		&of.GroupMod{Type: of.GroupIndirect, ID: 5, Buckets: []of.Bucket{of.NewBucket(&of.Output{Port: 1})}},
		&of.GroupMod{Type: of.GroupOfAll, ID: 6},
		&of.GroupMod{Type: of.GroupSelect, ID: 7, Buckets: []of.Bucket{{Weight: 1, WatchPort: 2, WatchGroup: of.AnyGroup, Actions: []of.Action{&of.Output{Port: 2}}},
			{Weight: 20, WatchPort: of.PortAny, WatchGroup: 5, Actions: []of.Action{&of.SetField{Field: of.TunID, Value: of.Num(9)}, &of.Group{Group: 5}}}}},
		&of.GroupMod{Type: of.GroupFastFailover, ID: 8, Buckets: []of.Bucket{{WatchPort: of.PortLocal, WatchGroup: of.AnyGroup}}},
	}))
	all := slices.DeleteFunc(written(), func(f *of.FlowMod) bool {
		return strings.Contains(f.String(), "dp_hash") // only the switch itself may use it
	})
	for i, actions := range [][]of.Action{ // their texts say more of the field than ovs-ofctl alone can know
		{&of.Move{From: of.Part{Field: of.TunMetadata(0, 4), N: 32}, To: reg(3, 0, 32)}, &of.DeleteField{Field: of.TunMetadata(0, 4)}},
		{&of.SetField{Field: of.Reg3}, &of.Load{To: of.Bit(of.Reg3, 2)}, &of.SetField{Field: of.XXReg0}, &of.SetField{Field: of.TunID}},
		{&of.LoadMasked{Field: of.Reg1, Value: of.Num(5), Mask: of.Num(0xff)}},
	} {
		all = append(all, flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority, m.Instructions = uint16(7+i), apply(actions...) })) //nolint:gosec // small
	}
	all = append(all, flow(of.FlowAdd, func(m *of.FlowMod) { m.Priority, m.Match = 1, of.Match{}.Present(of.TunMetadata(1, 8)) }))
	var mods []of.Message
	for _, f := range all {
		mods = append(mods, f)
	}
	b.must(t, b.Bundle(t.Context(), mods))
	dumped := b.flows(t)
	if len(dumped) != len(all) {
		t.Errorf("the switch has %d flows, want %d", len(dumped), len(all))
	}
	theirs := lines(b.sw.Ofctl("dump-flows", b.sw.Mgmt("br0")))
	var ours, texts []string
	for _, f := range dumped {
		ours = append(ours, of.Names{}.FlowStats(&f, false))
		texts = append(texts, f.String())
	}
	equalLines(t, "flows", ours, theirs)
	equalLines(t, "flows with counters", withoutAge(texts), withoutAge(lines(b.sw.Run("ovs-ofctl", "-O", "OpenFlow13", "--no-names", "dump-flows", b.sw.Mgmt("br0")))))

	ours = nil
	parts, err := b.Multipart(t.Context(), of.PartGroupDesc, nil)
	b.must(t, err)
	for _, g := range parts[0].(*of.GroupDescList).Groups {
		ours = append(ours, g.String())
	}
	theirs = lines(b.sw.Ofctl("dump-groups", b.sw.Mgmt("br0")))
	for i := range theirs {
		theirs[i] = strings.TrimSuffix(theirs[i], ",") // of a group without buckets
	}
	equalLines(t, "groups", ours, theirs)
	ours = nil
	parts, err = b.Multipart(t.Context(), of.PartMeterConfig, &of.MeterRequest{Meter: of.AllMeters})
	b.must(t, err)
	for _, m := range parts[0].(*of.MeterConfigList).Meters {
		ours = append(ours, m.String())
	}
	equalLines(t, "meters", ours, lines(strings.ReplaceAll(b.sw.Ofctl("dump-meters", b.sw.Mgmt("br0")), "bands=\n", "bands=")))

	b.must(t, b.SendAll(t.Context(), []of.Message{flow(of.FlowDelete, func(m *of.FlowMod) { m.Table = of.AllTables })}))
	path := filepath.Join(b.sw.Dir, "flows")
	if err := os.WriteFile(path, []byte(strings.Join(texts, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	b.sw.Ofctl("add-flows", b.sw.Mgmt("br0"), path)
	again := b.flows(t)
	if len(again) != len(dumped) {
		t.Fatalf("the switch has %d flows by text, want %d", len(again), len(dumped))
	}
	for i, f := range again {
		x, err1 := of.InstructionsKey(f.Instructions)
		y, err2 := of.InstructionsKey(dumped[i].Instructions)
		if err1 != nil || err2 != nil || f.Match.Key() != dumped[i].Match.Key() || x != y || f.Cookie != dumped[i].Cookie || f.Priority != dumped[i].Priority {
			// The text of what sets a masked part does not say in which of two forms it was sent.
			if !strings.Contains(texts[i], "->reg1") {
				t.Errorf("told by text: %s\nby message:   %s", &f, &dumped[i])
			}
		}
	}
}

// options gives two options of Geneve the fields tun_metadata0, of 4 bytes, and tun_metadata1, of 8.
func options() []of.Message {
	return []of.Message{&of.TLVTableMod{Maps: []of.TLVMap{{Class: 0xffff, Type: 1, Len: 4}, {Class: 0xffff, Type: 2, Len: 8, Index: 1}}}}
}

// lines are those of a dump, without its heading.
func lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "OFPST") && !strings.HasPrefix(line, "NXST") {
			out = append(out, line)
		}
	}
	return out
}

func withoutAge(texts []string) []string {
	out := slices.Clone(texts)
	for i, text := range out {
		begin, rest, ok := strings.Cut(text, "duration=")
		if _, rest, ok2 := strings.Cut(rest, "s, "); ok && ok2 {
			out[i] = begin + rest
		}
	}
	return out
}

func equalLines(t *testing.T, what string, ours, theirs []string) {
	t.Helper()
	slices.Sort(ours)
	slices.Sort(theirs)
	if len(ours) != len(theirs) {
		t.Errorf("%s: %d lines of ours, %d of ovs-ofctl", what, len(ours), len(theirs))
		return
	}
	for i := range ours {
		if ours[i] != theirs[i] {
			t.Errorf("%s:\n%s\novs-ofctl writes\n%s", what, ours[i], theirs[i])
		}
	}
}

// Names make texts for people: tables with their numbers, ports, and parts of fields.
func TestNames(t *testing.T) {
	t.Parallel()
	network, port, large := of.Part{Field: of.Metadata, N: 32}, of.Whole(of.Reg2), of.Bit(of.Reg0, 4)
	names := of.Names{
		Table: func(n uint8) string { return map[uint8]string{60: "l2", 65: "out", 0: "classify"}[n] },
		Port:  func(n uint32) string { return map[uint32]string{3: "tap3"}[n] },
		Parts: func(f of.FieldID) []of.NamedPart {
			return map[of.FieldID][]of.NamedPart{of.Metadata: {{"network", network}}, of.Reg2: {{"to", port}}, of.Reg0: {{"large", large}}}[f]
		},
	}
	f := flow(of.FlowAdd, func(m *of.FlowMod) {
		m.Table, m.Priority = 60, 100
		m.Match = of.Match{}.Num(of.InPort, 3).Masked(of.Metadata, of.Num(0x100000007), of.Num(0x1ffffffff)).Part(of.Reg0, 4, 1, 1)
		m.Instructions = append(apply(&of.SetField{Field: of.Reg2, Value: of.Num(9)}, &of.Load{To: large, Value: 1}, &of.Move{From: network, To: port},
			&of.Output{Port: 3}, &of.Resubmit{InPort: of.ResubmitInPort, Table: 66}), &of.InstrGoto{Table: 65})
	})
	want := "table=l2(60), priority=100,large=0x1,network=0x7,metadata=0x100000000/0x100000000,in_port=tap3 " +
		"actions=set_field:0x9->to,load:0x1->large,move:network->to,output:tap3,resubmit(,66),goto_table:out(65)"
	if got := names.FlowMod(f); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := names.FlowStats(&of.FlowStats{Priority: 0}, false), "table=classify(0), priority=0 actions=drop"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What this package does not know has a text too.
func TestTextsOfTheUnknown(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*of.FlowMod{
		"oxm(0001abcd04)": {Match: of.Match{{Other: "\x00\x01\xab\xcd\x04"}}},
		"action(type=9,vendor=0x0,subtype=0,00000000)": {Instructions: apply(&of.OtherAction{Type: 9, Data: make([]byte, 4)})},
	} {
		if got := f.String(); !strings.Contains(got, name) {
			t.Errorf("got %s, want %s in it", got, name)
		}
	}
}
