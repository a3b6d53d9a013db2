package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// maxDigits are those of the largest length: more than a terabyte is no length.
const maxDigits = 13

var (
	// ErrNetstring is what is no netstring: digits that are none, or begin
	// with a zero, a comma that is missing, an inner one that goes beyond the
	// outer. Nothing behind it can be understood.
	ErrNetstring = errors.New("malformed netstring")
	// ErrNetstringSize is a length above the limit. Nothing of the content has
	// been read.
	ErrNetstringSize = errors.New("netstring too long")
)

// Frame is octets that hold netstrings, one behind the other: the content of
// an outer netstring, or the whole stream. It holds no octets itself. Its
// methods are those of its Reader, and not to be used beside them.
type Frame struct {
	r    *Reader
	left int64 // octets of it that belong to no netstring yet
}

// Stream is the frame that a connection is: it ends with it.
func (r *Reader) Stream() *Frame { return &Frame{r: r, left: math.MaxInt64} }

// More reports whether anything is left.
func (f *Frame) More() bool { return f.left > 0 }

// Open reads the beginning of a netstring of netstrings, of at most limit
// octets. Close the inner frame behind them.
func (f *Frame) Open(limit int64) (*Frame, error) {
	n, err := f.Length(limit)
	if err != nil {
		return nil, err
	}
	return &Frame{r: f.r, left: n}, nil
}

// Close reads the end of a frame of which nothing is left.
func (f *Frame) Close() error {
	if f.left != 0 {
		return fmt.Errorf("%w: %d octets left over", ErrNetstring, f.left)
	}
	return f.Comma()
}

// Length reads the length of the next netstring with its colon. Its content
// has to be read from the Reader, then Comma. It returns io.EOF if the stream
// ends instead, io.ErrUnexpectedEOF if it ends within.
func (f *Frame) Length(limit int64) (int64, error) {
	n, used, err := f.r.length(limit, f.left)
	if err != nil {
		return 0, err
	}
	if n > f.left-int64(used)-1 {
		return 0, fmt.Errorf("%w: beyond the outer one", ErrNetstring)
	}
	f.left -= int64(used) + n + 1
	return n, nil
}

// Comma reads the end of a netstring.
func (f *Frame) Comma() error {
	for f.r.Buffered() == 0 {
		if err := unexpected(f.r.fill()); err != nil {
			return err
		}
	}
	if f.r.buf[f.r.start] != ',' {
		return fmt.Errorf("%w: no comma", ErrNetstring)
	}
	f.r.start++
	return nil
}

// maxSkipped bounds what Short throws away.
const maxSkipped = 1 << 20

// Short reads a whole netstring of at most limit octets. One that is longer is
// read to its end and answered by ErrNetstringSize; reading can go on behind
// it. More than a megabyte is ErrNetstring. The slice is valid until the next
// call of any method.
func (f *Frame) Short(limit int) ([]byte, error) {
	n, err := f.Length(maxSkipped)
	if errors.Is(err, ErrNetstringSize) {
		return nil, fmt.Errorf("%w: more than anything here has", ErrNetstring)
	}
	if err != nil {
		return nil, unexpected(err)
	}
	if n > int64(limit) {
		if err := f.r.Discard(n); err != nil {
			return nil, err
		}
		if err := f.Comma(); err != nil {
			return nil, err
		}
		return nil, ErrNetstringSize
	}
	for int64(f.r.Buffered()) <= n { // with its comma
		if err := unexpected(f.r.fill()); err != nil {
			return nil, err
		}
	}
	content := f.r.buf[f.r.start : f.r.start+int(n)]
	f.r.start += int(n)
	if err := f.Comma(); err != nil {
		return nil, err
	}
	return content, nil
}

// length reads digits and a colon, at most within octets.
func (r *Reader) length(limit, within int64) (n int64, used int, err error) {
	if within == 0 {
		return 0, 0, fmt.Errorf("%w: none left", ErrNetstring)
	}
	for {
		for used < r.Buffered() {
			c := r.buf[r.start+used]
			used++
			switch {
			case c == ':' && used > 1:
				r.start += used
				return n, used, nil
			case c < '0' || c > '9' || used > 1 && n == 0 || used > maxDigits || int64(used) >= within:
				return 0, 0, fmt.Errorf("%w: no length", ErrNetstring)
			}
			if n = n*10 + int64(c-'0'); n > limit {
				return 0, 0, ErrNetstringSize
			}
		}
		if err := r.fill(); err != nil {
			return 0, 0, err
		}
	}
}

// AppendNetstring appends s as a netstring.
func AppendNetstring(dst []byte, s string) []byte {
	return append(append(appendLength(dst, int64(len(s))), s...), ',')
}

func appendLength(dst []byte, n int64) []byte {
	return append(strconv.AppendInt(dst, n, 10), ':')
}

// netstringSize is how many octets the netstring of n octets has.
func netstringSize(n int64) int64 {
	return int64(len(appendLength(make([]byte, 0, 24), n))) + n + 1
}
