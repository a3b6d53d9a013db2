package embedded

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"qstream/bus"
	"qstream/schemas"
)

// TestSpentSegments: a segment is given back once, when it is full and all of
// it was read.
func TestSpentSegments(t *testing.T) {
	dir := t.TempDir()
	touch := func(bases ...int64) {
		for _, b := range bases {
			for _, ending := range []string{segmentEnding, ".idx"} {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(b)+ending), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var gone []string
	s := newSpent(func(f string) error { gone = append(gone, filepath.Base(f)); return nil }, func(err error) { t.Error(err) })
	read := func(from, to int64) {
		var offsets []int64
		for o := from; o < to; o++ {
			offsets = append(offsets, o)
		}
		s.note(dir, offsets)
	}
	want := func(files ...string) {
		t.Helper()
		if !slices.Equal(gone, files) {
			t.Fatalf("given back: %v, want %v", gone, files)
		}
		gone = nil
	}
	touch(0)
	read(0, 40)
	want() // not full
	touch(40)
	read(40, 41)
	want() // looked at a moment ago
	read(41, 60)
	want("0.dat")
	touch(80, 120)
	read(61, 120)
	want("80.dat") // 60 waits
	read(61, 80)
	want()
	read(60, 61)
	read(120, 140)
	want("40.dat")
	if p := s.parts[dir]; len(p.read) != 20 {
		t.Errorf("%d offsets are kept, want 20", len(p.read))
	}
	// Housekeeping trims: nobody will ask for what was before.
	for _, b := range []string{"0", "40", "80"} {
		os.Remove(filepath.Join(dir, b+segmentEnding))
	}
	read(3, 20)
	want()
	if p := s.parts[dir]; len(p.read) != 20 {
		t.Errorf("%d offsets are kept, want 20", len(p.read))
	}
}

func TestSpentTellsFailures(t *testing.T) {
	broken := errors.New("no such call")
	var told error
	s := newSpent(func(string) error { return broken }, func(err error) { told = err })
	s.note(filepath.Join(t.TempDir(), "gone"), make([]int64, lookEvery))
	if !errors.Is(told, os.ErrNotExist) {
		t.Errorf("told %v", told)
	}
}

// TestSpentContent: what is read to its end is given back and can be read
// again, from the disk.
func TestSpentContent(t *testing.T) {
	t.Parallel()
	k, err := Start(Config{Dir: t.TempDir(), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var gone []string
	release := k.spent.release
	k.spent.release = func(f string) error { gone = append(gone, f); return release(f) }
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Dial: k.Dial, Barrier: k.Barrier, Lost: k.Lost, Spent: k.Spent})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 18<<20)
	_, _ = rand.Read(data)
	w := b.Create(t.Context(), "M", "")
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	c, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := b.Open(t.Context(), c.GetRef())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if len(gone) == 0 || filepath.Base(gone[0]) != segmentName(0) {
			t.Fatalf("given back: %v", gone)
		}
	}
}
