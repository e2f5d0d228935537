// Package frame is the desired state as it travels: objects that are encoded once and then sent, kept and compared as bytes, and the frames that
// carry them. A server with a thousand streams encodes an object once; a relay passes on what it does not understand.
//
// What it reads is what agents/api describes; messages that are not frames are read and written by protobuf itself.
package frame

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-cloud/headwater/agents/api"
	"github.com/headwater-cloud/headwater/agents/state"
)

// The fields of agents/api that are read and written here.
const (
	fieldFrame = 1 // of ToAgent

	fieldIncarnation = 1 // of Frame
	fieldRevision    = 2
	fieldSnapshot    = 3
	fieldMore        = 4
	fieldSet         = 5
	fieldGone        = 6
	fieldDigests     = 7

	fieldID = 1 // of every kind of object
)

// Object is an object with its encoding. It is never changed.
type Object struct {
	Ref    state.Ref
	Number uint64 // the first 8 bytes of the SHA-256 of its encoding
	field  mem.Buffer
	head   int // the bytes of field before the encoding: its tag and length in a Frame
}

// Encode makes an Object. The message may be used on by the caller.
func Encode(o *api.Object) (*Object, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode an object: %w", err)
	}
	return Decode(raw)
}

// Decode makes an Object of an encoding, which is copied. It fails only where not even the kind and the id can be read: whether
// the rest has a meaning, Parse says.
func Decode(raw []byte) (*Object, error) {
	ref, err := refOf(raw)
	if err != nil {
		return nil, err
	}
	field := make([]byte, 0, len(raw)+protowire.SizeTag(fieldSet)+protowire.SizeVarint(uint64(len(raw))))
	field = protowire.AppendTag(field, fieldSet, protowire.BytesType)
	field = protowire.AppendVarint(field, uint64(len(raw)))
	head := len(field)
	sum := sha256.Sum256(raw)
	return &Object{ref, binary.BigEndian.Uint64(sum[:]), mem.SliceBuffer(append(field, raw...)), head}, nil
}

// Bytes is the encoding as an api.Object. The caller does not change it.
func (o *Object) Bytes() []byte { return o.field.ReadOnlyData()[o.head:] }

// Size is the number of bytes that the object takes in a frame.
func (o *Object) Size() int { return o.field.Len() }

// Parse checks the object and reads its addresses, as state.Parse does.
func (o *Object) Parse() (state.Object, error) {
	var m api.Object
	if err := proto.Unmarshal(o.Bytes(), &m); err != nil {
		return nil, fmt.Errorf("%s: decode: %w", o.Ref, err)
	}
	return state.Parse(&m)
}

// Compare orders objects as their references are ordered.
func Compare(a, b *Object) int { return a.Ref.Compare(b.Ref) }

// refOf reads the kind and the id, of kinds that are not known here too.
func refOf(raw []byte) (state.Ref, error) {
	var ref state.Ref
	err := fields(raw, func(n protowire.Number, v []byte, _ uint64) error {
		if v == nil {
			return nil
		}
		if n > math.MaxUint8 {
			return fmt.Errorf("kind %d is beyond what can be known", n)
		}
		ref = state.Ref{Kind: state.Kind(n)} //nolint:gosec // in the range just checked; numbers are positive
		return fields(v, func(n protowire.Number, v []byte, _ uint64) error {
			if n == fieldID && v != nil {
				ref.ID = string(v)
			}
			return nil
		})
	})
	if err == nil && ref.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		return state.Ref{}, fmt.Errorf("read which object it is: %w", err)
	}
	return ref, nil
}

// fields calls f with each field of a message: with its bytes (never nil), or with its number.
func fields(raw []byte, f func(n protowire.Number, v []byte, num uint64) error) error {
	for len(raw) > 0 {
		n, t, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		raw = raw[size:]
		var v []byte
		var num uint64
		switch t {
		case protowire.BytesType:
			if v, size = protowire.ConsumeBytes(raw); v == nil {
				v = []byte{}
			}
		case protowire.VarintType:
			num, size = protowire.ConsumeVarint(raw)
		case protowire.Fixed64Type:
			num, size = protowire.ConsumeFixed64(raw)
		default:
			size = protowire.ConsumeFieldValue(n, t, raw)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := f(n, v, num); err != nil {
			return err
		}
		raw = raw[size:]
	}
	return nil
}

// Digest is a check of all objects of a kind.
type Digest struct {
	Kind    state.Kind
	Objects uint64
	Sum     uint64 // of their numbers, modulo 2^64
}

// Digests are running digests of what somebody holds. The zero value is of nothing.
type Digests struct{ kinds map[state.Kind]Digest }

// Add counts an object, Remove counts it no more.
func (d *Digests) Add(o *Object) { d.change(o.Ref.Kind, 1, o.Number) }

// Remove is the opposite of Add.
func (d *Digests) Remove(o *Object) { d.change(o.Ref.Kind, math.MaxUint64, -o.Number) }

func (d *Digests) change(k state.Kind, objects, number uint64) {
	if d.kinds == nil {
		d.kinds = map[state.Kind]Digest{}
	}
	old := d.kinds[k]
	d.kinds[k] = Digest{k, old.Objects + objects, old.Sum + number}
}

// List is a digest of each kind that is known here or held, in the order of kinds.
func (d *Digests) List() []Digest {
	var out []Digest
	for k := state.KindHost; k <= state.KindMirror; k++ {
		if _, ok := d.kinds[k]; !ok {
			out = append(out, Digest{Kind: k})
		}
	}
	for _, held := range d.kinds {
		out = append(out, held)
	}
	slices.SortFunc(out, func(a, b Digest) int { return int(a.Kind) - int(b.Kind) })
	return out
}

// Differs names the first kind whose digest is not the one given.
func (d *Digests) Differs(want []Digest) (state.Kind, bool) {
	for _, w := range want {
		if have := d.kinds[w.Kind]; have.Objects != w.Objects || have.Sum != w.Sum {
			return w.Kind, true
		}
	}
	return 0, false
}
