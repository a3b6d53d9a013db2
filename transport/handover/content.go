package handover

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// inMemory is how much of a message is held; the rest waits on the disk.
const inMemory = 1 << 20

// Content is a message that was read to its end: its length goes first.
type Content struct {
	size int64
	head []byte
	file *os.File // beyond head; nil: nothing is. It has no name any more
}

// Read reads a message to its end. The error is a *Failure.
func Read(r io.Reader) (*Content, error) {
	head, err := io.ReadAll(io.LimitReader(r, inMemory))
	if err != nil {
		return nil, failf(CodeRead, "read the message: %v", err)
	}
	c := &Content{head: head, size: int64(len(head))}
	if len(head) < inMemory {
		return c, nil
	}
	if c.file, err = os.CreateTemp("", "qstream-message-"); err != nil {
		return nil, failf(CodeWrite, "keep a large message: %v", err)
	}
	if err := os.Remove(c.file.Name()); err != nil {
		c.Close()
		return nil, failf(CodeWrite, "keep a large message: %v", err)
	}
	from := &reading{r: r}
	n, err := io.Copy(c.file, from)
	c.size += n
	switch {
	case from.err != nil:
		err = failf(CodeRead, "read the message: %v", from.err)
	case err != nil:
		err = failf(CodeWrite, "keep a large message: %v", err)
	default:
		return c, nil
	}
	c.Close()
	return nil, err
}

// Close gives the disk back.
func (c *Content) Close() {
	if c.file != nil {
		_ = c.file.Close()
	}
}

// open starts at the message's first octet; only one reading at a time.
func (c *Content) open() (io.Reader, error) {
	if c.file == nil {
		return bytes.NewReader(c.head), nil
	}
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(c.head), c.file), nil
}

// reading tells its own errors from those of who writes what was read.
type reading struct {
	r   io.Reader
	err error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
