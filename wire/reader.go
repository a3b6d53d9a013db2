package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// large holds buffers for content, so that idle sessions cost little.
var large = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

// Reader reads a peer's lines and content from one buffer. It is not safe for
// concurrent use.
type Reader struct {
	r          io.Reader
	small      []byte
	big        *[]byte // nil: buf is small
	buf        []byte
	start, end int
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader {
	small := make([]byte, smallBuffer)
	return &Reader{r: r, small: small, buf: small}
}

// Reset throws away what is buffered and reads from r from now on. This is
// what RFC 3207 4.2 asks for after STARTTLS.
func (r *Reader) Reset(rd io.Reader) {
	r.r, r.start, r.end = rd, 0, 0
	r.shrink()
}

// Close gives the reader's memory back; it can't be used any more.
func (r *Reader) Close() {
	r.start, r.end = 0, 0
	r.shrink()
}

// Buffered is the number of octets that have come and were not read yet.
func (r *Reader) Buffered() int { return r.end - r.start }

// ReadLine reads a line of at most limit octets with its CRLF, and returns it
// without. The slice is valid until the next call of any method.
//
// A line that breaks a rule is read whole and answered by ErrLineTooLong or a
// *StrayError; reading can go on behind it. With Normalise a bare LF ends a
// line as well as a CRLF does.
func (r *Reader) ReadLine(limit int, p Policy) ([]byte, error) {
	if r.Buffered() == 0 {
		r.shrink()
	}
	scanned := 0
	for {
		if i := bytes.IndexByte(r.buf[r.start+scanned:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.start+scanned+i+1]
			r.start += len(line)
			return checkLine(line, limit, p)
		}
		scanned = r.Buffered()
		if scanned > limit {
			return nil, r.skipLine()
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// skipLine reads an over-long line to its end.
func (r *Reader) skipLine() error {
	for {
		if i := bytes.IndexByte(r.buf[r.start:r.end], '\n'); i >= 0 {
			r.start += i + 1
			return ErrLineTooLong
		}
		r.start = r.end
		if err := r.fill(); err != nil {
			return err
		}
	}
}

func checkLine(line []byte, limit int, p Policy) ([]byte, error) {
	if len(line) > limit {
		return nil, ErrLineTooLong
	}
	body, ok := bytes.CutSuffix(line, crlf)
	if !ok {
		if p == Reject {
			return nil, &StrayError{'\n'}
		}
		body = line[:len(line)-1]
	}
	for _, octet := range []byte{'\r', 0} {
		if bytes.IndexByte(body, octet) >= 0 {
			return nil, &StrayError{octet}
		}
	}
	return body, nil
}

// fill reads once more from the peer. At the end of the stream it returns
// io.EOF, or io.ErrUnexpectedEOF if part of a line is buffered.
func (r *Reader) fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end == len(r.buf) {
		r.makeRoom()
	}
	for range 100 {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil
		case errors.Is(err, io.EOF) && r.Buffered() > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom moves what is buffered to the front, into a larger buffer if this
// one is full.
func (r *Reader) makeRoom() {
	if r.start == 0 {
		r.widen()
	}
	if r.start == 0 && r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
		return
	}
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
}

// widen takes a large buffer for content.
func (r *Reader) widen() {
	if r.big != nil {
		return
	}
	r.big = large.Get().(*[]byte)
	r.end = copy(*r.big, r.buf[r.start:r.end])
	r.start, r.buf = 0, *r.big
}

// shrink gives a large buffer back; nothing is buffered then.
func (r *Reader) shrink() {
	if r.big != nil {
		large.Put(r.big)
		r.big = nil
	}
	r.buf, r.start, r.end = r.small, 0, 0
}
