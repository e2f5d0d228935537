package auth

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every rule that a service names in plain text is in the default table or in
// the service's own, which a wrong name would turn into a 500 for the tenant.
func TestRulesExist(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob("../*")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`[rR]equire(?:Self)?\((?:c, |c, [^"()]*(?:\("[a-z]+"\))?, )?"([a-z_:]+)"[,)]`)
	defaults := DefaultRules()
	found := 0
	for _, folder := range folders {
		files, _ := filepath.Glob(filepath.Join(folder, "*.go"))
		var source strings.Builder
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(text)
		}
		for _, m := range asked.FindAllStringSubmatch(source.String(), -1) {
			found++
			_, short, _ := strings.Cut(m[1], ":")
			own := strings.Contains(source.String(), `"`+m[1]+`":`) || short != "" && strings.Contains(source.String(), `"`+short+`",`)
			if _, ok := defaults[m[1]]; !ok && !own {
				t.Errorf("%s asks for the rule %s, which no table has", folder, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d rules only: does the pattern still fit?", found)
	}
}
