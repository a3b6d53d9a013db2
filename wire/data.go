package wire

import (
	"errors"
	"io"
)

// DataReader reads the content that follows DATA, without dot stuffing, up to
// CRLF.CRLF. It returns io.EOF behind that end, and io.ErrUnexpectedEOF if the
// stream ends before.
type DataReader struct {
	r   *Reader
	dec decoder
	err error // of the stream; or io.EOF
}

// Data starts reading content.
func (r *Reader) Data(o Options) *DataReader {
	r.widen()
	return &DataReader{r: r, dec: decoder{Options: o, dots: true}}
}

// Read reads content. An error is final; behind a *StrayError and
// ErrLineTooLong Drain leads to the end of the data.
func (d *DataReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.err == nil && d.dec.err == nil {
		if n, _ := d.advance(p); n > 0 {
			return n, nil
		}
	}
	if d.dec.err != nil {
		return 0, d.dec.err
	}
	return 0, d.err
}

func (d *DataReader) advance(p []byte) (n, used int) {
	if len(d.dec.owed) == 0 && d.r.Buffered() == 0 {
		if d.err = unexpected(d.r.fill()); d.err != nil {
			return 0, 0
		}
	}
	n, used, done := d.dec.decode(p, d.r.buf[d.r.start:d.r.end])
	d.r.start += used
	if done {
		d.err = io.EOF
	}
	return n, used
}

// Drain reads to the end of the data and throws it away, at most limit octets.
// It returns nil at the end, ErrTooMuch beyond the limit, or the stream's
// error.
func (d *DataReader) Drain(limit int64) error {
	d.dec.discard, d.dec.owed = true, nil
	for d.err == nil {
		if limit < 0 {
			return ErrTooMuch
		}
		_, used := d.advance(nil)
		limit -= int64(used)
	}
	if d.err == io.EOF {
		return nil
	}
	return d.err
}

// ChunkReader reads the content of one message that comes in chunks (BDAT,
// RFC 3030), or in one (QMQP, QMTP). Begin each chunk, then Read it.
type ChunkReader struct {
	r    *Reader
	dec  decoder
	left int64
	last bool
	err  error
}

// Chunks starts reading content that comes in chunks.
func (r *Reader) Chunks(o Options) *ChunkReader {
	return &ChunkReader{r: r, dec: decoder{Options: o}}
}

// Text starts reading the size octets of a message in a netstring, whose lines
// end in LF (unix; a CR before it belongs to the end) or CRLF. Content has
// CRLF either way.
func (r *Reader) Text(size int64, unix bool, o Options) *ChunkReader {
	c := &ChunkReader{r: r, dec: decoder{Options: o, unix: unix}}
	c.Begin(size, true)
	return c
}

// Begin starts a chunk of size octets, which follow its command.
func (c *ChunkReader) Begin(size int64, last bool) {
	if size > smallBuffer {
		c.r.widen()
	}
	c.left, c.last = size, last
}

// Read reads content. It returns ErrChunkEnd behind a chunk that is not the
// last, io.EOF behind the last one; other errors are final.
func (c *ChunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.dec.err == nil && c.err == nil {
		if c.left == 0 && len(c.dec.owed) == 0 {
			if !c.last {
				return 0, ErrChunkEnd
			}
			c.dec.finish()
			c.err = io.EOF
		}
		if n := c.advance(p); n > 0 {
			return n, nil
		}
	}
	if c.dec.err != nil {
		return 0, c.dec.err
	}
	if n := c.dec.settle(p); n > 0 {
		return n, nil
	}
	return 0, c.err
}

func (c *ChunkReader) advance(p []byte) int {
	if c.left > 0 && c.r.Buffered() == 0 {
		if c.err = unexpected(c.r.fill()); c.err != nil {
			return 0
		}
	}
	window := min(c.left, int64(c.r.Buffered()))
	n, used, _ := c.dec.decode(p, c.r.buf[c.r.start:c.r.start+int(window)])
	c.r.start += used
	c.left -= int64(used)
	return n
}

// Left is how much of the chunk has not been read.
func (c *ChunkReader) Left() int64 { return c.left }

// Drain reads the rest of the chunk and throws it away.
func (c *ChunkReader) Drain() error {
	c.dec.discard, c.dec.owed = true, nil
	err := c.r.Discard(c.left)
	c.left = 0
	return err
}

// Discard throws n octets away: the chunk of a BDAT that is refused.
func (r *Reader) Discard(n int64) error {
	for n > 0 {
		if r.Buffered() == 0 {
			if err := unexpected(r.fill()); err != nil {
				return err
			}
		}
		step := min(n, int64(r.Buffered()))
		r.start += int(step)
		n -= step
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
