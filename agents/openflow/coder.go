package openflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The errors of decoding. They wrap into sentences that say where.
var (
	ErrShort   = errors.New("the message ends within a field")
	ErrLong    = errors.New("bytes are left over")
	ErrLength  = errors.New("a length that does not fit")
	ErrPadding = errors.New("padding that is not zero")
	ErrType    = errors.New("an unknown type")
	ErrValue   = errors.New("a value out of its range")
)

// coder goes over a message's fields once and either appends them to b or takes them from it. After an error it does nothing.
type coder struct {
	b       []byte
	reading bool
	owned   bool // what is read is the message's own, and may be kept
	err     error
}

// fail keeps the first error; nil is none.
func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// take returns the next n bytes of what is read, which stay the message's.
func (c *coder) take(n int) []byte {
	if c.err != nil || n < 0 || len(c.b) < n {
		c.fail(ErrShort)
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *coder) u8(v *uint8) {
	if !c.reading {
		c.b = append(c.b, *v)
	} else if raw := c.take(1); raw != nil {
		*v = raw[0]
	}
}

func (c *coder) u16(v *uint16) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint16(c.b, *v)
	} else if raw := c.take(2); raw != nil {
		*v = binary.BigEndian.Uint16(raw)
	}
}

func (c *coder) u32(v *uint32) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint32(c.b, *v)
	} else if raw := c.take(4); raw != nil {
		*v = binary.BigEndian.Uint32(raw)
	}
}

func (c *coder) u64(v *uint64) {
	if !c.reading {
		c.b = binary.BigEndian.AppendUint64(c.b, *v)
	} else if raw := c.take(8); raw != nil {
		*v = binary.BigEndian.Uint64(raw)
	}
}

// fixed codes all of v.
func (c *coder) fixed(v []byte) {
	if !c.reading {
		c.b = append(c.b, v...)
	} else {
		copy(v, c.take(len(v)))
	}
}

// pad codes n zero bytes.
func (c *coder) pad(n int) {
	if !c.reading {
		c.b = append(c.b, make([]byte, n)...)
		return
	}
	for _, b := range c.take(n) {
		if b != 0 {
			c.fail(ErrPadding)
		}
	}
}

// skip is pad where the peer may have left anything.
func (c *coder) skip(n int) {
	if c.reading {
		c.take(n)
	} else {
		c.pad(n)
	}
}

// text codes a string in n bytes, the last of them zero.
func (c *coder) text(v *string, n int) {
	if !c.reading {
		raw := make([]byte, n)
		copy(raw[:n-1], *v)
		c.b = append(c.b, raw...)
	} else if raw := c.take(n); raw != nil {
		raw, _, _ = bytes.Cut(raw, []byte{0})
		*v = string(raw)
	}
}

// rest codes what is left of the message, or of the part with a length.
func (c *coder) rest(v *[]byte) {
	if !c.reading {
		c.b = append(c.b, *v...)
	} else if c.owned {
		*v = c.take(len(c.b))
	} else {
		*v = slices.Clone(c.take(len(c.b)))
	}
}

// sized codes a part whose 16-bit length stands at an offset from its begin, counts all of the part, and is followed by zeros up to a
// multiple of align (0 or 1: by none). With padded the length counts those zeros too. code runs over the whole part; it codes
// the length's place with length.
func (c *coder) sized(at, align int, padded bool, code func(c *coder)) {
	align = max(align, 1)
	if !c.reading {
		begin := len(c.b)
		code(c)
		size := len(c.b) - begin
		total := (size + align - 1) / align * align
		c.b = append(c.b, make([]byte, total-size)...)
		if padded {
			size = total
		}
		if size > 0xffff {
			c.fail(fmt.Errorf("%w: a part of %d bytes", ErrLength, size))
			return
		}
		binary.BigEndian.PutUint16(c.b[begin+at:], uint16(size))
		return
	}
	if c.err != nil || len(c.b) < at+2 {
		c.fail(ErrShort)
		return
	}
	size := int(binary.BigEndian.Uint16(c.b[at:]))
	if size < at+2 || size > len(c.b) || padded && size%align != 0 {
		c.fail(fmt.Errorf("%w: a part of %d bytes in %d", ErrLength, size, len(c.b)))
		return
	}
	behind := c.b[size:]
	c.b = c.b[:size:size]
	code(c)
	if padded && len(c.b) < align {
		c.pad(len(c.b))
	}
	if len(c.b) > 0 {
		c.fail(ErrLong)
	}
	if c.b = behind; !padded {
		c.pad((size+align-1)/align*align - size)
	}
}

// length codes the place of the length that sized fills in.
func (c *coder) length() {
	var n uint16
	c.u16(&n)
}

// list codes items until the part ends. count, which may be nil, says how many there are, as far as it can be seen.
func list[T any](c *coder, items *[]T, count func(b []byte) int, code func(*coder, *T)) {
	if !c.reading {
		for i := range *items {
			code(c, &(*items)[i])
		}
		return
	}
	*items = nil
	if count != nil {
		if n := count(c.b); n > 0 {
			*items = make([]T, 0, n)
		}
	}
	for len(c.b) > 0 && c.err == nil {
		before := len(c.b)
		var none T
		*items = append(*items, none)
		code(c, &(*items)[len(*items)-1])
		if c.err == nil && len(c.b) == before {
			c.fail(ErrLength) // nothing was taken: it would never end
		}
	}
}

// lengthsAt counts parts whose lengths stand at an offset from the begin of each.
func lengthsAt(at int) func(b []byte) int {
	return func(b []byte) int {
		n := 0
		for len(b) >= at+2 {
			size := int(binary.BigEndian.Uint16(b[at:]))
			if size < at+2 || size > len(b) {
				break
			}
			b, n = b[size:], n+1
		}
		return n
	}
}

// lengthAtBegin and lengthAtTwo are of parts that begin with their length, and of those with 16 bits before it.
var lengthAtBegin, lengthAtTwo = lengthsAt(0), lengthsAt(2)

// conditions counts those of a match.
func conditions(b []byte) int {
	n := 0
	for len(b) >= 4 && len(b) >= 4+int(b[3]) {
		b, n = b[4+int(b[3]):], n+1
	}
	return n
}

// peek16 and peek32 look at what is read next.
func (c *coder) peek16(at int) uint16 {
	if c.err != nil || len(c.b) < at+2 {
		c.fail(ErrShort)
		return 0
	}
	return binary.BigEndian.Uint16(c.b[at:])
}

func (c *coder) peek32(at int) uint32 {
	if c.err != nil || len(c.b) < at+4 {
		c.fail(ErrShort)
		return 0
	}
	return binary.BigEndian.Uint32(c.b[at:])
}
