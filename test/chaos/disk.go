package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of the file system under the embedded broker.
const diskBytes = 1 << 30

// disk is a small file system of its own, made in a file. A nil disk is none.
type disk struct{ dir string }

// mountable reports whether this process may mount: root, and loop devices.
func mountable() bool {
	dir, err := os.MkdirTemp("", "qstream-chaos-probe-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	d, err := mount(filepath.Join(dir, "data"))
	return err == nil && d.unmount() == nil
}

// mount makes a file system in a file beside dir and mounts it there.
func mount(dir string) (*disk, error) {
	image := dir + ".img"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(diskBytes); err != nil {
		return nil, err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", command, err, out)
		}
	}
	return &disk{dir}, nil
}

// unmount leaves the file system in its file, where it can be mounted again.
func (d *disk) unmount() error {
	if d == nil {
		return nil
	}
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %w: %s", d.dir, err, out)
	}
	return nil
}

// fill takes all that is free, to the last block, and returns how to give it
// back.
func (d *disk) fill() (func() error, error) {
	path := filepath.Join(d.dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var end int64
	for size := int64(64 << 20); size >= 4096; size /= 2 {
		for unix.Fallocate(int(f.Fd()), 0, end, size) == nil {
			end += size
		}
	}
	return func() error { return os.Remove(path) }, nil
}
