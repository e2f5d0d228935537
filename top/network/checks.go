package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-cloud/headwater/crosssite/ipam"
)

// check validates a value and converts it; the text is the reason when it is not valid, in Neutron's words.
type check func(v any) (any, string)

func text(most int) check {
	return func(v any) (any, string) {
		s, ok := v.(string)
		switch {
		case v == nil:
			return "", "" // Neutron takes null for an empty text where it may be empty
		case !ok:
			return nil, fmt.Sprintf("'%v' is not a valid string", v)
		case len([]rune(s)) > most:
			return nil, fmt.Sprintf("'%.60s' exceeds maximum length of %d", s, most)
		case strings.ContainsRune(s, 0):
			return nil, "the text contains a NUL character"
		}
		return s, ""
	}
}

// someText is text that may not be null.
func someText(most int) check {
	return func(v any) (any, string) {
		if v == nil {
			return nil, "'None' is not a valid string"
		}
		return text(most)(v)
	}
}

// oneText is oneOf in the words of validators that want one of a list of texts.
func oneText(values ...string) check {
	return func(v any) (any, string) {
		if s, ok := v.(string); ok && slices.Contains(values, s) {
			return s, ""
		}
		return nil, fmt.Sprintf("%v is not in valid_values", v)
	}
}

// boolean takes what Neutron's convert_to_boolean takes.
func boolean(v any) (any, string) {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "1":
		return true, ""
	case "false", "0":
		return false, ""
	default:
		return nil, convertReason + fmt.Sprintf("'%v' cannot be converted to boolean", v)
	}
}

// convertReason marks a reason that Neutron gives as InvalidInput: it comes from a conversion, not from a validation.
const convertReason = "\x00"

func integer(least int64) check {
	return func(v any) (any, string) {
		n, err := strconv.ParseInt(fmt.Sprint(v), 10, 32)
		if err != nil {
			return nil, convertReason + fmt.Sprintf("'%v' is not an integer", v)
		}
		if n < least {
			return nil, fmt.Sprintf("'%d' is too small - must be at least '%d'", n, least)
		}
		return n, ""
	}
}

// portNumber takes 0 to 65535, as neutron's convert_validate_port_value does and in its words.
func portNumber(v any) (any, string) {
	n, reason := integer(0)(v)
	if i, ok := n.(int64); reason != "" || ok && i > 65535 {
		return nil, convertReason + fmt.Sprintf("Invalid value for port %v", v)
	}
	return n, ""
}

func version(v any) (any, string) {
	n, reason := integer(0)(v)
	if reason == "" && n != int64(4) && n != int64(6) {
		reason = fmt.Sprintf("%v is not in [4, 6]", v)
	}
	return n, reason
}

// id takes a UUID; the sites' ids are UUIDs as well.
func id(v any) (any, string) {
	s, ok := v.(string)
	if !ok || !isUUID(s) {
		return nil, fmt.Sprintf("'%v' is not a valid UUID", v)
	}
	return strings.ToLower(s), ""
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}

func address(v any) (any, string) {
	s, _ := v.(string)
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return nil, fmt.Sprintf("'%v' is not a valid IP address", v)
	}
	return a.String(), ""
}

func mac(v any) (any, string) {
	s, _ := v.(string)
	m, err := ipam.ParseMAC(s)
	if err != nil || m[0]&1 != 0 {
		return nil, fmt.Sprintf("'%v' is not a valid MAC address", v)
	}
	return m.String(), ""
}

func protocol(v any) (any, string) {
	switch p := v.(type) {
	case string:
		return p, ""
	case json.Number:
		return p.String(), ""
	}
	return nil, fmt.Sprintf("'%v' is not a valid protocol", v)
}

func oneOf(values ...string) check {
	return func(v any) (any, string) {
		s, ok := v.(string)
		if !ok || !slices.Contains(values, s) {
			return nil, fmt.Sprintf("'%v' is not in ['%s']", v, strings.Join(values, "', '"))
		}
		return s, ""
	}
}

