package sites

import (
	"testing"
	"time"
)

// Found at a real Zed region: Neutron answers 400 to changed_since, Cinder to updated_at of snapshots.
func TestChangedSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 3, 4, 5, 6, time.FixedZone("", 3600))
	old := Capabilities{Extensions: []string{"standard-attr-timestamp"}, Services: map[Service]ServiceInfo{BlockStorage: {MaxMicroversion: "3.59"}}}
	zed := Capabilities{Extensions: []string{"filter-validation", "standard-attr-timestamp"}, Services: map[Service]ServiceInfo{BlockStorage: {MaxMicroversion: "3.70"}}}
	for _, tt := range []struct {
		name string
		caps Capabilities
		kind Kind
		want string
	}{
		{"server", zed, Server, "changes-since=2026-11-21T02%3A04%3A05Z"},
		{"volume", zed, Volume, "updated_at=gte%3A2026-11-21T02%3A04%3A05"},
		{"volume of old", old, Volume, ""},
		{"snapshot", zed, Snapshot, ""},
		{"port where filters are checked", zed, Port, ""},
		{"port where they are not", old, Port, "changed_since=2026-11-21T02%3A04%3A05"},
		{"image", zed, Image, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := tt.caps.ChangedSince(tt.kind, at)
			if got.Encode() != tt.want || ok != (tt.want != "") {
				t.Errorf("ChangedSince(%s) = %q, %v; want %q", tt.kind, got.Encode(), ok, tt.want)
			}
		})
	}
}

// layer is a decorator as sites/limit and sites/retry are.
type layer struct {
	Adaptor
	powers []any
}

func (l layer) Unwrap() Adaptor { return l.Adaptor }
func (l layer) Powers() []any   { return l.powers }

// maker has a power, and a name to tell which one was found.
type maker struct {
	Adaptor
	FlavorMaker
	name string
}

func TestAsFindsTheOutermostPower(t *testing.T) {
	t.Parallel()
	inner := &maker{name: "inner"}
	if got, ok := As[FlavorMaker](layer{Adaptor: layer{Adaptor: inner}}); !ok || got.(*maker).name != "inner" {
		t.Errorf("through two layers: %v, %v; want the inner power", got, ok)
	}
	guard := &maker{name: "guard"}
	if got, ok := As[FlavorMaker](layer{Adaptor: layer{Adaptor: inner, powers: []any{guard}}}); !ok || got.(*maker).name != "guard" {
		t.Errorf("through a layer that guards it: %v, %v; want the guard", got, ok)
	}
	if _, ok := As[ProjectMaker](layer{Adaptor: layer{}}); ok {
		t.Error("a power was found that nobody has")
	}
	if _, ok := As[ProjectMaker](nil); ok {
		t.Error("a power was found of no adaptor")
	}
}

func TestMarkerOfReadsWhatMarkingWrites(t *testing.T) {
	t.Parallel()
	const id = "0b9c2f0e-3b1a-4a51-8a9b-7f4b1d9d4d11"
	for _, tt := range []struct {
		kind Kind
		body Body
	}{
		{Server, Body{"tags": []any{"other", MarkerText(id)}}},
		{Volume, Body{"metadata": map[string]any{MetadataMarker: MarkerText(id)}}},
		{Port, Body{"description": MarkerText(id)}},
		{Backup, Body{"name": MarkedName(id)}},
		{Image, Body{ImageMarker: MarkerText(id)}},
	} {
		if got, ok := MarkerOf(tt.body); !ok || got != id {
			t.Errorf("MarkerOf(%v) = %q, %v; want %s (%s)", tt.body, got, ok, id, Marking(tt.kind))
		}
	}
}
