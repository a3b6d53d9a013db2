package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"qstream/transport"
)

// errContent is content that can't be read: our side's trouble.
var errContent = errors.New("content could not be read")

// fill writes prepend and content into all files at once and syncs them.
func (d *delivery) fill(ctx context.Context) error {
	content, err := d.a.Content(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errContent, err)
	}
	defer content.Close()
	all := make([]io.Writer, len(d.files))
	for i, f := range d.files {
		all[i] = f.f
	}
	w := &lines{w: io.MultiWriter(all...)}
	if _, err := w.Write(d.a.Prepend); err != nil {
		return err
	}
	if err := d.copy(ctx, w, content); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	for _, f := range d.files {
		if err := f.f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// copy looks at each block whether the attempt still may go on.
func (d *delivery) copy(ctx context.Context, w io.Writer, content io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		if err := d.cut(ctx); err != nil {
			return err
		}
		n, err := content.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errContent, err)
		}
	}
}

func (d *delivery) cut(ctx context.Context) error {
	if d.a.Revoked != nil && d.a.Revoked.Err() != nil {
		return errCut
	}
	return ctx.Err()
}

// place gives the files their names in new: the point of no return. A name
// that is there already was delivered by another attempt meanwhile.
func (d *delivery) place(ctx context.Context, out []transport.Outcome) error {
	if !d.a.AtDot() {
		return errCut
	}
	if err := d.cut(ctx); err != nil {
		return err
	}
	var failed error
	var placed []int
	for _, f := range d.files {
		err := os.Link(f.tmp, filepath.Join(d.folder, "new", f.name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			failed = err
			break
		}
		placed = append(placed, f.index)
	}
	if d.a.AfterDot != nil {
		d.a.AfterDot()
	}
	if err := syncFolder(filepath.Join(d.folder, "new")); err != nil {
		// The names are there and may not last: the next attempt finds them,
		// or makes them again.
		return err
	}
	for _, i := range placed {
		out[i] = delivered
	}
	return failed
}

// makeFolder makes what is missing of a Maildir, durably.
func makeFolder(folder string) error {
	missing := false
	for _, sub := range []string{"tmp", "new", "cur"} {
		if _, err := os.Stat(filepath.Join(folder, sub)); err != nil {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o700); err != nil {
			return err
		}
	}
	if err := syncFolder(folder); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(folder))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lines turns CRLF into LF; a CR without LF stays.
type lines struct {
	w  io.Writer
	cr bool
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	if n == 0 {
		return 0, nil
	}
	if l.cr && p[0] != '\n' {
		if _, err := l.w.Write([]byte{'\r'}); err != nil {
			return 0, err
		}
	}
	l.cr = p[n-1] == '\r'
	if l.cr {
		p = p[:n-1]
	}
	if _, err := l.w.Write(bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n"))); err != nil {
		return 0, err
	}
	return n, nil
}

func (l *lines) end() error {
	if !l.cr {
		return nil
	}
	_, err := l.w.Write([]byte{'\r'})
	return err
}
