package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"qstream/engine"
)

// walk is one scan: what has been used of the limits, and what was found.
type walk struct {
	ctx   context.Context
	cfg   *Config
	begun time.Time
	slept time.Duration // spent in reading content, which isn't work

	each func(*spool) error // what becomes of a decoded part; nil: it is looked into

	parts, deepest int
	total, largest int64

	closed, locked limit // the first that could not be looked into; that was encrypted
}

// limit ends a walk: nothing behind it was looked at.
type limit struct {
	reason engine.Reason
	what   string
}

// Error is the limit for people.
func (l *limit) Error() string { return fmt.Sprintf("%v: %s", l.reason, l.what) }

// tick is called often: it ends the walk in time.
func (w *walk) tick() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if spent := time.Since(w.begun) - w.slept; spent > w.cfg.Time {
		return &limit{engine.TooLong, fmt.Sprintf("%v of work", spent.Round(time.Millisecond))}
	}
	return nil
}

// part counts a MIME part or a member at a depth.
func (w *walk) part(depth int) error {
	w.parts++
	if w.parts > w.cfg.Parts {
		return &limit{engine.TooMany, fmt.Sprintf("more than %d parts", w.cfg.Parts)}
	}
	if depth > w.cfg.Depth {
		return &limit{engine.TooDeep, fmt.Sprintf("deeper than %d", w.cfg.Depth)}
	}
	w.deepest = max(w.deepest, depth)
	return w.tick()
}

// grow counts n more bytes of something that has size bytes with them.
func (w *walk) grow(n int, size int64) error {
	w.total += int64(n)
	w.largest = max(w.largest, size)
	if size > w.cfg.Member {
		return &limit{engine.TooLarge, fmt.Sprintf("something is larger than %d bytes", w.cfg.Member)}
	}
	if w.total > w.cfg.Total {
		return &limit{engine.TooLarge, fmt.Sprintf("more than %d bytes in all", w.cfg.Total)}
	}
	return w.tick()
}

// close notes what can't be looked into; the walk goes on, because a limit
// behind it says more.
func (w *walk) close(r engine.Reason, format string, args ...any) {
	if w.closed.reason == engine.NoReason {
		w.closed = limit{r, fmt.Sprintf(format, args...)}
	}
}

func (w *walk) lock(r engine.Reason, format string, args ...any) {
	if w.locked.reason == engine.NoReason {
		w.locked = limit{r, fmt.Sprintf(format, args...)}
	}
}

// clocked reads content, counts it and takes the time.
type clocked struct {
	w    *walk
	from *engine.Content
}

func (c *clocked) Read(p []byte) (int, error) {
	begun := time.Now()
	n, err := c.from.Read(p)
	c.w.slept += time.Since(begun)
	if c.from.Err() != nil {
		return n, engine.Fail(engine.Unreadable, "read content: %w", c.from.Err())
	}
	if grown := c.w.grow(n, c.from.Bytes()); grown != nil {
		return n, grown
	}
	return n, err
}

// spool holds a part until it can be looked at: in memory, and in a file
// without a name when it is larger.
type spool struct {
	w    *walk
	held []byte
	file *os.File
	size int64
}

// Write takes more of the part, within the limits.
func (s *spool) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	if err := s.w.grow(len(p), s.size); err != nil {
		return 0, err
	}
	if s.file == nil && len(s.held)+len(p) <= s.w.cfg.Memory {
		s.held = append(s.held, p...)
		return len(p), nil
	}
	if err := s.spill(); err != nil {
		return 0, err
	}
	if _, err := s.file.Write(p); err != nil {
		return 0, engine.Fail(engine.Trouble, "write a part to a file: %w", err)
	}
	return len(p), nil
}

func (s *spool) spill() error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(s.w.cfg.Dir, "qstream-part-")
	if err != nil {
		return engine.Fail(engine.Trouble, "make a file for a part: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return engine.Fail(engine.Trouble, "hide a part's file: %w", err)
	}
	_, err = f.Write(s.held)
	s.held = nil
	if err != nil {
		return engine.Fail(engine.Trouble, "write a part to a file: %w", err)
	}
	return nil
}

// errOffset is an archive that points before its own beginning.
var errOffset = errors.New("negative offset")

// ReadAt reads what was written.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errOffset
	}
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	if off >= int64(len(s.held)) {
		return 0, io.EOF
	}
	n := copy(p, s.held[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) reader() *io.SectionReader { return io.NewSectionReader(s, 0, s.size) }

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	s.held = nil
}
