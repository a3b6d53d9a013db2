package wire

import "io"

// LineWriter writes content for a netstring: as it is, or its lines with LF
// instead of CRLF. It refuses stray octets by a *StrayError, as DotWriter
// does: the connection must be cut then. It does not buffer beyond a Write.
type LineWriter struct {
	w     io.Writer
	unix  bool
	guard guard // holds a CR back with unix
	buf   []byte
	size  int64
	err   error
}

// NewLineWriter writes to w; unix asks for lines that end in LF.
func NewLineWriter(w io.Writer, unix bool) *LineWriter { return &LineWriter{w: w, unix: unix} }

// Write writes content; p may end anywhere.
func (l *LineWriter) Write(p []byte) (int, error) {
	if l.err == nil && len(p) > 0 {
		out := p
		if l.unix {
			out, l.err = l.convert(p)
		} else {
			l.err = l.check(p)
		}
		l.emit(out)
	}
	if l.err != nil {
		return 0, l.err
	}
	return len(p), nil
}

// Close ends the content; a last line without an end stays so. It does not
// close w.
func (l *LineWriter) Close() error {
	if l.guard.cr && l.err == nil {
		l.err = &StrayError{'\r'}
	}
	return l.err
}

// Size is how many octets were written.
func (l *LineWriter) Size() int64 { return l.size }

func (l *LineWriter) emit(p []byte) {
	if l.err == nil && len(p) > 0 {
		_, l.err = l.w.Write(p)
		l.size += int64(len(p))
	}
}

// check looks for stray octets.
func (l *LineWriter) check(p []byte) error {
	for n := 0; n < len(p); {
		_, used, _, err := l.guard.next(p[n:])
		if err != nil {
			return err
		}
		n += used
	}
	return nil
}

// convert is p with LF instead of CRLF.
func (l *LineWriter) convert(p []byte) ([]byte, error) {
	l.buf = l.buf[:0]
	if l.guard.cr {
		l.guard.cr = false
		if p[0] != '\n' {
			return nil, &StrayError{'\r'}
		}
		l.buf, p = append(l.buf, '\n'), p[1:]
	}
	for len(p) > 0 {
		n, whole, err := l.guard.line(p)
		switch {
		case err != nil:
			return nil, err
		case whole:
			l.buf = append(append(l.buf, p[:n-len(crlf)]...), '\n')
			p = p[n:]
		default: // a CR at the end is held
			return append(l.buf, p[:n]...), nil
		}
	}
	return l.buf, nil
}

// UnixSize counts the octets that content has in lines that end in LF. It
// reads r to its end.
func UnixSize(r io.Reader) (int64, error) {
	l := NewLineWriter(io.Discard, true)
	if _, err := io.Copy(l, r); err != nil {
		return 0, err
	}
	return l.Size(), l.Close()
}
