package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action      string  `json:"Action"`
	Package     string  `json:"Package,omitempty"`
	ImportPath  string  `json:"ImportPath,omitempty"` // of build-output and build-fail
	Test        string  `json:"Test,omitempty"`
	Elapsed     float64 `json:"Elapsed,omitempty"` // seconds
	Output      string  `json:"Output,omitempty"`
	FailedBuild string  `json:"FailedBuild,omitempty"`
}

// key names one test, or with an empty test one package.
type key struct{ pkg, test string }

func (k key) String() string {
	if k.test == "" {
		return k.pkg
	}
	return k.pkg + " " + k.test
}

// outcome is what is known of a test. Larger wins when a test ran twice: what
// is skipped in the short suite and passes in the full one has passed.
type outcome int

const (
	unknown outcome = iota
	skipped
	passed
	failed  // also: began and never ended
	started // only while a stream is read
)

// test is one test, or the package itself.
type test struct {
	outcome outcome // of all runs
	now     outcome // of the stream that is read
	elapsed time.Duration
	current []string // output in the stream that is read
	output  []string // output of the run that decided the outcome
}

// end closes one run of the test.
func (one *test) end(how outcome) {
	one.now = how
	if how >= one.outcome {
		one.outcome, one.output = how, one.current
	}
	one.current = nil
}

// tally collects streams. live, when set, receives packages and failures as they end.
type tally struct {
	tests  map[key]*test
	builds map[string][]string // import path to what the compiler said
	live   io.Writer
}

func newTally() *tally {
	return &tally{tests: map[key]*test{}, builds: map[string][]string{}}
}

func (t *tally) at(k key) *test {
	if t.tests[k] == nil {
		t.tests[k] = &test{}
	}
	return t.tests[k]
}

// read adds one stream, which must be whole. Lines that are not JSON are shown and skipped: a test
// binary's own prints can get in between.
func (t *tally) read(r io.Reader) error {
	for _, one := range t.tests {
		one.now = unknown
	}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				t.add(e)
			} else if t.live != nil {
				fmt.Fprintf(t.live, "%s", line)
			}
		}
		if err == io.EOF {
			t.close()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// close ends a stream: a test that began and did not end has failed, for
// instance when its process was killed.
func (t *tally) close() {
	for k, one := range t.tests {
		if one.now == started {
			one.current = append(one.current, "    did not end\n")
			one.end(failed)
			if t.live != nil && k.test != "" {
				t.show(k, one)
			}
		}
	}
}

func (t *tally) add(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		t.builds[e.ImportPath] = append(t.builds[e.ImportPath], e.Output)
	case "start", "run":
		t.at(k).now = started
	case "output":
		t.at(k).current = append(t.at(k).current, e.Output)
	case "pass":
		t.end(k, passed, e)
	case "skip":
		t.end(k, skipped, e)
	case "fail":
		t.end(k, failed, e)
	}
}

func (t *tally) end(k key, how outcome, e event) {
	one := t.at(k)
	if how == failed && e.FailedBuild != "" {
		one.current = append(one.current, t.builds[e.FailedBuild]...)
	}
	one.end(how)
	one.elapsed = max(one.elapsed, time.Duration(e.Elapsed*float64(time.Second)))
	if t.live == nil {
		return
	}
	switch {
	case how == failed && !t.failedBelow(k):
		t.show(k, one)
	case k.test == "" && how != skipped:
		fmt.Fprintf(t.live, "%-5s %s %.1fs\n", map[outcome]string{passed: "ok", failed: "FAIL"}[how], k.pkg, e.Elapsed)
	}
}

// failedBelow reports whether a subtest of k, or a test of the package k, failed:
// then k's own failure says nothing new.
func (t *tally) failedBelow(k key) bool {
	for other, one := range t.tests {
		if one.outcome == failed && other != k && below(other, k) {
			return true
		}
	}
	return false
}

func below(k, parent key) bool {
	return k.pkg == parent.pkg && (parent.test == "" || strings.HasPrefix(k.test, parent.test+"/"))
}

