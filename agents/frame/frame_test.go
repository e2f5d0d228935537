package frame

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

func network(id string, key uint32) *api.Object {
	return &api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: id, Key: key}}}
}

func encoded(t testing.TB, o *api.Object) *Object {
	t.Helper()
	e, err := Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What the codec writes is what protobuf reads, and the other way round: the two ends need not be of one make.
func TestSameAsProtobuf(t *testing.T) {
	t.Parallel()
	f := &Frame{
		Incarnation: "i1", Revision: 300, Snapshot: true, More: true, Set: []*Object{encoded(t, network("n1", 1)), encoded(t, network("n2", 2))},
		Gone:    []state.Ref{{Kind: state.KindPort, ID: "p1"}, {Kind: 77, ID: "x"}},
		Digests: []Digest{{state.KindPort, 3, 1 << 63}, {Kind: state.KindHost}},
	}
	data, err := Codec().Marshal(&Message{Frame: f})
	if err != nil {
		t.Fatal(err)
	}
	var got api.ToAgent
	if err := proto.Unmarshal(data.Materialize(), &got); err != nil {
		t.Fatal(err)
	}
	want := &api.Frame{
		Incarnation: "i1", Revision: 300, Snapshot: true, More: true, Set: []*api.Object{network("n1", 1), network("n2", 2)},
		Gone:    []*api.Ref{{Kind: api.Kind_PORT, Id: "p1"}, {Kind: 77, Id: "x"}},
		Digests: []*api.Digest{{Kind: api.Kind_PORT, Objects: 3, Sum: 1 << 63}, {Kind: api.Kind_HOST}},
	}
	if !proto.Equal(got.GetFrame(), want) {
		t.Errorf("protobuf reads %v, want %v", got.GetFrame(), want)
	}
	raw, err := proto.Marshal(&api.ToAgent{Message: &api.ToAgent_Frame{Frame: want}})
	if err != nil {
		t.Fatal(err)
	}
	var back Message
	if err := Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, &back); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back.Frame.Gone, back.Frame.Digests, back.Frame.Revision, back.Frame.Snapshot, back.Frame.More) != fmt.Sprint(f.Gone, f.Digests, f.Revision, true, true) ||
		len(back.Frame.Set) != 2 || !bytes.Equal(back.Frame.Set[1].Bytes(), f.Set[1].Bytes()) || back.Frame.Set[1].Number != f.Set[1].Number {
		t.Errorf("read %+v, want %+v", back.Frame, f)
	}
	for _, other := range []*api.ToAgent{{Host: "h", Message: &api.ToAgent_Request{Request: &api.Request{Id: 4}}}, {}} {
		data, err := Codec().Marshal(&Message{Other: other})
		if err != nil {
			t.Fatal(err)
		}
		if err := Codec().Unmarshal(data, &back); err != nil || !proto.Equal(back.Other, other) {
			t.Errorf("read %v, %v, want %v", back.Other, err, other)
		}
	}
}

// A later version's fields and kinds go through an older relay as they are, and two sides agree on the digest of what one of them does not know.
func TestUnknownIsKept(t *testing.T) {
	t.Parallel()
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "new")
	inner = protowire.AppendVarint(protowire.AppendTag(inner, 99, protowire.VarintType), 5)
	raw := protowire.AppendBytes(protowire.AppendTag(nil, 42, protowire.BytesType), inner)
	o, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if o.Ref != (state.Ref{Kind: 42, ID: "new"}) || !bytes.Equal(o.Bytes(), raw) {
		t.Errorf("read %v", o.Ref)
	}
	if _, err := o.Parse(); err == nil {
		t.Error("an object of kind 42 was understood")
	}
	var d Digests
	d.Add(o)
	if _, differs := d.Differs([]Digest{{42, 1, o.Number}}); differs {
		t.Error("its digest differs")
	}
	d.Remove(o)
	if kind, differs := d.Differs([]Digest{{42, 1, o.Number}}); !differs || kind != 42 {
		t.Error("an object that is missing is not missed")
	}
	if l := d.List(); len(l) != 13 || l[12] != (Digest{Kind: 42}) {
		t.Errorf("digests %v, want twelve kinds and kind 42", l)
	}
}

// An object that cannot be read is left out; the others of its frame are not.
func TestBadObjectIsLeftOut(t *testing.T) {
	t.Parallel()
	f := &Frame{Revision: 1, Set: []*Object{encoded(t, network("n1", 1))}}
	raw := f.Append(nil)
	raw = protowire.AppendBytes(protowire.AppendTag(raw, fieldSet, protowire.BytesType), []byte{0xff, 0xff})
	raw = protowire.AppendBytes(protowire.AppendTag(raw, fieldGone, protowire.BytesType), nil)
	got, err := Parse(raw)
	if err != nil || len(got.Set) != 1 || len(got.Bad) != 2 || len(got.Gone) != 0 {
		t.Errorf("%+v, %v: want one object and two complaints", got, err)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	f := &Frame{Incarnation: "i", Revision: 9, Snapshot: true, Digests: []Digest{{Kind: 1}}}
	for i := range 3000 {
		f.Set = append(f.Set, encoded(t, &api.Object{Kind: &api.Object_Network{Network: &api.Network{Id: fmt.Sprint(i), DnsDomain: strings.Repeat("x", 1000)}}}))
		f.Gone = append(f.Gone, state.Ref{Kind: 1, ID: fmt.Sprint(i)})
	}
	objects, gone, parts := 0, 0, 0
	for p := range f.Parts() {
		parts++
		objects, gone = objects+len(p.Set), gone+len(p.Gone)
		if n := len(p.Append(nil)); n > PartSize+100 {
			t.Errorf("a part has %d bytes", n)
		}
		if last := objects == 3000; p.More == last || (len(p.Digests) == 1) != last || p.Revision != 9 || !p.Snapshot {
			t.Errorf("part %d: %v %v %v", parts, p.More, p.Digests, p.Revision)
		}
	}
	if objects != 3000 || gone != 3000 || parts != 3 {
		t.Errorf("%d parts with %d objects and %d references, want 3 with 3000 each", parts, objects, gone)
	}
	parts = 0
	for p := range (&Frame{Revision: 5}).Parts() {
		if parts++; p.More {
			t.Error("an empty frame goes on")
		}
	}
	if parts != 1 {
		t.Errorf("an empty frame has %d parts", parts)
	}
}

func FuzzMessage(f *testing.F) {
	seed, _ := Codec().Marshal(&Message{Frame: &Frame{Incarnation: "i", Revision: 3, Snapshot: true, Set: []*Object{encoded(f, network("n", 1))},
		Gone: []state.Ref{{Kind: 3, ID: "s"}}, Digests: []Digest{{1, 2, 3}}}})
	f.Add(seed.Materialize())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if m.read(raw) != nil || m.Frame == nil {
			return
		}
		again, err := Parse(m.Frame.Append(nil))
		if err != nil || len(again.Set) != len(m.Frame.Set) || fmt.Sprint(again.Gone, again.Digests) != fmt.Sprint(m.Frame.Gone, m.Frame.Digests) {
			t.Fatalf("%+v was written and read as %+v, %v", m.Frame, again, err)
		}
		for i, o := range again.Set {
			if o.Number != m.Frame.Set[i].Number {
				t.Fatalf("object %d changed on the way", i)
			}
			_, _ = o.Parse() // whatever it is, it does not panic
		}
	})
}
