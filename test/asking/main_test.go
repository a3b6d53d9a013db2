package main

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestAsking(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("package p\n" + text)} }
	got, err := asking(fstest.MapFS{
		"a/one_test.go": file(`
			func TestSays(t *testing.T) { os.Getenv("ASKED") }
			func TestCalls(t *testing.T) { r := newRig(t); r.run() }
			func TestByMethod(t *testing.T) { var r rig; r.start() }
			func TestByVariable(t *testing.T) { for range table {} }
			func TestOther(t *testing.T) { harmless() }
			func TestMain(m *testing.M) { os.Getenv("ASKED") }
			func Testimony() { os.Getenv("ASKED") }`),
		"a/two_test.go": file(`
			func newRig(t *testing.T) *rig { return deeper() }
			func deeper() *rig { os.Getenv("ASKED"); return nil }
			func (r *rig) start() { deeper() }
			func (r *rig) run() {}
			var table = []func(){func() { deeper() }}
			func harmless() {}`),
		"a/code.go":                 file(`func Code() { os.Getenv("ASKED") }`),
		"b/b_test.go":               file(`func TestNothing(t *testing.T) { deeper() }`),
		"c/d/x_test.go":             file(`func TestDeep(t *testing.T) { asked.Need(t, "ASKED") }`),
		"c/testdata/t_test.go":      file(`func TestData(t *testing.T) { os.Getenv("ASKED") }`),
		".cache/go/cached_test.go":  file(`func TestCached(t *testing.T) { os.Getenv("ASKED") }`),
		"c/d/external/ext_test.go":  file(`func TestExt(t *testing.T) {}`),
		"c/d/external/ext2_test.go": file(`// ASKED`),
	}, "ASKED")
	want := []string{"./a ^(TestByMethod|TestByVariable|TestCalls|TestSays)$", "./c/d ^(TestDeep)$"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestAskingOfNoGo(t *testing.T) {
	if _, err := asking(fstest.MapFS{"a/a_test.go": {Data: []byte("nothing")}}, "x"); err == nil {
		t.Error("read what is no Go")
	}
}
