package test

import (
	"go/ast"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

const guaranteesPage = "../docs/guarantees.md"

// TestGuaranteesPage holds the page against the sources: each promise names
// tests, and each test that it names exists.
func TestGuaranteesPage(t *testing.T) {
	page, err := os.ReadFile(guaranteesPage)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && strings.HasSuffix(s.path, "_test.go") {
				known[path.Dir(s.path)+" "+f.Name.Name] = true
			}
		}
	}
	promises := strings.Split(string(page), "\n## ")[1:]
	if len(promises) == 0 {
		t.Fatal("no promises found")
	}
	group := regexp.MustCompile("`([a-z0-9/]+)`: ((?:Test|Fuzz)[A-Za-z0-9]+(?:, (?:Test|Fuzz)[A-Za-z0-9]+)*)")
	for _, promise := range promises {
		title, _, _ := strings.Cut(promise, "\n")
		groups := group.FindAllStringSubmatch(promise, -1)
		if len(groups) == 0 {
			t.Errorf("%q names no test", title)
		}
		for _, g := range groups {
			for name := range strings.SplitSeq(g[2], ", ") {
				if !known[g[1]+" "+name] {
					t.Errorf("%q names %s of %s, which isn't there", title, name, g[1])
				}
			}
		}
	}
}
