package sinks_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qstream/tapper/sink/sinks"
	"qstream/tapper/sink/sinktest"
)

// written is the folder of a sink with copies of three days, in the books of
// two subscriptions: a retro order's, whose numbers don't follow the days, and
// sealed ones.
func written(t *testing.T, typ string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "a[rchive") // no pattern
	s := open(t, typ+":"+folder)
	for n := 1; n <= 9; n++ {
		c := sinktest.Full(n, sinktest.Content(n))
		c.Accepted = c.Accepted.AddDate(0, 0, n%3)
		put(t, s, c, sinktest.Sealed(n))
	}
	return folder
}

// verified is what is wrong with a folder.
func verified(t *testing.T, folder string, noted map[string][]string) []string {
	t.Helper()
	found, err := sinks.Verify(folder, noted)
	if err != nil {
		t.Fatal(err)
	}
	return found.Wrong
}

func TestVerifyFindsNothing(t *testing.T) {
	for typ, want := range map[string]sinks.Checked{
		"file": {Manifests: sinks.Counted{Books: 4, Lines: 18, Files: 18}},
		"etsi": {Events: sinks.Counted{Books: 4, Lines: 18, Files: 9}},
	} {
		found, err := sinks.Verify(written(t, typ), nil)
		if err != nil || found.Manifests != want.Manifests || found.Events != want.Events || len(found.Begins) != 0 || len(found.Last) != 4 || found.Unhashed != 0 {
			t.Errorf("%s: %+v, %v", typ, found, err)
		}
		for _, what := range found.Wrong {
			t.Errorf("%s: %s", typ, what)
		}
	}
	if _, err := sinks.Verify(t.TempDir(), nil); err == nil {
		t.Error("an empty folder is what was written")
	}
}

type names struct{ open, next, sealed string }

// books are the names of the sinks' books and sealed files of written.
var books = map[string]names{
	"file": {"2026-03-01/manifest.acme.0.jsonl", "2026-03-02/manifest.acme.0.jsonl", "0001-01-01/manifest.order-1.3.jsonl"},
	"etsi": {"2026-03-01/events.acme.0.jsonl", "2026-03-02/events.acme.0.jsonl", "0001-01-01/events.order-1.3.jsonl"},
}

// damage is what is done to a folder, and what Verify says of it: all of it, and
// nothing else.
type damage struct {
	name string
	do   func(e *edit)
	want []string
}

