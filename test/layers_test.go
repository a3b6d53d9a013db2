// Package test holds what looks at the whole repository.
package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module    = "qstream"
	maxFile   = 500 // lines of a hand-written file
	maxFunc   = 100 // lines of a function
	client    = "github.com/twmb/"
	clientDir = "bus"
)

// layers are the rows of the layout: a folder may import folders of lower
// rows, never one of its own row, and its subpackages obey its row. cmd wires,
// test looks on; both may import everything.
var layers = [][]string{
	{"schemas", "mail", "wire", "qmail"},
	{"bus", "transport", "engine"},
	{"directory", "control"},
	{"ingest", "router", "scanner", "deliver", "delay", "tapper"},
	{"ledger", "replay", "quarantine"},
	{"console"},
	{"cmd", "test"},
}

// beside are the imports inside a row that are allowed, with the reason.
var beside = map[[2]string]string{}

// closing are the imports that a folder's tests may have beyond that.
var closing = map[[2]string]string{
	{"deliver", "delay"}: "the simulation of a leg's life, in which what is deferred comes back",
}

// plain are the folders of the root that hold no Go packages.
var plain = []string{"docs", "deploy", "bin", "qstream-data"}

// vague are names that say nothing of what a package is.
var vague = []string{"common", "util", "utils", "helper", "helpers", "types", "pkg", "misc", "shared", "base"}

func row(folder string) int {
	return slices.IndexFunc(layers, func(r []string) bool { return slices.Contains(r, folder) })
}

// source is a parsed Go file; path is relative to the root, with slashes.
type source struct {
	path string
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s source) folder() string {
	folder, _, _ := strings.Cut(s.path, "/")
	return folder
}

func (s source) imports() []string {
	var paths []string
	for _, i := range s.file.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "testdata") || slices.Contains(plain, rel) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{path: rel, text: text, fset: fset, file: file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no sources found")
	}
	return all
}

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		from := s.folder()
		if row(from) < 0 {
			t.Errorf("%s: folder %s stands in no layer", s.path, from)
			continue
		}
		for _, path := range s.imports() {
			if strings.HasPrefix(path, client) && from != clientDir {
				t.Errorf("%s imports %s: only %s speaks to Kafka", s.path, path, clientDir)
			}
			inner, ok := strings.CutPrefix(path, module+"/")
			if !ok {
				continue
			}
			to, _, _ := strings.Cut(inner, "/")
			if to == from || row(to) >= 0 && row(to) < row(from) {
				continue
			}
			if to == "test" && strings.HasSuffix(s.path, "_test.go") {
				continue // the fakes that suites share
			}
			if _, ok := closing[[2]string{from, to}]; ok && strings.HasSuffix(s.path, "_test.go") {
				continue
			}
			if _, ok := beside[[2]string{from, to}]; !ok {
				t.Errorf("%s imports %s: %s may only import lower layers", s.path, path, from)
			}
		}
	}
}

// TestProgramsHaveOneHome: what starts programs elsewhere would have to learn
// again how they end.
func TestProgramsHaveOneHome(t *testing.T) {
	const home = "engine/process/"
	found := false
	for _, s := range sources(t) {
		if s.folder() == "test" || strings.HasSuffix(s.path, "_test.go") || !slices.Contains(s.imports(), "os/exec") {
			continue
		}
		if found = found || strings.HasPrefix(s.path, home); !strings.HasPrefix(s.path, home) {
			t.Errorf("%s starts programs: that is for %s", s.path, home)
		}
	}
	if !found {
		t.Errorf("%s starts no programs", home)
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if ast.IsGenerated(s.file) {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", s.path, n, maxFile)
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunc {
				t.Errorf("%s: %s has %d lines, more than %d", s.path, f.Name.Name, n, maxFunc)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		if name := strings.TrimSuffix(s.file.Name.Name, "_test"); slices.Contains(vague, name) {
			t.Errorf("%s: package %s: a shared thing gets a noun", s.path, name)
		}
	}
}

func TestRootFolders(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && !strings.HasPrefix(name, ".") && row(name) < 0 && !slices.Contains(plain, name) {
			t.Errorf("folder %s is not part of the layout", name)
		}
	}
}