func (t *tally) show(k key, one *test) {
	fmt.Fprintf(t.live, "FAIL  %s\n%s", k, one.text())
}

var noise = regexp.MustCompile(`^(=== |--- |\s*--- |PASS$|FAIL$|ok  |FAIL\t|exit status )`)

// text returns the output without what test2json repeats for each test.
func (one *test) text() string {
	var b strings.Builder
	for _, line := range one.output {
		if !noise.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// total is the account of a tally.
type total struct {
	passed, failed, skipped int
	failures, skips         []result
	slowest                 []result
}

type result struct {
	key
	elapsed time.Duration
	text    string
}

// sum counts leaves: tests without subtests. A parent or a package counts only
// when it failed and nothing below it did.
func (t *tally) sum() total {
	parents := map[key]bool{}
	for k := range t.tests {
		for i := range k.test {
			if k.test[i] == '/' {
				parents[key{k.pkg, k.test[:i]}] = true
			}
		}
	}
	var sum total
	for k, one := range t.tests {
		r := result{k, one.elapsed, one.text()}
		if k.test != "" && !strings.Contains(k.test, "/") && one.elapsed > 0 {
			sum.slowest = append(sum.slowest, r)
		}
		group := k.test == "" || parents[k]
		switch {
		case one.outcome == failed && (!group || !t.failedBelow(k)):
			sum.failed++
			sum.failures = append(sum.failures, r)
		case group:
		case one.outcome == passed:
			sum.passed++
		case one.outcome == skipped:
			sum.skipped++
			sum.skips = append(sum.skips, r)
		}
	}
	byName := func(rs []result) {
		sort.Slice(rs, func(i, j int) bool { return rs[i].key.String() < rs[j].key.String() })
	}
	byName(sum.failures)
	byName(sum.skips)
	sort.Slice(sum.slowest, func(i, j int) bool { return sum.slowest[i].elapsed > sum.slowest[j].elapsed })
	sum.slowest = sum.slowest[:min(10, len(sum.slowest))]
	return sum
}

var position = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// print writes the account: slowest tests, skipped tests with their reasons,
// failures, and the closing line.
func (s total) print(w io.Writer) {
	if len(s.slowest) > 0 {
		fmt.Fprintln(w, "\nslowest tests:")
	}
	for _, r := range s.slowest {
		fmt.Fprintf(w, "  %7.1fs %s\n", r.elapsed.Seconds(), r.key)
	}
	if len(s.skips) > 0 {
		fmt.Fprintln(w, "\nskipped tests, and why:")
	}
	for _, r := range s.skips {
		reason := strings.Join(strings.Fields(position.ReplaceAllString(r.text, "")), " ")
		fmt.Fprintf(w, "  %s: %s\n", r.key, reason)
	}
	if len(s.failures) > 0 {
		fmt.Fprintln(w, "\nfailures:")
	}
	for _, r := range s.failures {
		fmt.Fprintf(w, "  %s\n%s", r.key, indent(head(r.text)))
	}
	if s.passed+s.failed == 0 {
		fmt.Fprintln(w, "\nno test ran: that is a failure")
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}

// maxShown is how many lines of a failure the account repeats: all of them were shown when it ended.
const maxShown = 60

func head(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= maxShown {
		return text
	}
	return strings.Join(lines[:maxShown], "") + fmt.Sprintf("... and %d lines more, shown above where it ended\n", len(lines)-maxShown)
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		b.WriteString("\n")
	}
	return b.String()
}

// record appends one test to a stream, in the form of go test's own.
func record(w io.Writer, pkg, name string, ok bool, text string, elapsed time.Duration) error {
	how := "fail"
	if ok {
		how = "pass"
	}
	enc := json.NewEncoder(w)
	for _, e := range []event{
		{Action: "run", Package: pkg, Test: name},
		{Action: "output", Package: pkg, Test: name, Output: text},
		{Action: how, Package: pkg, Test: name, Elapsed: elapsed.Seconds()},
	} {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("record %s: %w", name, err)
		}
	}
	return nil
}
