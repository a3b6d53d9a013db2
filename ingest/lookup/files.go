package lookup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"reflect"
	"sync"
	"time"

	"qstream/qmail"
)

// lookAgain is how long a file is taken for unchanged.
const lookAgain = time.Second

// forgetAfter is how long a file is remembered that nobody asks for.
const forgetAfter = 10 * time.Minute

// files are those that policies name, as they were read last.
type files struct {
	log *slog.Logger
	now func() time.Time

	mu  sync.Mutex
	all map[fileKey]*file
}

// fileKey is a file and what is made of it.
type fileKey struct {
	path string
	kind reflect.Type
}

type file struct {
	mu      sync.Mutex
	checked time.Time
	stat    os.FileInfo // of what was read; nil: nothing
	value   any
	err     error

	used time.Time // under files.mu
}

func newFiles(log *slog.Logger, now func() time.Time) *files {
	return &files{log: log, now: now, all: map[fileKey]*file{}}
}

// get is what make made of the file, anew if it has changed.
func get[T any](f *files, name string, read func(*os.File, os.FileInfo) (T, error)) (T, error) {
	e := f.entry(fileKey{name, reflect.TypeFor[T]()})
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := f.now(); e.checked.IsZero() || now.Sub(e.checked) >= lookAgain || now.Before(e.checked) {
		e.checked = now
		refresh(f, e, name, read)
	}
	value, ok := e.value.(T)
	if !ok {
		return value, e.err
	}
	return value, nil
}

// refresh reads the file if it is another than before. What was read last
// stays if the file can't be read: the operator is told, mail goes on.
func refresh[T any](f *files, e *file, name string, read func(*os.File, os.FileInfo) (T, error)) {
	stat, err := os.Stat(name)
	if err == nil && e.stat != nil && os.SameFile(stat, e.stat) && stat.Size() == e.stat.Size() && stat.ModTime().Equal(e.stat.ModTime()) {
		return
	}
	var value T
	if err == nil {
		value, stat, err = open(name, read)
	}
	if err != nil {
		if e.err == nil || e.err.Error() != err.Error() {
			f.log.Warn("file of a policy", "stage", "ingest", "path", name, "err", err)
		}
		e.err = err
		return
	}
	e.value, e.stat, e.err = value, stat, nil
}

func open[T any](name string, read func(*os.File, os.FileInfo) (T, error)) (value T, stat os.FileInfo, err error) {
	o, err := os.Open(name)
	if err != nil {
		return value, nil, err
	}
	stat, err = o.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		value, err = read(o, stat)
	}
	if err != nil {
		_ = o.Close()
		return value, nil, fmt.Errorf("%s: %w", name, err)
	}
	return value, stat, nil
}

func (f *files) entry(k fileKey) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	e := f.all[k]
	if e == nil {
		for k, old := range f.all {
			if now.Sub(old.used) > forgetAfter {
				delete(f.all, k)
			}
		}
		e = &file{}
		f.all[k] = e
	}
	e.used = now
	return e
}

// readText is a file of lines.
func readText[T any](f *files, name string, parse func(string) (*T, error)) (*T, error) {
	return get(f, name, func(o *os.File, stat os.FileInfo) (*T, error) {
		defer o.Close()
		if stat.Size() > qmail.MaxText {
			return nil, fmt.Errorf("longer than %d MiB", qmail.MaxText>>20)
		}
		text, err := io.ReadAll(io.LimitReader(o, qmail.MaxText+1))
		if err != nil {
			return nil, err
		}
		return parse(string(text))
	})
}

// openCDB keeps the file open until nobody uses it any more: the runtime
// closes it then.
func openCDB(f *files, name string) (*qmail.CDB, error) {
	return get(f, name, func(o *os.File, stat os.FileInfo) (*qmail.CDB, error) {
		return qmail.NewCDB(o, stat.Size())
	})
}

// from is a path as qmail reads it: relative ones begin at home.
func from(home, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(home, name)
}
