// Command asking finds the tests that depend on a word of their sources, such
// as the setting that has them run on Kafka:
//
//	go run ./test/asking QSTREAM_TEST_KAFKA
//	./ingest ^(TestFrozenKafka|TestMemoryIsBounded)$
//
// A line for each package, with what "go test -run" takes. A test depends on
// what it says itself and on what the functions and variables say that it names,
// of the package's test files, and so on. Names are compared without their types:
// a test too many is run, never one too few.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: asking WORD")
		os.Exit(2)
	}
	lines, err := asking(os.DirFS("."), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "asking:", err)
		os.Exit(1)
	}
	for _, line := range lines {
		fmt.Println(line)
	}
}

// asking is a line for each folder below root with tests that depend on word,
// in the folders' order.
func asking(root fs.FS, word string) (lines []string, err error) {
	folders := map[string]*tests{}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		folder := path.Dir(name)
		if folders[folder] == nil {
			folders[folder] = &tests{word: []byte(word), names: map[string][]string{}, asks: map[string]bool{}}
		}
		return folders[folder].read(name, text)
	})
	if err != nil {
		return nil, err
	}
	for folder, t := range folders {
		if found := t.found(); len(found) > 0 {
			lines = append(lines, fmt.Sprintf("./%s ^(%s)$", folder, strings.Join(found, "|")))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// tests are a folder's: what each function and variable names, and which of
// them say the word.
type tests struct {
	word  []byte
	names map[string][]string
	asks  map[string]bool
}

func (t *tests) read(name string, text []byte) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, 0)
	if err != nil {
		return err
	}
	add := func(name string, n ast.Node) {
		from, to := fset.Position(n.Pos()).Offset, fset.Position(n.End()).Offset
		if bytes.Contains(text[from:to], t.word) {
			t.asks[name] = true
		}
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name != name {
				t.names[name] = append(t.names[name], id.Name)
			}
			return true
		})
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(d.Name.Name, d)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if v, ok := s.(*ast.ValueSpec); ok {
					for _, id := range v.Names {
						add(id.Name, v)
					}
				}
			}
		}
	}
	return nil
}

var isTest = regexp.MustCompile(`^Test($|[^a-z])`)

// found are the tests that depend on the word, sorted. TestMain is none.
func (t *tests) found() (names []string) {
	for spread := true; spread; {
		spread = false
		for name, uses := range t.names {
			if !t.asks[name] && slices.ContainsFunc(uses, func(u string) bool { return t.asks[u] }) {
				t.asks[name], spread = true, true
			}
		}
	}
	for name := range t.asks {
		if isTest.MatchString(name) && name != "TestMain" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
