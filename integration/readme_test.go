package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link   = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	target = regexp.MustCompile("`make ([a-z]+)|^make ([a-z]+)")
)

// TestDocumentsPointSomewhere follows the links of the root documents, and looks
// up the targets of make that they name.
func TestDocumentsPointSomewhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "integration/README.md"} {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		for line := range strings.Lines(string(data)) {
			for _, m := range target.FindAllStringSubmatch(line, -1) {
				knows(t, name, m[1]+m[2])
			}
		}
	}
}

// knows looks into the Makefile: a dry run of make would run the recipes that call make.
func knows(t *testing.T, name, target string) {
	t.Helper()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(makefile, []byte("\n"+target+":")) {
		t.Errorf("%s names `make %s`, which the Makefile does not have", name, target)
	}
}

// TestScriptsParse has bash read every script of the project.
func TestScriptsParse(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"../.ci/run", "install", "generated", "realcloud/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no file %s: %v", pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(data, []byte("#!/bin/bash")) {
				continue
			}
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", name).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			if fi, err := os.Stat(name); err != nil || fi.Mode()&0o111 == 0 {
				t.Errorf("%s cannot be executed: %v", name, err)
			}
		}
	}
}
