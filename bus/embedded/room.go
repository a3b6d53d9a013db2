package embedded

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"qstream/bus"
)

// Admit is bus.Config.Admit: it refuses new mail with bus.ErrFull while the
// data is larger than the cap, or the disk nearly full. Mail that is there
// goes on: what it needs is small, and it makes room.
func (b *Broker) Admit() error { return b.room.admit() }

// Size is how many bytes the data takes.
func (b *Broker) Size() (int64, error) { return size(b.room.dir) }

// How old may be what is known: at 100 MB/s the size is out by 50 MB, the
// disk's free space by 5.
const (
	measureEvery = 500 * time.Millisecond
	askEvery     = 50 * time.Millisecond
)

// room knows how much there is.
type room struct {
	dir          string
	limit, spare int64

	mu    sync.Mutex
	at    time.Time
	full  error
	asked time.Time
	scant error
}

func newRoom(dir string, limit, spare int64) *room {
	return &room{dir: dir, limit: limit, spare: spare}
}

func (r *room) admit() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.at) >= measureEvery {
		r.at, r.full = now, r.measure()
	}
	if r.full != nil {
		return r.full
	}
	if now.Sub(r.asked) >= askEvery {
		r.asked, r.scant = now, r.ask()
	}
	return r.scant
}

// ask looks at the disk alone, since a small one fills fast.
func (r *room) ask() error {
	free, err := freeBytes(r.dir)
	if err != nil {
		return err
	}
	if free < r.spare {
		return fmt.Errorf("%w: the disk has %d bytes left, new mail needs %d", bus.ErrFull, free, r.spare)
	}
	return nil
}

func (r *room) measure() error {
	n, err := size(r.dir)
	if err != nil {
		return err
	}
	if n > r.limit {
		return fmt.Errorf("%w: %d bytes of at most %d", bus.ErrFull, n, r.limit)
	}
	return nil
}

func size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // removed meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure data directory: %w", err)
	}
	return n, nil
}
