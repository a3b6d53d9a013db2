package unpack

import (
	"bytes"
	"io"
	"strings"

	"qstream/engine"
)

// leaf decodes a part without parts into a spool.
type leaf struct {
	spool *spool
	depth int
	coded bool // it doesn't stand in the message as it is
	// mail says that what it holds may be a message of its own.
	mail   bool
	decode func(line []byte, begin bool) error
	flush  func() error

	// Of base64: the characters of an unfinished group.
	group [4]byte
	held  int
	out   []byte

	inner *spool // the file inside uuencoded text; nil: none is open
}

// newLeaf begins a leaf. An encoding that isn't known is taken for none
// (RFC 2045 6.4 would have it as opaque bytes).
func newLeaf(w *walk, depth int, encoding, kind string) *leaf {
	l := &leaf{spool: &spool{w: w}, depth: depth, flush: func() error { return nil }}
	l.mail = kind != "" && !strings.HasPrefix(kind, "text/")
	l.coded = l.mail || encoding == "base64" || encoding == "quoted-printable"
	switch encoding {
	case "base64":
		l.decode, l.flush = l.base64, l.group64
	case "quoted-printable":
		l.decode = l.quoted
	default:
		l.decode = l.plain
	}
	return l
}

func (l *leaf) line(line []byte, begin bool) error { return l.decode(line, begin) }

// finish ends the leaf and looks into what it held.
func (l *leaf) finish() error {
	defer l.close()
	if err := l.flush(); err != nil {
		return err
	}
	if err := l.uuEnd(); err != nil {
		return err
	}
	if each := l.spool.w.each; each != nil {
		if !l.coded || l.spool.size == 0 {
			return nil
		}
		return each(l.spool)
	}
	return l.spool.w.inspect(l.spool, l.depth, l.mail)
}

func (l *leaf) close() {
	l.spool.close()
	if l.inner != nil {
		l.inner.close()
	}
}

var alphabet = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = byte(i)
	}
	return t
}()

// base64 skips what is not of the alphabet (RFC 2045 6.8), and goes on behind
// padding, as some readers do.
func (l *leaf) base64(line []byte, _ bool) error {
	out := l.out[:0]
	for _, c := range line {
		v := alphabet[c]
		if v == 0xff {
			if c == '=' && l.held > 1 {
				out = l.whole(out)
			}
			continue
		}
		l.group[l.held] = v
		if l.held++; l.held == 4 {
			out = l.whole(out)
		}
	}
	l.out = out
	_, err := l.spool.Write(out)
	return err
}

// whole appends the bytes of the group.
func (l *leaf) whole(out []byte) []byte {
	g := l.group
	three := [3]byte{g[0]<<2 | g[1]>>4, g[1]<<4 | g[2]>>2, g[2]<<6 | g[3]}
	n := max(l.held-1, 0)
	l.group, l.held = [4]byte{}, 0
	return append(out, three[:n]...)
}

func (l *leaf) group64() error {
	_, err := l.spool.Write(l.whole(nil))
	return err
}

// quoted is RFC 2045 6.7; what is malformed stays as it is.
func (l *leaf) quoted(line []byte, _ bool) error {
	out := l.out[:0]
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		if rest[0] != '=' {
			out = append(out, rest[0])
			continue
		}
		if len(bytes.TrimRight(rest[1:], " \t\r\n")) == 0 {
			break // a soft line break
		}
		if len(rest) >= 3 && hex(rest[1]) >= 0 && hex(rest[2]) >= 0 {
			out = append(out, byte(hex(rest[1])<<4|hex(rest[2])))
			i += 2
			continue
		}
		out = append(out, '=')
	}
	l.out = out
	_, err := l.spool.Write(out)
	return err
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// plain keeps text as it is, and takes uuencoded files out of it.
func (l *leaf) plain(line []byte, begin bool) error {
	if begin && l.inner == nil && uuBegins(line) {
		l.inner = &spool{w: l.spool.w}
		return l.spool.w.part(l.depth + 1)
	}
	if l.inner != nil && begin {
		if bytes.Equal(bytes.TrimRight(line, " \t\r\n"), []byte("end")) {
			return l.uuEnd()
		}
		_, err := l.inner.Write(uuLine(line))
		return err
	}
	_, err := l.spool.Write(line)
	return err
}

// uuBegins finds "begin 644 name".
func uuBegins(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("begin "))
	if !ok {
		return false
	}
	mode, name, ok := bytes.Cut(rest, []byte(" "))
	return ok && (len(mode) == 3 || len(mode) == 4) && len(bytes.Trim(mode, "01234567")) == 0 && len(bytes.TrimSpace(name)) > 0
}

// uuLine is one line of uuencode: its length, then groups of four.
func uuLine(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil
	}
	size := int(line[0]-' ') & 63
	var out []byte
	for line = line[1:]; len(line) > 0 && len(out) < size; line = line[min(4, len(line)):] {
		var g [4]byte
		for i := range min(4, len(line)) {
			g[i] = (line[i] - ' ') & 63
		}
		out = append(out, g[0]<<2|g[1]>>4, g[1]<<4|g[2]>>2, g[2]<<6|g[3])
	}
	return out[:min(size, len(out))]
}

func (l *leaf) uuEnd() error {
	if l.inner == nil {
		return nil
	}
	s := l.inner
	l.inner = nil
	defer s.close()
	if s.w.each != nil {
		return s.w.each(s)
	}
	return s.w.inspect(s, l.depth+1, true)
}

// copy fills a spool from an archive's member. Errors of the archive come back
// apart from those that end the walk.
func (s *spool) copy(r io.Reader) (damage, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, readErr := r.Read(buf)
		if _, err := s.Write(buf[:n]); err != nil {
			return nil, err
		}
		if readErr == io.EOF {
			return nil, nil
		}
		if readErr != nil {
			return readErr, nil
		}
	}
}

// member looks into one member of an archive.
func (w *walk) member(name string, r io.Reader, depth int) error {
	s := &spool{w: w}
	defer s.close()
	damage, err := s.copy(r)
	if err != nil {
		return err
	}
	if damage != nil {
		w.close(engine.Damaged, "%s: %v", name, damage)
	}
	return w.inspect(s, depth, true)
}
