package test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDependenciesHaveReasons wants a row in docs/design.md for each module
// that we import ourselves.
func TestDependenciesHaveReasons(t *testing.T) {
	page, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(page), "## Dependencies")
	named := regexp.MustCompile(`[\w.-]+(?:/[\w.-]+)+`).FindAllString(rows, -1)
	known := map[string]bool{}
	for _, name := range named {
		known[name] = true
	}
	direct := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1)
	if len(direct) == 0 {
		t.Fatal("go.mod requires nothing directly")
	}
	for _, m := range direct {
		name := regexp.MustCompile(`/v\d+$`).ReplaceAllString(strings.TrimPrefix(m[1], "github.com/"), "")
		if !known[name] {
			t.Errorf("%s has no row", name)
		}
	}
}