func orNull(c check) check {
	return func(v any) (any, string) {
		if v == nil {
			return nil, ""
		}
		return c(v)
	}
}

// mostItems bounds the lists of one request.
const mostItems = 1000

func listOf(c check) check {
	return func(v any) (any, string) {
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Sprintf("'%v' is not a list", v)
		}
		if len(list) > mostItems {
			return nil, fmt.Sprintf("the list has %d items; at most %d are taken", len(list), mostItems)
		}
		out := make([]any, len(list))
		for i, item := range list {
			one, reason := c(item)
			if reason != "" {
				return nil, reason
			}
			out[i] = one
		}
		return out, ""
	}
}

// object wants exactly the named members, each a text.
func object(keys ...string) check {
	return func(v any) (any, string) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Sprintf("'%v' is not a dictionary", v)
		}
		for _, k := range keys {
			if _, ok := m[k]; !ok || len(m) != len(keys) {
				return nil, fmt.Sprintf("Validation of dictionary's keys failed. Expected keys: %v", keys)
			}
		}
		return texts(m)
	}
}

// optional wants no other members than the named ones, each a text.
func optional(keys ...string) check {
	return func(v any) (any, string) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Sprintf("Invalid data format for fixed IP: '%v'", v)
		}
		for k := range m {
			if !slices.Contains(keys, k) {
				return nil, fmt.Sprintf("Unexpected keys supplied: %s", k)
			}
		}
		return texts(m)
	}
}

func texts(m map[string]any) (any, string) {
	out := make(map[string]any, len(m))
	for k, v := range m {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Sprintf("'%v' is not a valid string", v)
		}
		switch k {
		case "ip_address", "start", "end", "nexthop":
			checked, reason := address(s)
			if reason != "" {
				return nil, reason
			}
			out[k] = checked
		case "subnet_id":
			checked, reason := id(s)
			if reason != "" {
				return nil, reason
			}
			out[k] = checked
		default:
			out[k] = s
		}
	}
	return out, ""
}

func anyObject(v any) (any, string) {
	if m, ok := v.(map[string]any); ok {
		return m, ""
	}
	return nil, fmt.Sprintf("'%v' is not a dictionary", v)
}

// pair is an allowed address pair: an address or a network, and maybe a MAC.
func pair(v any) (any, string) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Sprintf("'%v' is not a dictionary", v)
	}
	out := map[string]any{}
	for k, value := range m {
		s, _ := value.(string)
		switch k {
		case "ip_address":
			if _, err := netip.ParseAddr(s); err != nil {
				if _, err := netip.ParsePrefix(s); err != nil {
					return nil, fmt.Sprintf("'%v' is not a valid IP address or CIDR", value)
				}
			}
			out[k] = s
		case "mac_address":
			checked, reason := mac(value)
			if reason != "" {
				return nil, reason
			}
			out[k] = checked
		default:
			return nil, fmt.Sprintf("Unrecognized attribute(s) '%s'", k)
		}
	}
	if out["ip_address"] == nil {
		return nil, "AllowedAddressPair must contain ip_address"
	}
	return out, ""
}

// gateway is external_gateway_info.
func gateway(v any) (any, string) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Sprintf("'%v' is not a dictionary", v)
	}
	out := map[string]any{}
	for k, value := range m {
		var reason string
		switch k {
		case "network_id":
			out[k], reason = id(value)
		case "enable_snat":
			out[k], reason = boolean(value)
		case "external_fixed_ips":
			out[k], reason = orNull(listOf(optional("subnet_id", "ip_address")))(value)
		default:
			reason = fmt.Sprintf("Unexpected keys supplied: %s", k)
			if value == nil {
				reason = "" // what a client copied from an answer
			}
		}
		if reason != "" {
			return nil, reason
		}
	}
	if len(out) > 0 && out["network_id"] == nil {
		return nil, "Validation of dictionary's keys failed. Expected keys: {'network_id'}"
	}
	return out, ""
}
