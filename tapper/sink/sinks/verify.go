package sinks

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"qstream/tapper/sink/daybook"
)

// Checked is what Verify found of a folder. Its texts are of what stands there:
// hostile.
type Checked struct {
	Manifests Counted `json:"manifests"` // of sinks file:
	Events    Counted `json:"events"`    // of sinks etsi:
	// Unhashed are files of which only that they are there could be checked:
	// nobody wrote their hash.
	Unhashed int `json:"unhashed,omitempty"`
	// Begins are subscriptions' lanes whose first number in the folder isn't 1.
	// What came before was moved away, or went elsewhere.
	Begins []string `json:"begins,omitempty"`
	// Last is the hash of the last line of each book, by its path in the folder.
	Last map[string]string `json:"last"`
	// Wrong is what is missing or changed, the first mostWrong of it; WrongMore
	// is how much more there is.
	Wrong     []string `json:"wrong,omitempty"`
	WrongMore int      `json:"wrong_more,omitempty"`
}

// Counted are books, their lines, and the files that these tell of.
type Counted struct {
	Books int `json:"books"`
	Lines int `json:"lines"`
	Files int `json:"files"`
}

// mostWrong bounds what Verify tells.
const mostWrong = 1000

// Names are the books in their order.
func (c Checked) Names() []string { return slices.Sorted(maps.Keys(c.Last)) }

// Verify checks the folder of a file or etsi sink: each book's chain, that each
// number of a subscription's lane stands in the books once and, in each book,
// in order, each file's size and hash, and that there is no file without a line.
//
// Noted are hashes of last lines that somebody noted elsewhere, by book: each
// must still be the hash of a line of that book. Without them nobody can see
// that the end of the newest books is missing, or that all was made anew.
//
// The error is that there is no book; all else that is wrong is in Checked.
func Verify(path string, noted map[string][]string) (Checked, error) {
	v := &verification{path: path, told: map[string]bool{}, lanes: map[string]*numbers{}, Checked: Checked{Last: map[string]string{}}}
	var books []string
	for _, kind := range []string{kindManifest, kindEvents} {
		found, err := filepath.Glob(filepath.Join(globEscape(path), "*", kind+".*.jsonl"))
		if err != nil {
			return v.Checked, err
		}
		books = append(books, found...)
	}
	if len(books) == 0 && len(noted) == 0 {
		return v.Checked, fmt.Errorf("%s: no manifest and no book of events: it is no folder of a file or etsi sink", path)
	}
	for _, book := range books {
		name, err := filepath.Rel(path, book)
		if err != nil {
			return v.Checked, err
		}
		v.book(name, noted[name])
	}
	for _, name := range slices.Sorted(maps.Keys(noted)) {
		if _, there := v.Last[name]; !there {
			v.wrong("%s: it was noted, and isn't there", name)
		}
	}
	v.missing()
	files, err := filepath.Glob(filepath.Join(globEscape(path), "*", "*.*"))
	if err != nil {
		return v.Checked, err
	}
	for _, file := range files {
		if ext := filepath.Ext(file); (ext == ".eml" || ext == ".age") && !v.told[file] {
			v.wrong("%s: no line tells of it", v.rel(file))
		}
	}
	return v.Checked, nil
}

// globEscape makes a path stand for itself in a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

type verification struct {
	Checked
	path  string
	told  map[string]bool     // files that lines tell of
	lanes map[string]*numbers // by their names
}

func (v *verification) wrong(format string, args ...any) {
	if len(v.Wrong) < mostWrong {
		v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
		return
	}
	v.WrongMore++
}

func (v *verification) rel(file string) string {
	if name, err := filepath.Rel(v.path, file); err == nil {
		return name
	}
	return file
}

// entry is what a line of either kind tells of itself.
type entry struct {
	id, subscription, lane string
	sequence               uint64
	file, sum              string
	size                   int64
}

func (e *entry) of() string {
	if e.lane == "" {
		return e.subscription
	}
	return e.subscription + ", lane " + e.lane
}

// read is a line of a kind of book.
func read(kind string, line []byte) (entry, error) {
	if kind == kindEvents {
		var r record
		err := json.Unmarshal(line, &r)
		if err == nil && r.Count != len(r.Recipients) {
			err = fmt.Errorf("%d recipients of %d", len(r.Recipients), r.Count)
		}
		return entry{r.ID, r.Subscription, r.Lane, r.Sequence, r.Sealed, r.SealedSHA256, r.SealedSize}, err
	}
	var m Manifest
	err := json.Unmarshal(line, &m)
	return entry{m.ID, m.Subscription, m.Lane, m.Sequence, m.File, m.FileSHA256, m.FileSize}, err
}

