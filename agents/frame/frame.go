package frame

import (
	"errors"
	"fmt"
	"iter"
	"math"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// PartSize is how many bytes of objects and references a part of a frame has at most, unless one object alone has more.
const PartSize = 1 << 20

// Frame is a revision or a part of one; its fields are those of api.Frame.
type Frame struct {
	Incarnation string
	Revision    uint64
	Snapshot    bool
	More        bool
	Set         []*Object
	Gone        []state.Ref
	Digests     []Digest
	// Bad says of each object or reference that could not be read why; they are left out of Set and Gone.
	Bad []error
}

// Parts cuts a frame into parts of at most PartSize. The digests are in the last.
func (f *Frame) Parts() iter.Seq[*Frame] {
	return func(yield func(*Frame) bool) {
		part := &Frame{Incarnation: f.Incarnation, Revision: f.Revision, Snapshot: f.Snapshot, More: true}
		size := 0
		full := func(next int) bool {
			if size > 0 && size+next > PartSize {
				if !yield(part) {
					return false
				}
				part = &Frame{Incarnation: f.Incarnation, Revision: f.Revision, Snapshot: f.Snapshot, More: true}
				size = 0
			}
			size += next
			return true
		}
		for _, r := range f.Gone {
			if !full(refSize(r) + 4) {
				return
			}
			part.Gone = append(part.Gone, r)
		}
		for _, o := range f.Set {
			if !full(o.Size()) {
				return
			}
			part.Set = append(part.Set, o)
		}
		part.More, part.Digests = f.More, f.Digests
		yield(part)
	}
}

// Append appends the encoding as an api.Frame.
func (f *Frame) Append(b []byte) []byte {
	b = f.appendHead(b)
	for _, o := range f.Set {
		b = append(b, o.field.ReadOnlyData()...)
	}
	return b
}

// appendHead appends all but the objects.
func (f *Frame) appendHead(b []byte) []byte {
	if f.Incarnation != "" {
		b = protowire.AppendTag(b, fieldIncarnation, protowire.BytesType)
		b = protowire.AppendString(b, f.Incarnation)
	}
	number := func(n protowire.Number, v uint64) {
		if v != 0 {
			b = protowire.AppendTag(b, n, protowire.VarintType)
			b = protowire.AppendVarint(b, v)
		}
	}
	number(fieldRevision, f.Revision)
	number(fieldSnapshot, protowire.EncodeBool(f.Snapshot))
	number(fieldMore, protowire.EncodeBool(f.More))
	for _, r := range f.Gone {
		b = protowire.AppendTag(b, fieldGone, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(refSize(r))) //nolint:gosec // a size
		number(1, uint64(r.Kind))
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendString(b, r.ID)
	}
	for _, d := range f.Digests {
		b = protowire.AppendTag(b, fieldDigests, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(digestSize(d))) //nolint:gosec // a size
		number(1, uint64(d.Kind))
		number(2, d.Objects)
		b = protowire.AppendTag(b, 3, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, d.Sum)
	}
	return b
}

// refSize is the length of a reference's encoding, without the tag and length before it.
func refSize(r state.Ref) int {
	n := protowire.SizeTag(2) + protowire.SizeBytes(len(r.ID))
	if r.Kind != 0 {
		n += protowire.SizeTag(1) + protowire.SizeVarint(uint64(r.Kind))
	}
	return n
}

func digestSize(d Digest) int {
	n := protowire.SizeTag(3) + protowire.SizeFixed64()
	for i, v := range []uint64{uint64(d.Kind), d.Objects} {
		if v != 0 {
			n += protowire.SizeTag(protowire.Number(i+1)) + protowire.SizeVarint(v) //nolint:gosec // 1 or 2
		}
	}
	return n
}

// Parse reads the encoding of an api.Frame. It fails where the frame itself cannot be read; what cannot be read of single objects stands in Bad.
func Parse(raw []byte) (*Frame, error) {
	f := &Frame{}
	err := fields(raw, func(n protowire.Number, v []byte, num uint64) error {
		switch {
		case n == fieldIncarnation && v != nil:
			f.Incarnation = string(v)
		case n == fieldRevision:
			f.Revision = num
		case n == fieldSnapshot:
			f.Snapshot = num != 0
		case n == fieldMore:
			f.More = num != 0
		case n == fieldSet && v != nil:
			o, err := Decode(v)
			if err != nil {
				f.Bad = append(f.Bad, err)
			} else {
				f.Set = append(f.Set, o)
			}
		case n == fieldGone && v != nil:
			f.readGone(v)
		case n == fieldDigests && v != nil:
			return f.readDigest(v)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	return f, nil
}

func (f *Frame) readGone(raw []byte) {
	var kind uint64
	var id string
	err := fields(raw, func(n protowire.Number, v []byte, num uint64) error {
		switch {
		case n == 1 && v == nil:
			kind = num
		case n == 2 && v != nil:
			id = string(v)
		}
		return nil
	})
	if err == nil && (kind == 0 || kind > math.MaxUint8 || id == "") {
		err = errors.New("it names no kind or no id")
	}
	if err != nil {
		f.Bad = append(f.Bad, fmt.Errorf("read a reference: %w", err))
		return
	}
	f.Gone = append(f.Gone, state.Ref{Kind: state.Kind(kind), ID: id}) //nolint:gosec // in the range just checked
}

func (f *Frame) readDigest(raw []byte) error {
	var kind uint64
	var d Digest
	err := fields(raw, func(n protowire.Number, v []byte, num uint64) error {
		switch {
		case v != nil:
		case n == 1:
			kind = num
		case n == 2:
			d.Objects = num
		case n == 3:
			d.Sum = num
		}
		return nil
	})
	if d.Kind = state.Kind(kind); err == nil && uint64(d.Kind) == kind { //nolint:gosec // a kind that does not fit is of no use here
		f.Digests = append(f.Digests, d)
	}
	return err
}

// Message is what a server sends: a Frame, or one of the other messages.
type Message struct {
	Frame *Frame
	Other *api.ToAgent // where Frame is nil
}

// Codec writes a *Message's frame without encoding or copying its objects, and reads it without losing their bytes. All else is as
// grpc's own codec does it, which it is compatible with.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(grpcproto.Name)} }

type codec struct{ encoding.CodecV2 }

// Marshal encodes a message.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*Message)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	if m.Frame == nil {
		return c.CodecV2.Marshal(m.Other)
	}
	inner := m.Frame.appendHead(nil)
	size := len(inner)
	for _, o := range m.Frame.Set {
		size += o.Size()
	}
	head := protowire.AppendTag(make([]byte, 0, len(inner)+8), fieldFrame, protowire.BytesType)
	head = append(protowire.AppendVarint(head, uint64(size)), inner...) //nolint:gosec // a size
	out := make(mem.BufferSlice, 0, 1+len(m.Frame.Set))
	out = append(out, mem.SliceBuffer(head))
	for _, o := range m.Frame.Set {
		out = append(out, o.field)
	}
	return out, nil
}

// Unmarshal decodes a message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*Message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return m.read(buf.ReadOnlyData())
}

func (m *Message) read(raw []byte) error {
	*m = Message{}
	err := fields(raw, func(n protowire.Number, v []byte, _ uint64) (err error) {
		if n == fieldFrame && v != nil {
			m.Frame, err = Parse(v)
		}
		return err
	})
	if err != nil || m.Frame != nil {
		return err
	}
	m.Other = &api.ToAgent{}
	if err := proto.Unmarshal(raw, m.Other); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	return nil
}
