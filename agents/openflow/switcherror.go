package openflow

import "fmt"

// SwitchError is a switch's refusal of a message.
type SwitchError struct {
	Refusal Error
	Message Message // what was refused; nil when that is not known
}

// errorTypes are OpenFlow 1.3's error types with the codes that an agent meets (section 7.4.4).
var errorTypes = map[uint16]struct {
	name  string
	codes map[uint16]string
}{
	0: {"hello failed", map[uint16]string{0: "no common version", 1: "not allowed"}},
	1: {"bad request", map[uint16]string{0: "unknown version", 1: "unknown type", 2: "unknown multipart type", 3: "unknown vendor", 4: "unknown subtype",
		5: "not allowed", 6: "wrong length", 7: "the buffer is used", 8: "unknown buffer", 9: "bad table", 10: "is slave", 11: "bad port", 12: "bad packet"}},
	2: {"bad action", map[uint16]string{0: "unknown type", 1: "wrong length", 2: "unknown vendor", 3: "unknown subtype", 4: "bad output port",
		5: "bad argument", 6: "not allowed", 7: "too many", 8: "bad queue", 9: "bad group", 10: "inconsistent with the match", 11: "unsupported order",
		12: "bad tag", 13: "bad set type", 14: "bad set length", 15: "bad set argument"}},
	3: {"bad instruction", map[uint16]string{0: "unknown", 1: "unsupported", 2: "bad table", 3: "bad metadata", 4: "bad metadata mask", 5: "unknown vendor",
		6: "unknown subtype", 7: "wrong length", 8: "not allowed"}},
	4: {"bad match", map[uint16]string{0: "unknown type", 1: "wrong length", 2: "bad tag", 3: "bad mask of an Ethernet address", 4: "bad mask of an address",
		5: "bad wildcards", 6: "unknown field", 7: "bad value", 8: "bad mask", 9: "a prerequisite is missing", 10: "a field twice", 11: "not allowed"}},
	5: {"flow not changed", map[uint16]string{0: "unknown", 1: "the tables are full", 2: "bad table", 3: "overlaps", 4: "not allowed", 5: "bad timeout",
		6: "bad command", 7: "bad flags"}},
	6: {"group not changed", map[uint16]string{0: "it exists", 1: "invalid", 2: "weights are not supported", 3: "no more groups", 4: "no more buckets",
		5: "chaining is not supported", 6: "watching is not supported", 7: "a loop", 8: "unknown group", 9: "it is chained to", 10: "bad type",
		11: "bad command", 12: "bad bucket", 13: "bad watch", 14: "not allowed"}},
	7:  {"port not changed", nil},
	8:  {"table not changed", nil},
	9:  {"queue", nil},
	10: {"switch not configured", nil},
	11: {"role not changed", nil},
	12: {"meter not changed", map[uint16]string{0: "unknown", 1: "it exists", 2: "invalid", 3: "unknown meter", 4: "bad command", 5: "bad flags", 6: "bad rate",
		7: "bad burst", 8: "bad band", 9: "bad band value", 10: "no more meters", 11: "no more bands"}},
	13: {"table features", nil},
}

// vendorErrors are those of extensions: of bundles by ONF EXT-230, of flow monitors, tunnel options and the rest by Open vSwitch (ofp-errors.h).
var vendorErrors = map[uint32]map[uint16]string{
	onf: {2300: "bundle: unknown", 2301: "bundle: not allowed", 2302: "bundle: no such bundle, or the id is taken", 2303: "bundle: the id is taken", 2304: "bundle: it is closed",
		2305: "bundle: no more bundles", 2306: "bundle: unknown type", 2307: "bundle: its flags have changed", 2308: "bundle: a message of wrong length",
		2309: "bundle: a message of another xid", 2310: "bundle: a message that cannot be bundled", 2311: "bundle: conflicting messages", 2312: "bundle: too many messages",
		2313: "bundle: a message failed", 2314: "bundle: timed out", 2315: "bundle: locked"},
	nicira: {2: "bad match: malformed", 3: "bad match: an unknown field", 4: "bad request: a field must be zero", 6: "flow monitor: it exists",
		7: "flow monitor: bad flags", 8: "flow monitor: no such monitor", 10: "an error that OpenFlow 1.3 has no number for", 11: "bad action: a field must be zero", 12: "flow not changed: hardware", 13: "flow not changed: bad table",
		15: "bad action: a conjunction beside other actions", 16: "tunnel options: bad command", 17: "tunnel options: bad length", 18: "tunnel options: bad index",
		19: "tunnel options: the table is full", 20: "tunnel options: it has a field", 21: "tunnel options: one of them twice", 34: "resume: not supported", 35: "resume: the packet is gone",
		36: "statistics: not configured", 37: "flow not changed: an option without a field", 38: "tunnel options: a flow uses it", 42: "bad action: the datapath does not track connections",
		43: "bad match: the datapath does not track connections"},
}

// Text says what was refused in the words of the specification.
func (m *Error) Text() string {
	if m.Type == experimenter {
		if text := vendorErrors[m.Vendor][m.Code]; text != "" {
			return text
		}
		return fmt.Sprintf("vendor %#x, code %d", m.Vendor, m.Code)
	}
	t, ok := errorTypes[m.Type]
	if !ok {
		return fmt.Sprintf("type %d, code %d", m.Type, m.Code)
	}
	if text := t.codes[m.Code]; text != "" {
		return t.name + ": " + text
	}
	return fmt.Sprintf("%s: code %d", t.name, m.Code)
}

// Error names what was refused and why.
func (e *SwitchError) Error() string {
	if e.Message == nil {
		return "the switch refused a message: " + e.Refusal.Text()
	}
	return fmt.Sprintf("the switch refused %T: %s", e.Message, e.Refusal.Text())
}
