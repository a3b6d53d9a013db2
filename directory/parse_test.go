package directory

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBadDocuments: each file of testdata/bad is named for its fault; beside
// it stand the errors, one a line, without the file's name.
func TestBadDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			docs, fault := Parse(File{Name: "FILE", Data: text})
			if fault == nil {
				_, fault = Build(docs)
			}
			if fault == nil {
				t.Fatal("no fault was found")
			}
			var got strings.Builder
			for _, line := range strings.Split(fault.Error(), "\n") {
				got.WriteString(strings.TrimPrefix(line, "FILE") + "\n")
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestCanonicalFormIsStable: what is stored reads back as the same document.
func TestCanonicalFormIsStable(t *testing.T) {
	text := exampleSite + `---
domains: ["*"]
kind: tenant
name: "007"
dsn_rate: 5
---
kind: queue
rate: 0.5
name: on
schedule:
    steps:
    - 1m
    - 1h30m
identity:
  source_ips: 2001:db8::1
  helo: true.example
---
kind: route
name: quoted
match: {domain: x.example}
via: "error:451 4.7.1 later: come 'back' # now"
`
	for _, d := range documentsOf(t, text) {
		again := documentsOf(t, d.YAML)
		if len(again) != 1 {
			t.Fatalf("%s became %d documents:\n%s", d.Ref, len(again), d.YAML)
		}
		if diff := cmp.Diff(d.YAML, again[0].YAML); diff != "" {
			t.Errorf("%s (-stored +read)\n%s", d.Ref, diff)
		}
		opts := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
		if diff := cmp.Diff(d.value, again[0].value, opts, prefixes); diff != "" {
			t.Errorf("%s (-given +stored)\n%s", d.Ref, diff)
		}
	}
}

// FuzzParse: no input makes the parser panic or run away, and what it takes
// can be stored and read back.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(exampleSite))
	f.Fuzz(func(t *testing.T, text []byte) {
		docs, err := Parse(File{Name: "FILE", Data: text})
		if err != nil {
			return
		}
		for _, d := range docs {
			again, err := Parse(File{Data: []byte(d.YAML)})
			if err != nil || len(again) != 1 || again[0].YAML != d.YAML {
				t.Fatalf("%q is not stable: %v", d.YAML, err)
			}
		}
		if s, err := Build(docs); err == nil {
			s.Decide(Question{Recipient: string(text)})
		}
	})
}

// FuzzParseVia: what is taken is written as it can be read again.
func FuzzParseVia(f *testing.F) {
	for _, s := range []string{"smtp://mx", "smtp://[::1]:25", "lmtp:///run/lmtp", "maildir:a b", "error:550 5.1.1 x", "discard:", "discard"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVia(s)
		if err != nil {
			return
		}
		again, err := ParseVia(v.String())
		if err != nil || again != v {
			t.Fatalf("%q became %q: %+v, %v", s, v, again, err)
		}
	})
}
