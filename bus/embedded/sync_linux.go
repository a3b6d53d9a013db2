package embedded

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncer flushes the file system that a directory is on. The open file is
// kept: a collected one is closed, and its number soon means another file.
type syncer struct{ dir *os.File }

func openSyncer(dir string) (*syncer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	return &syncer{f}, nil
}

func (s *syncer) sync() error {
	for {
		// The error of a write-back that failed since the last call is told
		// here, once for each open file (Linux 5.8).
		err := unix.Syncfs(int(s.dir.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

func (s *syncer) close() { s.dir.Close() }

// releasePages lets the system forget what it keeps of a file in memory. What
// isn't on the disk yet stays.
func releasePages(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("release pages: %w", err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("release pages of %s: %w", file, err)
	}
	return nil
}
