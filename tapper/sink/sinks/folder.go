package sinks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"qstream/tapper/sink"
	"qstream/tapper/sink/daybook"
)

// folder is what the sinks file and etsi have in common: a folder for each day
// of acceptance, a file for each content, and beside them a book for each
// subscription and lane.
type folder struct {
	path  string
	kind  string // first word of the books' names
	books *daybook.Books
}

func newFolder(path, kind string) folder { return folder{path, kind, daybook.New(path)} }

// Manifest is a line of a file sink's book: the copy's Info, and its file.
type Manifest struct {
	sink.Info
	File       string `json:"file,omitempty"` // in the book's folder; empty: no content
	FileSize   int64  `json:"file_size,omitempty"`
	FileSHA256 string `json:"file_sha256,omitempty"`
}

// book is the name of a copy's book.
func (f folder) book(c *sink.Copy) string {
	name := f.kind + "." + c.Subscription
	if c.Lane != "" {
		name += "." + c.Lane
	}
	return name + ".jsonl"
}

// put places the content if keep says so, then adds the line.
func (f folder) put(ctx context.Context, c *sink.Copy, keep bool, line func(m Manifest) any) error {
	if err := c.Check(); err != nil {
		return err
	}
	day := daybook.Day(c.Accepted)
	if err := makeFolder(filepath.Join(f.path, day)); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if has, err := f.books.Has(day, f.book(c), c.ID); err != nil || has {
		return err
	}
	m := Manifest{Info: c.Info()}
	if keep {
		var err error
		if m.File, m.FileSize, m.FileSHA256, err = f.place(ctx, day, c); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	object, err := json.Marshal(line(m))
	if err != nil {
		return err
	}
	if err := f.books.Append(day, f.book(c), c.ID, object); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// place writes the content's file, whole or not at all.
func (f folder) place(ctx context.Context, day string, c *sink.Copy) (name string, size int64, sum string, err error) {
	name = c.ID + ".eml"
	if c.Sealed {
		name = c.ID + ".age"
	}
	content, err := c.Open(ctx)
	if err != nil {
		return "", 0, "", err
	}
	defer content.Close()
	hash := sha256.New()
	err = placeWhole(filepath.Join(f.path, day, name), func(w io.Writer) error {
		size, err = io.Copy(io.MultiWriter(w, hash), within(ctx, content))
		if err == nil && size != c.Size {
			err = sink.ErrSize
		}
		return err
	})
	return name, size, fmt.Sprintf("%x", hash.Sum(nil)), err
}

// fileSink keeps a file for each message, and a manifest.
type fileSink struct{ folder }

func newFile(spec sink.Spec) *fileSink { return &fileSink{newFolder(spec.Path, "manifest")} }

func (s *fileSink) Put(ctx context.Context, c sink.Copy) error {
	return s.put(ctx, &c, c.Open != nil, func(m Manifest) any { return m })
}

func (s *fileSink) Close() error { return s.books.Close() }

// Checked is what Verify found of a folder.
type Checked struct {
	Books, Lines, Files int
	Last                map[string]string // hash of the last line of each book, by its path in the folder
}

// Names are the books in their order.
func (c Checked) Names() []string { return slices.Sorted(maps.Keys(c.Last)) }

// Verify checks the folder of a file sink: each book's chain, sequences without
// a gap, each file's size and hash, and that there is no file without a line.
// The error says what is wrong first.
func Verify(path string) (Checked, error) {
	v := &verification{path: path, told: map[string]bool{}, next: map[string]uint64{}, Checked: Checked{Last: map[string]string{}}}
	books, err := filepath.Glob(filepath.Join(path, "*", "manifest.*.jsonl"))
	if err != nil {
		return v.Checked, err
	}
	if len(books) == 0 {
		return v.Checked, fmt.Errorf("%s: no manifest: it is no folder of a file sink", path)
	}
	for _, book := range books { // by day: sequences go on from one to the next
		last, err := daybook.Lines(book, func(line []byte) error { return v.line(filepath.Dir(book), line) })
		if err != nil {
			return v.Checked, err
		}
		name, _ := filepath.Rel(path, book)
		v.Books, v.Last[name] = v.Books+1, last
	}
	files, err := filepath.Glob(filepath.Join(path, "*", "*.*"))
	if err != nil {
		return v.Checked, err
	}
	for _, file := range files {
		if ext := filepath.Ext(file); (ext == ".eml" || ext == ".age") && !v.told[file] {
			return v.Checked, fmt.Errorf("%s: no line tells of it", file)
		}
	}
	return v.Checked, nil
}

type verification struct {
	Checked
	path string
	told map[string]bool
	next map[string]uint64 // sequence that follows, by subscription and lane
}

func (v *verification) line(folder string, line []byte) error {
	var m Manifest
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	v.Lines++
	lane := m.Subscription + " " + m.Lane
	if want, known := v.next[lane]; known && m.Sequence != want {
		return fmt.Errorf("%s: sequence %d, wanted %d", m.ID, m.Sequence, want)
	}
	v.next[lane] = m.Sequence + 1
	if m.File == "" {
		return nil
	}
	if filepath.Base(m.File) != m.File {
		return fmt.Errorf("%s: %q is no file's name", m.ID, m.File)
	}
	v.Files++
	file := filepath.Join(folder, m.File)
	v.told[file] = true
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if n != m.FileSize || fmt.Sprintf("%x", sum.Sum(nil)) != m.FileSHA256 {
		return fmt.Errorf("%s: is not what was written", file)
	}
	return nil
}
