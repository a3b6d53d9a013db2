package sinks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"qstream/tapper/sink"
	"qstream/tapper/sink/daybook"
)

// Kinds of books.
const (
	kindManifest = "manifest"
	kindEvents   = "events"
)

// folder is what the sinks file and etsi have in common: a folder for each day
// of acceptance, a file for each content, and beside them a book for each
// subscription and lane.
type folder struct {
	path  string
	kind  string // first word of the books' names: kindManifest or kindEvents
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
func (f folder) book(c *sink.Copy) string { return bookName(f.kind, c.Subscription, c.Lane) }

func bookName(kind, subscription, lane string) string {
	name := kind + "." + subscription
	if lane != "" {
		name += "." + lane
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

func newFile(spec sink.Spec) *fileSink { return &fileSink{newFolder(spec.Path, kindManifest)} }

func (s *fileSink) Put(ctx context.Context, c sink.Copy) error {
	return s.put(ctx, &c, c.Open != nil, func(m Manifest) any { return m })
}

func (s *fileSink) Close() error { return s.books.Close() }
