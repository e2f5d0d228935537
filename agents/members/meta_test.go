package members

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// whole uses every field.
func whole() announcement {
	return announcement{
		Meta: Meta{Gateway: true, Health: Leaving, Agent: "1.4.0-rc1", Ends: []state.TunnelEnd{
			{Address: netip.MustParseAddr("10.1.2.3"), Encap: state.VXLAN, Port: 4789},
			{Address: netip.MustParseAddr("10.1.2.3"), Zone: "rack 7", Encap: state.VXLAN, Port: 4789},
			{Address: netip.MustParseAddr("2001:db8::3"), Zone: "rack 7", Encap: state.Geneve, Port: 6081},
			{Address: netip.MustParseAddr("192.0.2.3"), Zone: "", Encap: state.Geneve, Port: 6081},
		}},
		Boot: 1<<64 - 1, Bound: time.UnixMilli(1763712000123).UTC(), Joined: true,
	}
}

func encoded(t testing.TB, a announcement) []byte {
	t.Helper()
	raw, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestMetaRoundTrip(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]announcement{"whole": whole(), "empty": {Bound: time.UnixMilli(0).UTC()}} {
		raw := encoded(t, a)
		got, err := decodeMeta(raw)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, a)
		}
		t.Logf("%s: %d bytes", name, len(raw))
	}
}

func TestMetaRoundTripOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zé 0-9.-]{0,20}`)
		end := rapid.Custom(func(t *rapid.T) state.TunnelEnd {
			raw := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")
			raw[0] = 10
			if rapid.Bool().Draw(t, "v6") {
				raw = append([]byte{0x20, 0x01, 0x0d, 0xb8}, rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "v6 bytes")...)
			}
			a, _ := netip.AddrFromSlice(raw)
			return state.TunnelEnd{Address: a, Zone: text.Draw(t, "zone"), Encap: state.Encap(rapid.IntRange(0, 1).Draw(t, "encap")), Port: rapid.Uint16Range(1, 65535).Draw(t, "port")}
		})
		a := announcement{
			Meta: Meta{Gateway: rapid.Bool().Draw(t, "gateway"), Health: Health(rapid.IntRange(0, 2).Draw(t, "health")), Agent: text.Draw(t, "agent"),
				Ends: rapid.SliceOfN(end, 0, 8).Draw(t, "ends")},
			Boot: rapid.Uint64().Draw(t, "boot"), Bound: time.UnixMilli(rapid.Int64Range(0, maxMillis).Draw(t, "bound")).UTC(), Joined: rapid.Bool().Draw(t, "joined"),
		}
		raw, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Ends) == 0 {
			a.Ends = nil
		}
		if got, err := decodeMeta(raw); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v, %v; want %+v", got, err, a)
		}
	})
}

// TestMetaOnTheWire: agents of all versions read each other; these bytes never change their meaning.
func TestMetaOnTheWire(t *testing.T) {
	t.Parallel()
	want := []byte("\x01" + "\x01\x01\x03" + "\x02\x01\x01" + "\x03\x031.4" + "\x04\x01\x07" + "\x05\x02\xe8\x07" +
		"\x06\x01z" + "\x07\x07\x01\x17\xc1\x0a\x00\x00\x01")
	got := encoded(t, announcement{Meta: Meta{Gateway: true, Health: Leaving, Agent: "1.4", Ends: []state.TunnelEnd{
		{Address: netip.MustParseAddr("10.0.0.1"), Zone: "z", Encap: state.Geneve, Port: 6081},
	}}, Boot: 7, Bound: time.UnixMilli(1000), Joined: true})
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMetaOfOthers(t *testing.T) {
	t.Parallel()
	base := encoded(t, announcement{Meta: Meta{Agent: "2.0"}, Bound: time.UnixMilli(0)})
	with := func(more string) []byte { return append(slices.Clone(base), more...) }
	for _, tt := range []struct {
		name  string
		raw   []byte
		check func(announcement) bool
		err   error
	}{
		{"an unknown field", with("\x63\x03abc"), func(a announcement) bool { return a.Agent == "2.0" }, nil},
		{"an unknown flag", with("\x01\x01\xfd"), func(a announcement) bool { return a.Gateway && !a.Joined }, nil},
		{"an unknown health", with("\x02\x01\x2a"), func(a announcement) bool { return a.Health == Sick }, nil},
		{"an unknown encapsulation", with("\x07\x07\x09\x17\xc1\x0a\x00\x00\x01"), func(a announcement) bool { return len(a.Ends) == 0 }, nil},
		{"a later version", []byte{2, 0xff}, nil, errMetaVersion},
		{"no bytes", nil, nil, errMeta},
		{"too many bytes", make([]byte, 513), nil, errMeta},
		{"half a field", with("\x03"), nil, errMeta},
		{"a field beyond the end", with("\x03\x05abc"), nil, errMeta},
		{"no flags", with("\x01\x00"), nil, errMeta},
		{"a long health", with("\x02\x02\x00\x00"), nil, errMeta},
		{"a control character", with("\x03\x03a\nb"), nil, errMeta},
		{"broken text", with("\x06\x02\xc3\x28"), nil, errMeta},
		{"an endless number", with("\x04\x0b" + strings.Repeat("\xff", 11)), nil, errMeta},
		{"a number and more", with("\x04\x02\x01\x01"), nil, errMeta},
		{"a time that nobody can write", with("\x05\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), nil, errMeta},
		{"an end without an address", with("\x07\x03\x00\x12\xb5"), nil, errMeta},
		{"an address of 5 bytes", with("\x07\x08\x00\x12\xb5\x0a\x00\x00\x01\x01"), nil, errMeta},
		{"a multicast address", with("\x07\x07\x00\x12\xb5\xe0\x00\x00\x01"), nil, errMeta},
		{"port 0", with("\x07\x07\x00\x00\x00\x0a\x00\x00\x01"), nil, errMeta},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeMeta(tt.raw)
			if !errors.Is(err, tt.err) || tt.check != nil && !tt.check(got) {
				t.Errorf("got %+v, %v; want %v", got, err, tt.err)
			}
			if err != nil && !reflect.DeepEqual(got, announcement{}) {
				t.Errorf("an announcement that cannot be read left %+v", got)
			}
		})
	}
}

func TestWhatCannotBeAnnounced(t *testing.T) {
	t.Parallel()
	end := state.TunnelEnd{Address: netip.MustParseAddr("2001:db8::1"), Zone: "z", Port: 4789}
	edit := func(change func(*state.TunnelEnd)) Meta {
		e := end
		change(&e)
		return Meta{Ends: []state.TunnelEnd{e}}
	}
	for name, m := range map[string]Meta{
		"a health":           {Health: 3},
		"a long version":     {Agent: strings.Repeat("x", 65)},
		"a line break":       {Agent: "1.0\n"},
		"no address":         edit(func(e *state.TunnelEnd) { e.Address = netip.Addr{} }),
		"any address":        edit(func(e *state.TunnelEnd) { e.Address = netip.IPv6Unspecified() }),
		"an address's zone":  edit(func(e *state.TunnelEnd) { e.Address = netip.MustParseAddr("fe80::1%eth0") }),
		"no port":            edit(func(e *state.TunnelEnd) { e.Port = 0 }),
		"an encapsulation":   edit(func(e *state.TunnelEnd) { e.Encap = 2 }),
		"a long zone":        edit(func(e *state.TunnelEnd) { e.Zone = strings.Repeat("z", 65) }),
		"too many addresses": {Ends: slices.Repeat([]state.TunnelEnd{end}, 25)},
	} {
		if _, err := (announcement{Meta: m}).encode(); !fault.Is(err, fault.BadRequest) {
			t.Errorf("%s: %v, want a bad request", name, err)
		}
	}
	if raw := encoded(t, announcement{Meta: Meta{Ends: slices.Repeat([]state.TunnelEnd{end}, 20)}}); len(raw) > 512 {
		t.Errorf("20 tunnel ends take %d bytes", len(raw))
	}
}

// FuzzMeta: whoever has the key may send anything. What is read can be written again, and then reads the same.
func FuzzMeta(f *testing.F) {
	f.Add(encoded(f, whole()))
	f.Add(encoded(f, announcement{}))
	f.Add([]byte{1, fieldEnd, 3, 0, 0, 0})
	f.Add([]byte{1, fieldBound, 9, 255, 255, 255, 255, 255, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := decodeMeta(raw)
		if err != nil {
			if !errors.Is(err, errMeta) && !errors.Is(err, errMetaVersion) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := a.encode()
		if fault.Is(err, fault.BadRequest) && len(a.Ends) > 0 {
			return // zones that come and go take more bytes when they are written with each end
		}
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", a, err)
		}
		b, err := decodeMeta(again)
		if a.Bound.IsZero() {
			b.Bound = a.Bound // absent, and written as 0
		}
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%+v became %+v, %v", a, b, err)
		}
	})
}
