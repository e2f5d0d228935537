package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-cloud/headwater/sites/registry"
)

// letters: u, g (degraded) and d are findings or states; ? is unknown.
func letter(s registry.HealthState) byte {
	return map[registry.HealthState]byte{registry.Up: 'u', registry.Degraded: 'g', registry.Down: 'd'}[s]
}

func state(b byte) registry.HealthState {
	return map[byte]registry.HealthState{'u': registry.Up, 'g': registry.Degraded, 'd': registry.Down, '?': registry.Unknown}[b]
}

func TestNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, from, findings, want string
	}{
		{"first finding counts", "?", "u", "u"},
		{"first finding down", "?", "d", "d"},
		{"one failure is none", "u", "d", "u"},
		{"two failures", "u", "dd", "ud"},
		{"a success between", "u", "dudud", "uuuuu"},
		{"two degraded", "u", "gg", "ug"},
		{"down and degraded agree on degraded", "u", "dg", "ug"},
		{"degraded and down agree on degraded", "u", "gd", "ug"},
		{"degraded gets worse", "g", "dd", "gd"},
		{"two successes are too few", "d", "uu", "dd"},
		{"three successes", "d", "uuu", "ddu"},
		{"a failure starts the count again", "d", "uuduu", "ddddd"},
		{"better, but not well", "d", "ugu", "ddg"},
		{"degraded recovers", "g", "uuu", "ggu"},
		{"worse cuts a recovery short", "g", "uuduu", "ggggg"},
		{"flapping stays up", "u", strings.Repeat("du", 20), strings.Repeat("u", 40)},
		{"flapping stays down", "d", strings.Repeat("ud", 20), strings.Repeat("d", 40)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			track := Track{State: state(tt.from[0])}
			var got strings.Builder
			for _, f := range []byte(tt.findings) {
				track, _ = track.Next(Finding{State: state(f)}, time.Time{})
				got.WriteByte(letter(track.State))
			}
			if got.String() != tt.want {
				t.Errorf("%s from %s = %s, want %s", tt.findings, tt.from, got.String(), tt.want)
			}
		})
	}
}

func TestNextKeepsReasonAndSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	track := Track{State: registry.Up, Since: at}
	track, _ = track.Next(Finding{registry.Down, "compute: connection refused"}, at.Add(time.Second))
	if track.Reason != "" || !track.Since.Equal(at) {
		t.Errorf("before the threshold: %+v", track)
	}
	track, changed := track.Next(Finding{registry.Down, "compute: no answer in time"}, at.Add(2*time.Second))
	if !changed || track.Reason != "compute: no answer in time" || !track.Since.Equal(at.Add(2*time.Second)) {
		t.Errorf("after it: %+v", track)
	}
	track, changed = track.Next(Finding{registry.Down, "compute: connection refused"}, at.Add(3*time.Second))
	if changed || track.Reason != "compute: connection refused" || !track.Since.Equal(at.Add(2*time.Second)) {
		t.Errorf("another reason for the same state: %+v", track)
	}
}

// Whatever the findings: a state changes only to one that was found, and never on fewer findings than its threshold.
func TestNextProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		track := Track{State: registry.Up}
		var since []byte // findings since the last change
		for _, b := range rapid.SliceOf(rapid.SampledFrom([]byte("ugd"))).Draw(t, "findings") {
			since = append(since, b)
			before := track.State
			var changed bool
			track, changed = track.Next(Finding{State: state(b)}, time.Time{})
			if changed != (before != track.State) {
				t.Fatalf("changed = %v from %s to %s", changed, before, track.State)
			}
			if !changed {
				continue
			}
			need := BetterAfter
			if severity(track.State) > severity(before) {
				need = WorseAfter
			}
			if len(since) < need || !strings.ContainsRune(string(since[len(since)-need:]), rune(letter(track.State))) {
				t.Fatalf("from %s to %s after %s", before, track.State, since)
			}
			since = nil
		}
	})
}
