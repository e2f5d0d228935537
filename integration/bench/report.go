package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one line of the report.
type figure struct {
	Name  string   `json:"figure"`
	Ours  *float64 `json:"headwater,omitempty"` // nil: not measured
	Peer  *float64 `json:"peer,omitempty"`      // nil: there is none, or it was not measured
	Unit  string   `json:"unit"`
	Ratio float64  `json:"times,omitempty"` // how many times better ours is
	Aim   string   `json:"aim,omitempty"`
	Met   *bool    `json:"met,omitempty"`
	How   string   `json:"how"`
}

// report is what one run found.
type report struct {
	Machine string    `json:"machine"`
	Load    string    `json:"load"` // of the machine when the run began: others' work makes figures worse
	Commit  string    `json:"commit"`
	Date    time.Time `json:"date"`
	figures []figure
	notes   []string
}

func newReport(ctx context.Context, root string) *report {
	r := &report{Date: time.Now().UTC().Truncate(time.Second), Machine: machine(), Commit: "unknown"}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	return r
}

// machine names the processor and its cores, and the memory.
func machine() string {
	cpu, memory := "unknown processor", ""
	for _, line := range lines("/proc/cpuinfo") {
		if key, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			cpu = strings.TrimSpace(v)
			break
		}
	}
	for _, line := range lines("/proc/meminfo") {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			memory = fmt.Sprintf(", %d GiB", (kib+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%s, %d cores%s, %s", cpu, runtime.NumCPU(), memory, runtime.Version())
}

func lines(file string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // only read
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}

// direction says which way a figure is better.
type direction int

const (
	lower direction = iota
	higher
)

// add records a figure without an aim.
func (r *report) add(f figure) { r.figures = append(r.figures, f) }

// aim records a figure with the value that it should be below (lower) or above (higher).
func (r *report) aim(f figure, d direction, want float64) {
	sign := "<"
	if d == higher {
		sign = ">"
	}
	f.Aim = fmt.Sprintf("%s %s", sign, number(want))
	if f.Ours != nil {
		f.Met = new(d == lower && *f.Ours < want || d == higher && *f.Ours > want)
	}
	r.add(f)
}

// none records a figure that should be nothing.
func (r *report) none(f figure) {
	f.Aim, f.Met = "0", new(*f.Ours == 0)
	r.add(f)
}

// beside records a latency beside the peer's and how many times ours is lower; want is the wished factor, 0 for none.
func (r *report) beside(f figure, peer *float64, want float64) {
	f.Peer = peer
	if peer != nil && *f.Ours > 0 {
		f.Ratio = *peer / *f.Ours
		if want > 0 {
			met := f.Ratio >= want
			f.Aim, f.Met = fmt.Sprintf("%s times faster", number(want)), &met
		}
	}
	r.add(f)
}

func number(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1 || v <= -0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return r.printJSON(w)
	}
	fmt.Fprintf(w, "\nHeadwater %s, %s\n%s; load at the beginning %s\n\n", r.Commit, r.Date.Format(time.RFC3339), r.Machine, r.Load)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\tfigure\tunit\tHeadwater\tpeer\ttimes\taim\tmet")
	for i, f := range r.figures {
		ours, peer, times, met := "", "", "", ""
		if f.Ours != nil {
			ours = number(*f.Ours)
		}
		if f.Peer != nil {
			peer = number(*f.Peer)
		}
		if f.Ratio > 0 {
			times = number(f.Ratio)
		}
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*f.Met]
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i+1, f.Name, f.Unit, ours, peer, times, f.Aim, met)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	fmt.Fprintln(w, "\nHow each was measured:")
	for i := 0; i < len(r.figures); {
		last := i
		for last+1 < len(r.figures) && r.figures[last+1].How == r.figures[i].How {
			last++
		}
		which := fmt.Sprint(i + 1)
		if last > i {
			which += fmt.Sprintf("-%d", last+1)
		}
		fmt.Fprintf(w, "%6s  %s\n", which, r.figures[i].How)
		i = last + 1
	}
	for _, n := range r.notes {
		fmt.Fprintln(w, "note:", n)
	}
	return nil
}

func (r *report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("print the head: %w", err)
	}
	for _, f := range r.figures {
		if err := e.Encode(f); err != nil {
			return fmt.Errorf("print a figure: %w", err)
		}
	}
	for _, n := range r.notes {
		if err := e.Encode(map[string]string{"note": n}); err != nil {
			return fmt.Errorf("print a note: %w", err)
		}
	}
	return nil
}
