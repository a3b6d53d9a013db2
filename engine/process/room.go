package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	roomPrefix = "qstream-engine-"
	lockName   = "lock"
	// unlocked is the age at which a room that has no lock yet is given up.
	unlocked = time.Hour
)

// Room is a private folder in which each scan has one of its own. It is locked
// while its process lives, and made at the first scan, which also removes the
// rooms of processes that don't. Safe for concurrent use.
type Room struct {
	in string

	mu   sync.Mutex
	path string // empty: not made
	lock *os.File
}

// NewRoom is a room in a folder; empty: the system's temporary one. It makes
// nothing.
func NewRoom(in string) *Room { return &Room{in: in} }

// Folder makes a folder for one scan; leave removes it.
func (r *Room) Folder() (path string, leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 2 {
		if err = r.open(); err != nil {
			break
		}
		path, err = os.MkdirTemp(r.path, "scan-")
		if err == nil {
			return path, func() { _ = os.RemoveAll(path) }, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		_ = r.close() // somebody tidies temporary folders
	}
	return "", nil, fmt.Errorf("make a folder for a scan: %w", err)
}

// Close removes the room. A later scan makes another.
func (r *Room) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close()
}

func (r *Room) close() error {
	if r.path == "" {
		return nil
	}
	err := os.RemoveAll(r.path)
	_ = r.lock.Close()
	r.path, r.lock = "", nil
	return err
}

func (r *Room) open() error {
	if r.path != "" {
		return nil
	}
	in := r.in
	if in == "" {
		in = os.TempDir()
	}
	sweep(in)
	path, err := os.MkdirTemp(in, roomPrefix)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil && !claim(lock) {
		_ = lock.Close()
		err = errors.New("its lock is another's")
	}
	if err != nil {
		_ = os.RemoveAll(path)
		return err
	}
	r.path, r.lock = path, lock
	return nil
}

// claim locks a file that still has its name: who sweeps may have been faster.
func claim(f *os.File) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(open, named)
}

// sweep removes the rooms that nobody has locked. What can't be removed is
// another user's.
func sweep(in string) {
	rooms, err := filepath.Glob(filepath.Join(in, roomPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range rooms {
		if abandoned(path) {
			_ = os.RemoveAll(path)
		}
	}
}

func abandoned(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		st, err := os.Lstat(path)
		return err == nil && time.Since(st.ModTime()) > unlocked
	}
	if err != nil {
		return false
	}
	defer f.Close()
	return claim(f)
}