// book checks one, by its path in the folder.
func (v *verification) book(name string, noted []string) {
	kind, count := kindManifest, &v.Manifests
	if strings.HasPrefix(filepath.Base(name), kindEvents+".") {
		kind, count = kindEvents, &v.Events
	}
	count.Books++
	missing := map[string]bool{}
	for _, hash := range noted {
		missing[hash] = true
	}
	var before *entry
	last, err := daybook.Lines(filepath.Join(v.path, name), func(l daybook.Line) {
		count.Lines++
		delete(missing, l.Hash)
		at := place{name, l.Number}
		if l.Wrong != nil {
			v.wrong("%s: %v", at, l.Wrong)
		}
		e, err := read(kind, l.Text)
		if err != nil {
			if !errors.Is(l.Wrong, daybook.ErrTorn) {
				v.wrong("%s: is no line of such a book: %v", at, err)
			}
			return
		}
		if want := bookName(kind, e.subscription, e.lane); filepath.Base(name) != want {
			v.wrong("%s: %s belongs into a book %s", at, e.id, want)
		}
		twice := v.number(kind, &e, at)
		switch {
		case before != nil && e.sequence < before.sequence:
			v.wrong("%s: %s has number %d, and stands behind %d", at, e.id, e.sequence, before.sequence)
		case twice:
			v.wrong("%s: %s has number %d, which is there before", at, e.id, e.sequence)
		}
		before = &e
		if e.file != "" {
			count.Files++
			v.file(&e, at)
		}
	})
	v.Last[name] = last
	if err != nil {
		v.wrong("%v", err)
	}
	for _, hash := range slices.Sorted(maps.Keys(missing)) {
		v.wrong("%s: the line that was noted as %s is missing or changed", name, hash)
	}
}

// file checks what a line tells of.
func (v *verification) file(e *entry, at place) {
	if filepath.Base(e.file) != e.file {
		v.wrong("%s: %s: %q is no file's name", at, e.id, e.file)
		return
	}
	file := filepath.Join(v.path, filepath.Dir(at.book), e.file)
	v.told[file] = true
	f, err := os.Open(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		v.wrong("%s: is missing; %s tells of it", v.rel(file), at)
		return
	case err != nil:
		v.wrong("%v", err)
		return
	}
	defer f.Close()
	if e.sum == "" {
		v.Unhashed++
		return
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	switch {
	case err != nil:
		v.wrong("%v", err)
	case n != e.size:
		v.wrong("%s: is not what was written: %d octets of %d", v.rel(file), n, e.size)
	case fmt.Sprintf("%x", sum.Sum(nil)) != e.sum:
		v.wrong("%s: is not what was written: another hash", v.rel(file))
	}
}

// place is a line of a book.
type place struct {
	book string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.book, p.line) }

// numbers are those of a lane, in runs without a gap, ascending. A day's books
// don't hold a run: a copy stands in the book of the day of its message, in
// whatever order they come.
type numbers struct {
	name string
	runs []run
}

type run struct {
	from, to    uint64
	first, last place
}

// number notes one, and says whether it is there already.
func (v *verification) number(kind string, e *entry, at place) (twice bool) {
	lane := v.lanes[kind+" "+e.of()]
	if lane == nil {
		lane = &numbers{name: e.of()}
		v.lanes[kind+" "+e.of()] = lane
	}
	return lane.add(e.sequence, at)
}

func (l *numbers) add(n uint64, at place) (twice bool) {
	i, _ := slices.BinarySearchFunc(l.runs, n, func(r run, n uint64) int {
		if r.from <= n {
			return -1
		}
		return 1
	})
	switch {
	case i > 0 && n <= l.runs[i-1].to:
		return true
	case i > 0 && l.runs[i-1].to == n-1:
		l.runs[i-1].to, l.runs[i-1].last = n, at
		if i < len(l.runs) && l.runs[i].from == n+1 {
			l.runs[i-1].to, l.runs[i-1].last = l.runs[i].to, l.runs[i].last
			l.runs = slices.Delete(l.runs, i, i+1)
		}
	case i < len(l.runs) && l.runs[i].from == n+1:
		l.runs[i].from, l.runs[i].first = n, at
	default:
		l.runs = slices.Insert(l.runs, i, run{n, n, at, at})
	}
	return false
}

// missing tells the numbers that stand nowhere.
func (v *verification) missing() {
	for _, name := range slices.Sorted(maps.Keys(v.lanes)) {
		lane := v.lanes[name]
		if from := lane.runs[0].from; from > 1 {
			v.Begins = append(v.Begins, fmt.Sprintf("%s begins at %d", lane.name, from))
		}
		for i := range lane.runs[1:] {
			one, next := lane.runs[i], lane.runs[i+1]
			from, to := one.to+1, next.from-1
			what := fmt.Sprintf("number %d is missing", from)
			if from < to {
				what = fmt.Sprintf("numbers %d to %d are missing", from, to)
			}
			v.wrong("%s: %s, between %s and %s", lane.name, what, one.last, next.first)
		}
	}
}
