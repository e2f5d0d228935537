package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestAt(t *testing.T) {
	t.Parallel()
	times := make([]time.Duration, 200) // 1 ms to 200 ms
	for i := range times {
		times[i] = time.Duration(i+1) * time.Millisecond
	}
	for _, tt := range []struct {
		name string
		of   []time.Duration
		q    float64
		want float64
	}{
		{"p50", times, .5, 100},
		{"p99", times, .99, 198},
		{"max", times, 1, 200},
		{"least", times, 0, 1},
		{"of one", times[:1], .99, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := at(tt.of, tt.q); got != tt.want {
				t.Errorf("at(%v) = %v ms, want %v", tt.q, got, tt.want)
			}
		})
	}
	if got := at(nil, .5); !math.IsNaN(got) {
		t.Errorf("at of nothing = %v, want no number", got)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := &report{Machine: "a machine", Commit: "abc", Date: time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)}
	peer := 50.0
	r.beside(figure{Name: "list", Unit: "ms", Ours: new(float64(2)), How: "one client"}, &peer, 20)
	r.aim(figure{Name: "slow", Unit: "ms", Ours: new(float64(7)), How: "the same"}, lower, 5)
	r.none(figure{Name: "failed", Unit: "%", Ours: new(float64(0)), How: "the same"})
	var table, lines bytes.Buffer
	if err := r.print(&table, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"list    ms    2          50    25     20 times faster  yes", "< 5", "NO", "   2-3  the same\n", "Headwater abc, 2026-11-21T04:00:00Z"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	if err := r.print(&lines, true); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&lines)
	for n, want := range []string{"commit", "headwater", "headwater", "headwater"} {
		var line map[string]any
		if err := d.Decode(&line); err != nil || line[want] == nil {
			t.Errorf("line %d is %v, %v; want one with %q", n+1, line, err, want)
		}
	}
}
