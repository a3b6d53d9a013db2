//go:build unix

// Package dirlock lets one process at a time have a directory, by a lock on a
// file within, which ends with the process however it ends.
package dirlock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrTaken is a lock that another process has, or this one already.
var ErrTaken = errors.New("taken by another process")

// Lock is held until LetGo.
type Lock struct{ file *os.File }

// Take locks the file, which is made if it is missing. It doesn't wait: the error is
// ErrTaken where somebody else has it.
func Take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrTaken
		}
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// File is the one that is locked, for a note of who has it.
func (l *Lock) File() *os.File { return l.file }

// LetGo gives the lock up. To close the file alone isn't enough: a program that is
// being started at this moment still has it open, and the lock with it.
func (l *Lock) LetGo() error {
	return errors.Join(unix.Flock(int(l.file.Fd()), unix.LOCK_UN), l.file.Close())
}
