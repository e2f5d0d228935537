package apps

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/agents/state"
)

// optionForm is how the text of an option becomes bytes.
type optionForm func(s string) ([]byte, error)

// optionForms4 are the forms of DHCPv4 options (RFC 2132 and IANA's bootp-dhcp-parameters); of those that are not here, see guess4.
var optionForms4 = map[uint16]optionForm{
	1: ip4, 2: number(4), 3: ip4s, 4: ip4s, 5: ip4s, 6: ip4s, 7: ip4s, 8: ip4s, 9: ip4s, 10: ip4s, 11: ip4s, 12: text, 13: number(2), 14: text, 15: text, 16: ip4,
	17: text, 18: text, 19: number(1), 20: number(1), 21: ip4s, 22: number(2), 23: number(1), 24: number(4), 26: number(2), 27: number(1), 28: ip4,
	29: number(1), 30: number(1), 31: number(1), 32: ip4, 33: ip4s, 34: number(1), 35: number(4), 36: number(1), 37: number(1), 38: number(4), 39: number(1),
	40: text, 41: ip4s, 42: ip4s, 44: ip4s, 45: ip4s, 46: number(1), 47: text, 48: ip4s, 49: ip4s, 51: number(4), 58: number(4), 59: number(4), 60: text,
	64: text, 65: ip4s, 66: text, 67: text, 68: ip4s, 69: ip4s, 70: ip4s, 71: ip4s, 72: ip4s, 73: ip4s, 74: ip4s, 100: text, 101: text, 108: number(4),
	114: text, 116: number(1), 119: names, 121: routes, 150: ip4s, 208: number(4), 209: text, 210: text, 211: number(4), 249: routes, 252: text, nextServerCode: ip4,
}

// optionForms6 are those of DHCPv6 (RFC 9915 and IANA's dhcpv6-parameters).
var optionForms6 = map[uint16]optionForm{
	7: number(1), 21: names, 22: ip6s, 23: ip6s, 24: names, 27: ip6s, 29: names, 31: ip6s, 32: number(4), 33: names, 34: ip6s, 41: text, 42: text,
	51: text, 59: text, 60: text16, 82: number(4), 83: number(4),
}

var errValue = errors.New("not a value of this option")

// encodeOption is the value of an option that a port's owner chose.
func encodeOption(forms map[uint16]optionForm, o state.DHCPOption) ([]byte, error) {
	form := forms[o.Code]
	if form == nil {
		form = guess
	}
	b, err := form(o.Value)
	if err == nil && len(b) == 0 {
		err = errValue
	}
	if err != nil {
		return nil, fmt.Errorf("option %d %q: %w", o.Code, o.Value, err)
	}
	return b, nil
}

func list(s string) []string {
	return strings.FieldsFunc(strings.Trim(s, "{}[]"), func(r rune) bool { return strings.ContainsRune(",; ", r) })
}

func ip4(s string) ([]byte, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || !a.Is4() {
		return nil, errValue
	}
	return a.AsSlice(), nil
}

func ip4s(s string) ([]byte, error) { return each(s, ip4) }

func ip6s(s string) ([]byte, error) {
	return each(s, func(s string) ([]byte, error) {
		a, err := netip.ParseAddr(strings.Trim(s, "[]"))
		if err != nil || !a.Is6() || a.Zone() != "" {
			return nil, errValue
		}
		return a.AsSlice(), nil
	})
}

func each(s string, form optionForm) ([]byte, error) {
	var out []byte
	for _, part := range list(s) {
		b, err := form(part)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// number is a number of some bytes; true and false are 1 and 0.
func number(size int) optionForm {
	return func(s string) ([]byte, error) {
		if v, err := strconv.ParseBool(s); err == nil && size == 1 {
			s = map[bool]string{true: "1", false: "0"}[v]
		}
		n, err := strconv.ParseInt(strings.TrimSpace(s), 0, 64)
		if err != nil || n >= 1<<(8*size) || n < -1<<(8*size-1) {
			return nil, errValue
		}
		return binary.BigEndian.AppendUint64(nil, uint64(n))[8-size:], nil //nolint:gosec // in the range just checked
	}
}

func text(s string) ([]byte, error) {
	if strings.ContainsRune(s, 0) {
		return nil, errValue
	}
	return []byte(s), nil
}

// text16 is a list of texts, each with its length in 2 bytes.
func text16(s string) ([]byte, error) {
	return each(s, func(s string) ([]byte, error) {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...), nil //nolint:gosec // a part of an option
	})
}

func names(s string) ([]byte, error) {
	return each(s, func(s string) ([]byte, error) {
		if b := encodeNames(s); b != nil {
			return b, nil
		}
		return nil, errValue
	})
}

// encodeNames is a domain name as labels (RFC 1035 section 3.1), nil of what is none.
func encodeNames(name string) []byte {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return nil
	}
	var b []byte
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return nil
		}
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// routes is a list "prefix,next hop,prefix,next hop", as dnsmasq writes classless routes.
func routes(s string) ([]byte, error) {
	parts := list(s)
	if len(parts)%2 != 0 {
		return nil, errValue
	}
	var out []state.Route
	for i := 0; i < len(parts); i += 2 {
		to, err := netip.ParsePrefix(parts[i])
		if a, err2 := netip.ParseAddr(parts[i]); err2 == nil && a.Is4() {
			to, err = netip.PrefixFrom(a, 32), nil
		}
		via, err2 := netip.ParseAddr(parts[i+1])
		if err != nil || err2 != nil || !to.Addr().Is4() || !via.Is4() {
			return nil, errValue
		}
		out = append(out, state.Route{Destination: to.Masked(), NextHop: via})
	}
	return encodeRoutes(out), nil
}

// guess reads the value of an option whose form is not known as dnsmasq does: bytes like 01:02:ff, addresses, a number of as few bytes as
// it needs, or else text.
func guess(s string) ([]byte, error) {
	if strings.Contains(s, ":") {
		if b, err := hex.DecodeString(strings.ReplaceAll(s, ":", "")); err == nil && len(s) == len(b)*3-1 {
			return b, nil
		}
	}
	if b, err := ip4s(s); err == nil && len(b) > 0 {
		return b, nil
	}
	if b, err := ip6s(s); err == nil && len(b) > 0 {
		return b, nil
	}
	for _, size := range []int{1, 2, 4} {
		if b, err := number(size)(s); err == nil && !strings.HasPrefix(s, "-") {
			return b, nil
		}
	}
	return text(s)
}
