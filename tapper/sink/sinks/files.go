package sinks

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"qstream/tapper/sink/daybook"
)

// within reads until ctx ends.
func within(ctx context.Context, r io.Reader) io.Reader { return &bounded{ctx, r} }

type bounded struct {
	ctx context.Context
	r   io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// writeWhole makes a file appear with its new text, whole or not at all, and
// on the disk.
func writeWhole(path string, text []byte) error {
	return placeWhole(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// placeWhole is writeWhole for what is streamed.
func placeWhole(path string, fill func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return daybook.SyncFolder(filepath.Dir(path))
}

// makeFolder makes a folder and what is missing above it, durably.
func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return daybook.SyncFolder(filepath.Dir(path))
}