// toRecords is done to lines and books.
func toRecords(b names) []damage {
	return []damage{
		{"an octet changed", func(e *edit) {
			e.file(b.open, func(s string) string { return strings.Replace(s, "bob@acme.example", "bub@acme.example", 1) })
		}, []string{b.open + ":2: the line doesn't follow the one before it"}},
		{"an octet of the newest line changed", func(e *edit) {
			e.noted()
			e.lines(b.open, func(l []string) []string { return append(l[:2], strings.Replace(l[2], "ann@", "amm@", 1)) })
		}, []string{b.open + ": the line that was noted as "}},
		{"no JSON any more", func(e *edit) {
			e.file(b.open, func(s string) string { return strings.Replace(s, `"id"`, `"id\`, 1) })
		}, []string{
			b.open + ":1: is no line of such a book",
			b.open + ":2: the line doesn't follow the one before it",
			"acme, lane 0: number 3 is missing, between ",
		}},
		{"a record removed", func(e *edit) {
			e.lines(b.open, func(l []string) []string { return append(l[:1], l[2]) })
		}, []string{
			b.open + ":2: the line doesn't follow the one before it",
			"acme, lane 0: number 6 is missing, between ",
		}},
		{"the first record removed", func(e *edit) {
			e.lines(b.sealed, func(l []string) []string { return l[1:] })
		}, []string{
			b.sealed + ":1: the line doesn't follow the one before it",
			"0001-01-01/order-1.3.1.age: no line tells of it",
		}},
		{"records swapped", func(e *edit) {
			e.lines(b.open, func(l []string) []string { return []string{l[1], l[0], l[2]} })
		}, []string{
			b.open + ":1: the line doesn't follow the one before it",
			b.open + ":2: the line doesn't follow the one before it",
			b.open + ":2: acme.01KJM000000000000000000003 has number 3, and stands behind 6",
			b.open + ":3: the line doesn't follow the one before it",
		}},
		{"a record twice", func(e *edit) {
			e.lines(b.open, func(l []string) []string { return []string{l[0], l[1], l[1], l[2]} })
		}, []string{
			b.open + ":3: the line doesn't follow the one before it",
			b.open + ":3: acme.01KJM000000000000000000006 has number 6, which is there before",
		}},
		{"truncated within a record", func(e *edit) {
			e.file(b.open, func(s string) string { return s[:len(s)-40] })
		}, []string{b.open + ":3: the line has no end"}},
		{"truncated between records", func(e *edit) {
			e.lines(b.next, func(l []string) []string { return l[:1] })
		}, []string{
			"acme, lane 0: number 4 is missing, between ",
			"acme, lane 0: number 7 is missing, between ",
		}},
		{"truncated where the newest were", func(e *edit) {
			e.noted()
			e.lines(b.open, func(l []string) []string { return l[:2] })
		}, []string{b.open + ": the line that was noted as "}},
		{"a book gone", func(e *edit) {
			e.noted()
			e.remove(b.open)
		}, []string{
			b.open + ": it was noted, and isn't there",
			"acme, lane 0: number 3 is missing, between ",
			"acme, lane 0: number 6 is missing, between ",
		}},
	}
}

// toFiles is done to whole files.
func toFiles(b names) []damage {
	return []damage{
		{"a book of another lane", func(e *edit) { e.rename(b.open, strings.Replace(b.open, ".0.", ".1.", 1)) }, []string{
			": acme.01KJM000000000000000000003 belongs into a book " + filepath.Base(b.open),
			": acme.01KJM000000000000000000006 belongs into a book " + filepath.Base(b.open),
			": acme.01KJM000000000000000000009 belongs into a book " + filepath.Base(b.open),
		}},
		{"a file gone", func(e *edit) { e.remove("0001-01-01/order-1.3.4.age") }, []string{
			"0001-01-01/order-1.3.4.age: is missing; " + b.sealed + ":4 tells of it",
		}},
		{"a file changed", func(e *edit) {
			e.file("0001-01-01/order-1.3.4.age", func(s string) string { return "A" + s[1:] })
		}, []string{"0001-01-01/order-1.3.4.age: is not what was written: another hash"}},
		{"a file truncated", func(e *edit) {
			e.file("0001-01-01/order-1.3.4.age", func(s string) string { return s[:len(s)-1] })
		}, []string{"0001-01-01/order-1.3.4.age: is not what was written: 1221 octets of 1222"}},
		{"a file put in", func(e *edit) {
			e.put("2026-03-01/x.eml", "mail")
		}, []string{"2026-03-01/x.eml: no line tells of it"}},
		{"a file elsewhere", func(e *edit) {
			e.file(b.sealed, func(s string) string { return strings.Replace(s, `"order-1.3.1.age"`, `"../order-1.3.1.age"`, 1) })
		}, []string{
			b.sealed + `:1: order-1.3.1: "../order-1.3.1.age" is no file's name`,
			b.sealed + ":2: the line doesn't follow the one before it",
			"0001-01-01/order-1.3.1.age: no line tells of it",
		}},
	}
}

func TestVerifyNames(t *testing.T) {
	for typ, b := range books {
		for _, c := range append(toRecords(b), toFiles(b)...) {
			t.Run(typ+" "+c.name, func(t *testing.T) {
				e := &edit{t: t, folder: written(t, typ)}
				c.do(e)
				wrong := verified(t, e.folder, e.note)
				if typ == "file" { // its messages are files of their own
					wrong = without(wrong, ".eml: no line tells of it", c.name == "a file put in")
				}
				for i, w := range wrong {
					if i >= len(c.want) || !strings.Contains(w, c.want[i]) {
						t.Errorf("%d: %s", i, w)
					}
				}
				if len(wrong) != len(c.want) {
					t.Errorf("%d things are wrong, want %d: %q", len(wrong), len(c.want), c.want)
				}
			})
		}
	}
}

// TestVerifyEveryOctet: whatever octet of a book is changed, it shows, that of
// the newest line by its noted hash.
func TestVerifyEveryOctet(t *testing.T) {
	e := &edit{t: t, folder: t.TempDir()}
	put(t, open(t, "etsi:"+e.folder), sinktest.Full(1, ""), sinktest.Outcome(2))
	e.noted()
	name := filepath.Join(e.folder, books["etsi"].open)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		e.put(books["etsi"].open, string(changed))
		if len(verified(t, e.folder, e.note)) == 0 {
			t.Errorf("octet %d of %d: nothing shows", i, len(text))
		}
	}
}

// TestVerifyTells how a lane begins, and what was noted before there was more.
func TestVerifyTells(t *testing.T) {
	e := &edit{t: t, folder: written(t, "etsi")}
	e.noted()
	s := open(t, "etsi:"+e.folder)
	c := sinktest.Full(10, sinktest.Content(10))
	c.Accepted = c.Accepted.AddDate(0, 0, 1)
	put(t, s, c)
	if err := os.RemoveAll(filepath.Join(e.folder, "2026-03-01")); err != nil {
		t.Fatal(err)
	}
	delete(e.note, books["etsi"].open)
	found, err := sinks.Verify(e.folder, e.note)
	if err != nil || len(found.Wrong) != 3 || len(found.Begins) != 0 {
		t.Errorf("a day taken out: %+v, %v", found, err)
	}
	folder := filepath.Join(t.TempDir(), "later")
	put(t, open(t, "etsi:"+folder), sinktest.Full(7, ""), sinktest.Full(8, ""))
	found, err = sinks.Verify(folder, nil)
	if err != nil || len(found.Wrong) != 0 || fmt.Sprint(found.Begins) != "[acme, lane 0 begins at 7]" {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestVerifyOlder: a record of a sealed copy that tells no hash.
func TestVerifyOlder(t *testing.T) {
	folder := t.TempDir()
	e := &edit{t: t, folder: folder}
	e.put("0001-01-01/order-1.3.1.age", "age")
	e.put("0001-01-01/events.order-1.3.jsonl",
		`{"id":"order-1.3.1","subscription":"order-1","lane":"3","sequence":1,"sealed":"order-1.3.1.age","e-mail-Sender":"","previous":""}`+"\n")
	found, err := sinks.Verify(folder, nil)
	if err != nil || len(found.Wrong) != 0 || found.Unhashed != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestVerifyBounds what it tells.
func TestVerifyBounds(t *testing.T) {
	e := &edit{t: t, folder: t.TempDir()}
	e.put("2026-03-01/events.acme.0.jsonl", strings.Repeat("{}\n", 5000))
	found, err := sinks.Verify(e.folder, nil)
	if err != nil || len(found.Wrong) != 1000 || found.WrongMore < 4000 {
		t.Errorf("%d and %d, %v", len(found.Wrong), found.WrongMore, err)
	}
}

// without are texts without those that end in a way, unless they are wanted.
func without(texts []string, end string, wanted bool) []string {
	var all []string
	for _, text := range texts {
		if wanted || !strings.HasSuffix(text, end) {
			all = append(all, text)
		}
	}
	return all
}

// edit changes a folder.
type edit struct {
	t      *testing.T
	folder string
	note   map[string][]string
}

// noted notes the last lines as they are.
func (e *edit) noted() {
	found, err := sinks.Verify(e.folder, nil)
	e.check(err)
	e.note = map[string][]string{}
	for book, hash := range found.Last {
		e.note[book] = []string{hash}
	}
}

func (e *edit) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *edit) file(name string, change func(string) string) {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join(e.folder, name))
	e.check(err)
	changed := change(string(text))
	if changed == string(text) {
		e.t.Fatal("nothing changed")
	}
	e.put(name, changed)
}

func (e *edit) lines(name string, change func([]string) []string) {
	e.t.Helper()
	e.file(name, func(s string) string {
		lines := strings.SplitAfter(s, "\n")
		return strings.Join(change(lines[:len(lines)-1]), "")
	})
}

func (e *edit) put(name, text string) {
	e.t.Helper()
	e.check(os.MkdirAll(filepath.Dir(filepath.Join(e.folder, name)), 0o700))
	e.check(os.WriteFile(filepath.Join(e.folder, name), []byte(text), 0o600))
}

func (e *edit) remove(name string) {
	e.t.Helper()
	e.check(os.Remove(filepath.Join(e.folder, name)))
}

func (e *edit) rename(from, to string) {
	e.t.Helper()
	e.check(os.Rename(filepath.Join(e.folder, from), filepath.Join(e.folder, to)))
}
