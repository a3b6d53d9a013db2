//go:build !linux

package embedded

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// syncer flushes files that changed since its last flush, and the directories
// they are in.
type syncer struct {
	dir     string
	flushed time.Time
}

func openSyncer(dir string) (*syncer, error) { return &syncer{dir: dir}, nil }

func (s *syncer) sync() error {
	began := time.Now()
	// Times of files are coarse: what changed a little before the last flush
	// is flushed again.
	since := s.flushed.Add(-2 * time.Second)
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.ModTime().Before(since) {
			return nil
		}
		return flushFile(path)
	})
	if err == nil {
		s.flushed = began
	}
	return err
}

func flushFile(path string) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (s *syncer) close() {}

// releasePages leaves it to the system.
func releasePages(string) error { return nil }
