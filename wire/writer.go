package wire

import (
	"bytes"
	"io"
	"strconv"
)

// DotWriter writes content as DATA wants it: dots doubled at the start of a
// line, and CRLF.CRLF at the end. It refuses to write a bare CR, a bare LF or
// a NUL by a *StrayError: the connection must be cut then, since what was
// written is not a message. It does not buffer; w should.
type DotWriter struct {
	w     io.Writer
	guard guard
	err   error
}

// NewDotWriter writes to w.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w} }

// Write writes content; p may end anywhere.
func (d *DotWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p) && d.err == nil; {
		out, used, dot, err := d.guard.next(p[n:])
		d.emit(out)
		if dot {
			d.emit([]byte{'.'})
		}
		if d.err == nil {
			d.err = err
		}
		n += used
	}
	if d.err != nil {
		return 0, d.err
	}
	return len(p), nil
}

// Close ends the data. Content that does not end with a CRLF gets one, which
// the dialogue can't do without. It does not close w.
func (d *DotWriter) Close() error {
	if d.guard.cr && d.err == nil {
		d.err = &StrayError{'\r'}
	}
	if d.guard.mid {
		d.emit(crlf)
	}
	d.emit([]byte(".\r\n"))
	return d.err
}

func (d *DotWriter) emit(p []byte) {
	if d.err == nil && len(p) > 0 {
		_, d.err = d.w.Write(p)
	}
}

// ChunkWriter writes content as BDAT chunks, one for each Write, and an empty
// last one at Close. It refuses stray octets as DotWriter does, except that a
// chunk may end between CR and LF. Each chunk is answered by the server.
type ChunkWriter struct {
	w     io.Writer
	guard guard
	err   error
}

// NewChunkWriter writes to w.
func NewChunkWriter(w io.Writer) *ChunkWriter { return &ChunkWriter{w: w} }

// Write writes p as one chunk; an empty one is left out.
func (c *ChunkWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p) && c.err == nil; {
		var used int
		_, used, _, c.err = c.guard.next(p[n:])
		n += used
	}
	if len(p) > 0 {
		c.chunk(p, "")
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// Close writes the last chunk: empty, or the CRLF that content must end with.
func (c *ChunkWriter) Close() error {
	var rest []byte
	if c.guard.cr && c.err == nil {
		c.err = &StrayError{'\r'}
	}
	if c.guard.mid {
		rest = crlf
	}
	c.chunk(rest, " LAST")
	return c.err
}

func (c *ChunkWriter) chunk(p []byte, last string) {
	if c.err != nil {
		return
	}
	head := append(strconv.AppendInt([]byte("BDAT "), int64(len(p)), 10), last...)
	if _, c.err = c.w.Write(append(head, crlf...)); c.err == nil && len(p) > 0 {
		_, c.err = c.w.Write(p)
	}
}

// guard looks for stray octets and for dots at the start of a line, across
// pieces of any size. The zero guard stands at the start of a line.
type guard struct {
	cr  bool // a CR is held back
	mid bool // not at the start of a line
}

// next returns what of p may be written: up to a dot at the start of a line
// (dot; it has to be doubled) or to the end of p. p is not empty.
func (g *guard) next(p []byte) (out []byte, used int, dot bool, err error) {
	if g.cr {
		g.cr = false
		if p[0] != '\n' {
			return nil, 0, false, &StrayError{'\r'}
		}
		g.mid = false
		return crlf, 1, false, nil
	}
	n := 0
	for n < len(p) {
		if !g.mid && p[n] == '.' {
			g.mid = true
			return p[:n+1], n + 1, true, nil
		}
		line, whole, err := g.line(p[n:])
		if err != nil {
			return nil, 0, false, err
		}
		n += line
		if !whole {
			break
		}
	}
	used = n
	if g.cr {
		used++
	}
	return p[:n], used, false, nil
}

// line measures a line with its CRLF (whole), or what there is of it; then a
// CR at its end is held.
func (g *guard) line(p []byte) (n int, whole bool, err error) {
	end := bytes.IndexByte(p, '\n')
	body := p
	switch {
	case end == 0 || end > 0 && p[end-1] != '\r':
		return 0, false, &StrayError{'\n'}
	case end > 0:
		body = p[:end-1]
	case p[len(p)-1] == '\r':
		body = p[:len(p)-1]
		g.cr = true
	}
	for _, octet := range []byte{'\r', 0} {
		if bytes.IndexByte(body, octet) >= 0 {
			return 0, false, &StrayError{octet}
		}
	}
	if end > 0 {
		g.mid = false
		return end + 1, true, nil
	}
	g.mid = g.mid || len(body) > 0
	return len(body), false, nil
}
