package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// elsewhere are the names of papers that a reader of this repository does not have.
	elsewhere = regexp.MustCompile(`\b(DESIGN|STYLE)\b|\b[Ii]ssue #?[0-9]|\(D[0-9]{1,2}\b`)
	// cited is a decision as a comment points at it: the README, a colon, and how the decision begins.
	cited = regexp.MustCompile(`([a-z/]+/README\.md): ([A-Z][A-Za-z -]*[a-z])`)
)

// checkCitations wants comments and READMEs to cite what is in the repository: a decision by its README and how it begins.
func checkCitations(t *tree) []Violation {
	var out []Violation
	readmes := map[string]string{}
	read := func(name string) string {
		if _, ok := readmes[name]; !ok {
			data, _ := os.ReadFile(filepath.Join(t.root, filepath.FromSlash(name))) // what is not there has no decisions
			readmes[name] = string(data)
		}
		return readmes[name]
	}
	check := func(path string, line int, text string) {
		if m := elsewhere.FindString(text); m != "" {
			out = append(out, Violation{path, line, "citation", fmt.Sprintf("cites %q, which is not in this repository: write the reason here, or point at a decision in a README", m)})
		}
		for _, m := range cited.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(read(m[1]), "**"+m[2]) {
				out = append(out, Violation{path, line, "citation", fmt.Sprintf("%s has no decision that begins with %q", m[1], m[2])})
			}
		}
	}
	for _, p := range t.packages {
		for _, f := range p.files {
			for _, c := range f.syntax.Comments {
				check(f.path, t.line(c), strings.Join(strings.Fields(c.Text()), " "))
			}
		}
	}
	for _, dir := range t.folders {
		name := dir + "/README.md"
		for i, line := range strings.Split(read(name), "\n") {
			check(name, i+1, line)
		}
	}
	return out
}
