package flows

import "github.com/headwater-cloud/headwater/agents/state"

// Reason is the object that a flow is about that drops packets, so that its cookie names the reason.
func Reason(reason string) state.Ref { return state.Ref{Kind: 0, ID: reason} }

// Reasons are why packets are dropped: those of the tables' misses, and those of flows that drop more closely.
func Reasons() []string {
	var out []string
	for _, t := range TableMap() {
		if t.Reason != "" {
			out = append(out, t.Reason)
		}
	}
	return append(out, "inner-tag", "rogue-dhcp", "rogue-router", "source-nd", "moved-twice", "not-plugged", "own-packet", "tunnel-source",
		"out-cut", "out-blocked", "out-invalid", "in-cut", "in-blocked", "in-invalid",
		"martian", "dhcp-routed", "blackhole", "no-next-hop", "not-translated", "not-gateway", "no-gateway", "untranslated", "mirror-too-big")
}

// ReasonOf is the reason that a flow drops packets for, or "".
func ReasonOf(c Cookie) string {
	if uint8(c>>32) != 0 { //nolint:gosec // bits 32 to 39
		return ""
	}
	for _, r := range Reasons() {
		if Hash(r) == uint32(c) { //nolint:gosec // the lower 32 bits
			return r
		}
	}
	return ""
}
