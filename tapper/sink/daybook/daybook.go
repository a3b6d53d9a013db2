// Package daybook keeps JSON lines in a file for each day, each line bound to
// the one before it by that one's hash.
//
// Guarantee: Append returns nil when the line is on the disk, in the file of the
// book's name, also where another was there before, and repeats no
// line whose id is among the last 10,000 of its book.
// Guarantee: what a crash left of a line is cut off before the next one.
// Guarantee: a line that is changed, taken out or put in shows to Lines,
// unless all behind it are changed, too. Who wants more signs, or notes
// elsewhere, the hash of the last line.
//
// Books are for one process at a time; a second one that writes to the same
// book, as a frozen one does that wakes up, is waited for and read.
package daybook

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// remembered is how many ids of a book are known.
const remembered = 10_000

// maxOpen bounds the books that are open: one for each lane, of two days around
// midnight.
const maxOpen = 64

// Books are the books of a folder. Append is safe for concurrent use.
type Books struct {
	folder string
	mu     sync.Mutex
	open   map[string]*book
}

// New opens nothing.
func New(folder string) *Books { return &Books{folder: folder, open: map[string]*book{}} }

// Day is the folder of a day's books.
func Day(at time.Time) string { return at.UTC().Format("2006-01-02") }

// Append adds a JSON object, which has a key "id", to the book of a name and
// day. The folder of the day is there already.
func (b *Books) Append(day, name, id string, object []byte) error {
	k, err := b.book(day, name)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.append(id, object)
}

// Has reports whether an id is among those known of a book.
func (b *Books) Has(day, name, id string) (bool, error) {
	k, err := b.book(day, name)
	if err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	unlock, err := k.locked()
	if err != nil {
		return false, err
	}
	defer unlock()
	return k.known[id], nil
}

func (b *Books) book(day, name string) (*book, error) {
	path := filepath.Join(b.folder, day, name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.open[path]; k != nil {
		return k, nil
	}
	if len(b.open) >= maxOpen {
		for path, k := range b.open {
			k.close()
			delete(b.open, path)
		}
	}
	k := &book{path: path, known: map[string]bool{}}
	b.open[path] = k
	return k, nil
}

// Close closes the books. No Append may run.
func (b *Books) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, k := range b.open {
		k.close()
		delete(b.open, path)
	}
	return nil
}

// book is one file.
type book struct {
	path string

	mu    sync.Mutex
	f     *os.File
	size  int64  // up to which the file was read
	last  string // hash of the last line; empty: there is none
	known map[string]bool
	order []string // of known, the oldest at next
	next  int
}

func (k *book) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f != nil {
		_ = k.f.Close()
		k.f = nil
	}
}

var errMoved = errors.New("the book isn't where it was opened any more")

// locked opens the file, waits for it to be ours, and reads what isn't known.
func (k *book) locked() (unlock func(), err error) {
	if unlock, err = k.lockedOnce(); errors.Is(err, errMoved) {
		unlock, err = k.lockedOnce()
	}
	return unlock, err
}

// moved reports whether the file that is open isn't that of the book's name.
func (k *book) moved() bool {
	opened, err := k.f.Stat()
	if err != nil {
		return true
	}
	named, err := os.Stat(k.path)
	return err != nil || !os.SameFile(opened, named)
}

func (k *book) lockedOnce() (unlock func(), err error) {
	if k.f == nil {
		f, err := os.OpenFile(k.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := SyncFolder(filepath.Dir(k.path)); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		k.f, k.size, k.last = f, 0, ""
	}
	if unlock, err = lock(k.f); err != nil {
		return nil, fmt.Errorf("lock %s: %w", k.path, err)
	}
	if k.moved() {
		// Somebody took the file away: what is written to it isn't in the book.
		// The next one begins anew, without what that one had.
		unlock()
		err := k.forget()
		k.known, k.order, k.next = map[string]bool{}, nil, 0
		return nil, errors.Join(errMoved, err)
	}
	if err := k.current(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// current reads the file unless it is known.
func (k *book) current() error {
	i, err := k.f.Stat()
	if err != nil {
		return err
	}
	if i.Size() == k.size {
		return nil
	}
	if i.Size() < k.size {
		k.size, k.last = 0, ""
	}
	return k.read()
}

// read reads on from size. A last line without its end is cut off.
func (k *book) read() error {
	if _, err := k.f.Seek(k.size, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(k.f, 256<<10)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			if len(line) > 0 {
				return k.f.Truncate(k.size)
			}
			return nil
		}
		if err != nil {
			return err
		}
		k.size += int64(len(line))
		k.take(line)
	}
}

func (k *book) take(line []byte) {
	k.last = hash(line)
	var entry struct{ ID string }
	if json.Unmarshal(line, &entry) == nil {
		k.remember(entry.ID)
	}
}

func (k *book) remember(id string) {
	if k.known[id] {
		return
	}
	k.known[id] = true
	if len(k.order) < remembered {
		k.order = append(k.order, id)
		return
	}
	delete(k.known, k.order[k.next])
	k.order[k.next] = id
	k.next = (k.next + 1) % remembered
}

func (k *book) append(id string, object []byte) error {
	if len(object) < 3 || object[len(object)-1] != '}' || bytes.IndexByte(object, '\n') >= 0 {
		return errors.New("a line of a book is a JSON object")
	}
	unlock, err := k.locked()
	if err != nil {
		return err
	}
	defer unlock()
	if k.known[id] {
		return nil
	}
	line := append(object[:len(object)-1:len(object)-1], `,"previous":"`+k.last+"\"}\n"...)
	if _, err := k.f.WriteAt(line, k.size); err != nil {
		return errors.Join(err, k.f.Truncate(k.size))
	}
	if err := k.f.Sync(); err != nil {
		// What the disk has is not known: it is read again.
		return errors.Join(err, k.forget())
	}
	k.size += int64(len(line))
	k.last = hash(line)
	k.remember(id)
	return nil
}

// forget closes the file, so that it is read again.
func (k *book) forget() error {
	err := k.f.Close()
	k.f = nil
	return err
}

func hash(line []byte) string {
	sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
	return hex.EncodeToString(sum[:])
}

// SyncFolder makes the entries of a folder durable.
func SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Line is a line of a book, as it is read again.
type Line struct {
	Number int    // from 1
	Text   []byte // valid until the next line is read
	Hash   string // that the next line must name
	// Wrong says why the line is not as it was written; nil: it has its end, and
	// names the hash of the line before it.
	Wrong error
}

// What is wrong with a line.
var (
	ErrTorn   = errors.New("the line has no end")
	ErrBroken = errors.New("the line doesn't follow the one before it")
)

// Lines calls each with the lines of a book, to its end, whatever is wrong with
// them. The last hash is returned, for who notes it elsewhere. Its error is that
// of reading the file.
func Lines(path string, each func(Line)) (last string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return last, fmt.Errorf("read %s: %w", path, err)
		}
		if err == io.EOF && len(text) == 0 {
			return last, nil
		}
		line := Line{Number: n, Text: text, Hash: hash(text)}
		switch {
		case err == io.EOF:
			line.Wrong = ErrTorn
		case !strings.HasSuffix(string(text), `,"previous":"`+last+"\"}\n"):
			line.Wrong = ErrBroken
		}
		each(line)
		last = line.Hash
	}
}
