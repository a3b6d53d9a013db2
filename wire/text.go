package wire

import "bytes"

// where the decoder stands in a line
type place int

const (
	atStart place = iota // behind a CRLF, or at the very start
	atDot                // "." at the start of a line, held
	atDotCR              // ".\r" at the start of a line, held
	inText
	atCR // a CR, held
)

// decoder turns the octets of DATA (dots), BDAT or netstrings (no dots) into
// content, in pieces of any size.
type decoder struct {
	Options
	dots    bool
	unix    bool // lines end in LF; a CR before it belongs to the end
	at      place
	line    int    // octets of this line so far
	owed    []byte // output that did not fit
	discard bool   // nothing is put out any more
	err     error  // the first violation
}

var crlf = []byte("\r\n")

// decode reads from src and writes to dst. It stops when either is used up,
// at a violation, or behind the end of data.
func (d *decoder) decode(dst, src []byte) (nd, ns int, done bool) {
	nd = d.settle(dst)
	for ns < len(src) && (nd < len(dst) || d.discard) && len(d.owed) == 0 {
		if d.at == atStart && !d.discard {
			wrote, read := d.whole(dst[nd:], src[ns:])
			if nd, ns = nd+wrote, ns+read; read > 0 {
				continue
			}
		}
		was := d.err
		wrote, read, end := d.step(dst[nd:], src[ns:])
		nd, ns = nd+wrote, ns+read
		if end {
			return nd, ns, true
		}
		if was == nil && d.err != nil {
			return nd, ns, false
		}
	}
	return nd, ns, false
}

// whole copies lines that need no thought.
func (d *decoder) whole(dst, src []byte) (nd, ns int) {
	if d.unix {
		return d.plainUnix(dst, src)
	}
	n := copy(dst, src[:d.plain(src, len(dst))])
	return n, n
}

// unixWindow bounds how far plainUnix looks, which it may do for each line.
const unixWindow = 4 << 10

// plainUnix copies whole lines that end in LF and hold no other octet that
// matters.
func (d *decoder) plainUnix(dst, src []byte) (nd, ns int) {
	src = src[:min(len(src), len(dst), unixWindow)]
	for _, octet := range []byte{'\r', 0} {
		if i := bytes.IndexByte(src, octet); i >= 0 {
			src = src[:i]
		}
	}
	for {
		n := bytes.IndexByte(src[ns:], '\n')
		if n < 0 || d.MaxLine > 0 && n > d.MaxLine-len(crlf) || nd+n+len(crlf) > len(dst) {
			return nd, ns
		}
		nd += copy(dst[nd:], src[ns:ns+n])
		nd += copy(dst[nd:], crlf)
		ns += n + 1
	}
}

// plain measures whole lines, at most room octets, that are content as they
// stand. Nearly all are; step takes what isn't.
func (d *decoder) plain(src []byte, room int) (n int) {
	src = src[:min(len(src), room)]
	for {
		end := bytes.IndexByte(src[n:], '\n')
		if end < 1 || d.MaxLine > 0 && end >= d.MaxLine {
			return n
		}
		line := src[n : n+end]
		if d.dots && line[0] == '.' || bytes.IndexByte(line, '\r') != end-1 || bytes.IndexByte(line, 0) >= 0 {
			return n
		}
		n += end + 1
	}
}

// settle writes what is owed.
func (d *decoder) settle(dst []byte) int {
	n := copy(dst, d.owed)
	d.owed = d.owed[n:]
	return n
}

// step is one move of the decoder; src is not empty.
func (d *decoder) step(dst, src []byte) (nd, ns int, end bool) {
	c := src[0]
	switch d.at {
	case atStart:
		if d.dots && c == '.' {
			d.at = atDot
			return 0, 1, false
		}
		d.at = inText
	case atDot: // RFC 5321 4.5.2: the first dot goes, unless the line ends here
		d.at = inText
		if c == '\r' {
			d.at = atDotCR
			return 0, 1, false
		}
	case atDotCR:
		if c == '\n' {
			return 0, 1, true
		}
		d.at = atCR
	case atCR:
		if c == '\n' {
			d.at, d.line = atStart, 0
			return d.put(dst, crlf), 1, false
		}
		d.at = inText
		return d.stray(dst, '\r'), 0, false
	case inText:
		nd, ns = d.text(dst, src)
	}
	return nd, ns, false
}

// text copies to the end of the line, of src or of dst.
func (d *decoder) text(dst, src []byte) (nd, ns int) {
	seg := src
	if i := bytes.IndexByte(seg, '\n'); i >= 0 {
		seg = seg[:i]
	}
	if i := bytes.IndexByte(seg, '\r'); i >= 0 {
		seg = seg[:i]
	}
	if !d.discard && len(seg) > len(dst) {
		seg = seg[:len(dst)]
	}
	if i := bytes.IndexByte(seg, 0); i >= 0 {
		seg = seg[:i]
	}
	if !d.lengthen(len(seg)) {
		return 0, 0
	}
	nd = d.put(dst, seg)
	ns = len(seg)
	if ns == len(src) || nd == len(dst) && !d.discard {
		return nd, ns
	}
	switch src[ns] {
	case '\r':
		d.at = atCR
	case '\n':
		d.line = 0
		if d.unix {
			d.at = atStart
			return nd + d.put(dst[nd:], crlf), ns + 1
		}
		nd += d.stray(dst[nd:], '\n')
	case 0:
		nd += d.stray(dst[nd:], 0)
	}
	return nd, ns + 1
}

// lengthen counts octets of a line; false at the moment the limit is passed.
func (d *decoder) lengthen(n int) bool {
	d.line += n
	if d.err == nil && d.MaxLine > 0 && d.line > d.MaxLine-len(crlf) {
		d.fail(ErrLineTooLong)
		return false
	}
	return true
}

// stray deals with an octet that may not stand where it stood.
func (d *decoder) stray(dst []byte, octet byte) int {
	if d.Policy == Reject {
		d.fail(&StrayError{octet})
		return 0
	}
	if octet == '\n' {
		return d.put(dst, crlf)
	}
	d.line++
	return d.put(dst, []byte{' '})
}

// fail notes the first violation; from then on decode only looks for the end.
func (d *decoder) fail(err error) {
	d.discard = true
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) put(dst, p []byte) int {
	if d.discard {
		return 0
	}
	n := copy(dst, p)
	d.owed = append(d.owed[:0:0], p[n:]...)
	return n
}

// finish ends content that has no end of data of its own (BDAT): what
// remains is owed then. A last line without CRLF gets one, since content
// always ends with a line's end.
func (d *decoder) finish() {
	switch d.at {
	case atCR:
		d.stray(nil, '\r')
		fallthrough
	case inText:
		if !d.discard {
			d.owed = append(d.owed, crlf...)
		}
	}
}
