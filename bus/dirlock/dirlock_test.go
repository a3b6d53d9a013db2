package dirlock

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLock: one has it until it is let go, though a program that was being started
// at that moment still has the file open.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := unix.Dup(int(l.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	if _, err := Take(path); !errors.Is(err, ErrTaken) {
		t.Errorf("error %v while it is held, want ErrTaken", err)
	}
	if err := l.LetGo(); err != nil {
		t.Fatal(err)
	}
	again, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.LetGo(); err != nil {
		t.Error(err)
	}
	if _, err := Take(filepath.Join(path, "lock")); err == nil || errors.Is(err, ErrTaken) {
		t.Errorf("error %v where there is no folder", err)
	}
}
