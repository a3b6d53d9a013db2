//go:build unix

package daybook

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits for the file to be ours.
func lock(f *os.File) (unlock func(), err error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	return func() { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }, nil
}
