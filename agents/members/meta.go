package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/headwater-cloud/headwater/agents/state"
	"github.com/headwater-cloud/headwater/sites/fault"
)

// Health is how a member says that it is.
type Health uint8

// The healths.
const (
	Healthy Health = 0
	Leaving Health = 1 // it works, and will not for long: send it nothing new
	Sick    Health = 2 // it cannot do its work. A sick gateway is none; a sick host's tunnel ends stay
)

// String is "healthy", "leaving" or "sick".
func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Leaving:
		return "leaving"
	default:
		return "sick"
	}
}

// Meta is what a member announces of itself. It takes at most 512 bytes: some 20 tunnel ends.
type Meta struct {
	Gateway bool
	Health  Health
	Agent   string            // the program's version, at most 64 bytes
	Ends    []state.TunnelEnd // in the order of preference. Those of one zone are best kept together: a zone's name is sent once for them
}

// announcement is all that travels with a member: what it says, and what its claim to its host id rests on.
type announcement struct {
	Meta
	Boot   uint64
	Bound  time.Time // milliseconds are kept
	Joined bool      // the pool has accepted it: it knew of another member, and of none with its own host id
}

// metaVersion is the first byte. It changes only when a reader of the old one would misunderstand the new one: fields of an unknown number
// are skipped, so that one can be added.
const metaVersion = 1

// The fields: a number of one byte, a length of one byte, and so many bytes.
const (
	fieldFlags  = 1 // one byte of the bits below; those unknown mean nothing
	fieldHealth = 2 // one byte; what is unknown is worse than sick, and taken for it
	fieldAgent  = 3 // text
	fieldBoot   = 4 // uvarint
	fieldBound  = 5 // uvarint: milliseconds since 1970
	fieldZone   = 6 // text: of the ends that follow; before the first one it is ""
	fieldEnd    = 7 // encapsulation, port in two bytes, address in 4 or 16; an unknown encapsulation is skipped

	flagGateway = 1
	flagJoined  = 2
)

var (
	errMetaVersion = errors.New("meta of an unknown version")
	errMeta        = errors.New("malformed meta")
)

// maxText bounds the version and the names of zones, in bytes.
const maxText = 64

// encode returns the announcement's bytes, or a fault.BadRequest that says what cannot be announced.
func (a announcement) encode() ([]byte, error) {
	out := []byte{metaVersion}
	field := func(number byte, value ...byte) {
		out = append(append(out, number, byte(len(value))), value...)
	}
	var flags byte
	if a.Gateway {
		flags |= flagGateway
	}
	if a.Joined {
		flags |= flagJoined
	}
	field(fieldFlags, flags)
	if a.Health > Sick {
		return nil, fault.New(fault.BadRequest, "agents/members.Meta", "health %d", a.Health)
	}
	field(fieldHealth, byte(a.Health))
	if !printable([]byte(a.Agent)) {
		return nil, fault.New(fault.BadRequest, "agents/members.Meta", "version %q: want up to %d bytes of printable text", a.Agent, maxText)
	}
	field(fieldAgent, []byte(a.Agent)...)
	field(fieldBoot, binary.AppendUvarint(nil, a.Boot)...)
	field(fieldBound, binary.AppendUvarint(nil, millis(a.Bound))...)
	zone := ""
	for _, e := range a.Ends {
		if e.Zone != zone {
			zone = e.Zone
			field(fieldZone, []byte(zone)...)
		}
		raw := e.Address.Unmap().AsSlice()
		end := append([]byte{byte(e.Encap), byte(e.Port >> 8), byte(e.Port)}, raw...)
		if _, err := decodeEnd(end); err != nil || !known(e.Encap) || e.Address.Zone() != "" || !printable([]byte(zone)) {
			return nil, fault.New(fault.BadRequest, "agents/members.Meta", "tunnel end %s %s:%d in zone %q", e.Encap, e.Address, e.Port, zone)
		}
		field(fieldEnd, end...)
	}
	if len(out) > memberlist.MetaMaxSize {
		return nil, fault.New(fault.BadRequest, "agents/members.Meta", "it takes %d bytes and may take %d: announce fewer tunnel ends", len(out), memberlist.MetaMaxSize)
	}
	return out, nil
}

func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

func known(e state.Encap) bool { return e == state.VXLAN || e == state.Geneve }

// printable reports whether text may be shown as it is and is not too long.
func printable(text []byte) bool {
	if len(text) > maxText || !utf8.Valid(text) {
		return false
	}
	for _, r := range string(text) {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// decodeMeta reads what encode writes. Its error is errMetaVersion or errMeta.
func decodeMeta(raw []byte) (announcement, error) {
	var a announcement
	if len(raw) == 0 || len(raw) > memberlist.MetaMaxSize {
		return a, fmt.Errorf("%w: %d bytes", errMeta, len(raw))
	}
	if raw[0] != metaVersion {
		return a, fmt.Errorf("%w: %d", errMetaVersion, raw[0])
	}
	zone := ""
	for rest := raw[1:]; len(rest) > 0; {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return announcement{}, fmt.Errorf("%w: it ends within a field", errMeta)
		}
		number, value := rest[0], rest[2:2+int(rest[1])]
		rest = rest[2+int(rest[1]):]
		if err := a.take(number, value, &zone); err != nil {
			return announcement{}, fmt.Errorf("%w in field %d", err, number)
		}
	}
	return a, nil
}

// take reads one field.
func (a *announcement) take(number byte, value []byte, zone *string) error {
	switch number {
	case fieldFlags, fieldHealth:
		if len(value) != 1 {
			return errMeta
		}
		if number == fieldFlags {
			a.Gateway, a.Joined = value[0]&flagGateway != 0, value[0]&flagJoined != 0
		} else {
			a.Health = min(Health(value[0]), Sick)
		}
	case fieldAgent, fieldZone:
		if !printable(value) {
			return errMeta
		}
		if number == fieldAgent {
			a.Agent = string(value)
		} else {
			*zone = string(value)
		}
	case fieldBoot, fieldBound:
		n, size := binary.Uvarint(value)
		if size != len(value) || size == 0 {
			return errMeta
		}
		if number == fieldBoot {
			a.Boot = n
		} else if n > maxMillis {
			return errMeta
		} else {
			a.Bound = time.UnixMilli(int64(n)).UTC()
		}
	case fieldEnd:
		end, err := decodeEnd(value)
		if err != nil {
			return err
		}
		if known(end.Encap) {
			end.Zone = *zone
			a.Ends = append(a.Ends, end)
		}
	}
	return nil
}

// maxMillis is the end of the year 9999, the last that time's texts can say.
const maxMillis = 253402300799999

func decodeEnd(raw []byte) (state.TunnelEnd, error) {
	if len(raw) < 3 {
		return state.TunnelEnd{}, errMeta
	}
	addr, ok := netip.AddrFromSlice(raw[3:])
	port := binary.BigEndian.Uint16(raw[1:])
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.Is4In6() || port == 0 {
		return state.TunnelEnd{}, errMeta
	}
	return state.TunnelEnd{Address: addr, Encap: state.Encap(raw[0]), Port: port}, nil
}
