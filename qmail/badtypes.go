package qmail

import (
	"bytes"
	"fmt"
	"strings"
)

// Octets of what marks a kind of content, in base64.
const (
	MIMETypeLength   = 9
	LoaderTypeLength = 5
)

// Types are the beginnings of base64 content that is refused: badmimetypes or
// badloadertypes. They are immutable; nil holds none.
type Types struct {
	marks map[string]bool
	first byte   // of every loader type
	text  string // all marks, to compare by
}

// ParseMIMETypes reads badmimetypes: the first nine characters of each line.
func ParseMIMETypes(text string) (*Types, error) { return parseTypes(text, MIMETypeLength) }

// ParseLoaderTypes reads badloadertypes: the first five characters of each
// line. All begin with the same one.
func ParseLoaderTypes(text string) (*Types, error) {
	t, err := parseTypes(text, LoaderTypeLength)
	if err != nil {
		return nil, err
	}
	for mark := range t.marks {
		if t.first != 0 && t.first != mark[0] {
			return nil, fmt.Errorf("loader types begin with %q and with %q; all have to begin alike", min(t.first, mark[0]), max(t.first, mark[0]))
		}
		t.first = mark[0]
	}
	return t, nil
}

func parseTypes(text string, length int) (*Types, error) {
	lines, err := controlLines(text)
	if err != nil {
		return nil, err
	}
	t := &Types{marks: make(map[string]bool, len(lines))}
	for _, l := range lines {
		if len(l.text) < length || strings.Trim(l.text[:length], base64) != "" {
			return nil, &LineError{l.number, fmt.Sprintf("wants %d characters of base64", length)}
		}
		if mark := l.text[:length]; !t.marks[mark] {
			t.marks[mark] = true
			t.text += mark
		}
	}
	return t, nil
}

const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// inBase64 are the characters by octet.
var inBase64 = func() (in [256]bool) {
	for i := range len(base64) {
		in[base64[i]] = true
	}
	return in
}()

// Equal reports whether both hold the same in the same order.
func (t *Types) Equal(o *Types) bool {
	return t == o || t != nil && o != nil && t.text == o.text
}

// ContentRules are what content is searched for.
type ContentRules struct {
	MIME    *Types // at the start of a base64 part
	Loaders *Types // anywhere in one
	Loader  byte   // what loader types begin with; 0: whatever they do
	Blanks  bool   // refuse blanks within the lines of base64
}

// Equal reports whether both refuse the same.
func (r ContentRules) Equal(o ContentRules) bool {
	return r.MIME.Equal(o.MIME) && r.Loaders.Equal(o.Loaders) && r.Loader == o.Loader && r.Blanks == o.Blanks
}

// Empty reports that nothing is searched for.
func (r ContentRules) Empty() bool { return r.MIME == nil && r.Loaders == nil && !r.Blanks }

// Finding is what content holds that is refused.
type Finding int

// Findings.
const (
	Clean Finding = iota
	BadMIMEType
	BadLoaderType
	BlankInBase64
)

// maxField bounds what is kept of a header field.
const maxField = 128

// ContentScan searches content while it comes by, in pieces of any size. It
// keeps less than 200 octets. Lines may end with CRLF or LF; folds within the
// field, and lines shorter than a mark, hide nothing.
type ContentScan struct {
	Found  Finding // the first thing found
	Base64 bool    // a field has announced base64, as long as nothing was found

	rules   ContentRules
	line    []byte // the beginning of the field or line, outside of base64
	start   bool   // at the start of a line
	length  int    // octets of the line so far, without CR
	encoded bool   // the header says base64
	inside  bool   // in base64
	blank   bool   // a blank within the line
	head    []byte // the first characters since the part began
	tail    uint64 // the last characters, the newest lowest
	kept    int    // how many they are
}

// NewContentScan starts at a message's first octet.
func NewContentScan(r ContentRules) *ContentScan { return &ContentScan{rules: r, start: true} }

// Write looks at the next piece; it never fails.
func (s *ContentScan) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && s.Found == Clean {
		switch {
		case s.inside && !s.start:
			p = p[s.bulk(p):]
		case s.start && !s.inside && !s.encoded:
			p = p[s.pass(p):]
		}
		if len(p) > 0 && (s.start || s.inside) {
			s.octet(p[0])
			p = p[1:]
			continue
		}
		// Outside of base64 only the beginnings of lines count.
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			s.keep(p)
			break
		}
		s.keep(p[:end])
		s.endLine()
		p = p[end+1:]
	}
	return n, nil
}

// mayMatter are the octets that begin the field, go on with it or end a
// header.
var mayMatter = [256]bool{'c': true, 'C': true, ' ': true, '\t': true, '\r': true, '\n': true}

// pass passes over whole lines that can't say that base64 comes, and returns
// how far that was.
func (s *ContentScan) pass(p []byte) (n int) {
	for len(p) > n && !mayMatter[p[n]] {
		end := bytes.IndexByte(p[n:], '\n')
		if end < 0 {
			break
		}
		s.line = s.line[:0] // a fold that follows is no field's beginning
		n += end + 1
	}
	return n
}

// bulk passes over the rest of a line of base64, as far as octet by octet
// would find nothing else, and returns how far that was.
func (s *ContentScan) bulk(p []byte) int {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		end = len(p)
	}
	line := bytes.TrimSuffix(p[:end], []byte("\r"))
	if len(line) < 2*LoaderTypeLength || len(s.head) < MIMETypeLength || bytes.IndexByte(line, '\r') >= 0 ||
		s.rules.Blanks && bytes.ContainsAny(line, " \t") || s.blank {
		return 0
	}
	if t := s.rules.Loaders; t != nil {
		for _, c := range line[:LoaderTypeLength-1] { // what began in the line before
			s.octet(c)
		}
		for at := 0; s.Found == Clean; at++ {
			next := bytes.IndexByte(line[at:], t.first)
			if at += next; next < 0 || at+LoaderTypeLength > len(line) {
				break
			}
			if s.wanted() && t.marks[string(line[at:at+LoaderTypeLength])] {
				s.Found = BadLoaderType
			}
		}
		s.kept = 0
		for _, c := range line[len(line)-LoaderTypeLength:] {
			if s.tail, s.kept = s.tail<<8|uint64(c), s.kept+1; !inBase64[c] {
				s.kept = 0
			}
		}
	}
	s.length += len(line)
	return len(line)
}

func (s *ContentScan) octet(c byte) {
	if s.start {
		s.begin(c)
		if c == '\n' {
			s.endLine()
			return
		}
		s.start = false
		if !s.inside {
			s.keep([]byte{c})
			return
		}
	}
	switch {
	case c == '\n':
		s.endLine()
	case c == '\r':
	case c == ' ' || c == '\t':
		s.blank = s.length > 0
		s.kept = 0
	case inBase64[c]:
		s.character(c)
	default:
		s.length++
		s.kept = 0
	}
}

// begin is told the first octet of a line.
func (s *ContentScan) begin(c byte) {
	s.length, s.blank = 0, false
	if c == '-' { // no character of base64: a boundary, perhaps
		s.inside, s.encoded = false, false
	}
	if s.inside || c != ' ' && c != '\t' { // else it goes on with a field
		s.line = s.line[:0]
	}
}

// keep notes the beginning of what is no base64.
func (s *ContentScan) keep(p []byte) {
	s.length += len(p) - bytes.Count(p, []byte{'\r'})
	s.line = append(s.line, p[:min(len(p), maxField-len(s.line))]...)
}

func (s *ContentScan) endLine() {
	s.start = true
	switch {
	case s.length == 0 && (s.inside || s.encoded): // an empty line: base64 begins, or a part anew
		s.inside, s.encoded = true, false
		s.head, s.kept = s.head[:0], 0
	case !s.inside && saysBase64(s.line):
		s.encoded, s.Base64 = true, true
	}
}

// saysBase64 reports a Content-Transfer-Encoding of base64 (RFC 2045 6.1).
func saysBase64(field []byte) bool {
	const name = "content-transfer-encoding"
	if len(field) < len(name) || !strings.EqualFold(string(field[:len(name)]), name) {
		return false
	}
	value, ok := strings.CutPrefix(strings.TrimLeft(string(field[len(name):]), " \t\r\n"), ":")
	value = strings.Trim(strings.TrimLeft(value, " \t\r\n"), `"`)
	return ok && len(value) >= 6 && strings.EqualFold(value[:6], "base64")
}

// character is one of base64.
func (s *ContentScan) character(c byte) {
	s.length++
	if s.blank && s.rules.Blanks {
		s.Found = BlankInBase64
		return
	}
	if len(s.head) < MIMETypeLength {
		if s.head = append(s.head, c); len(s.head) == MIMETypeLength && s.rules.MIME != nil && s.rules.MIME.marks[string(s.head)] {
			s.Found = BadMIMEType
			return
		}
	}
	if s.rules.Loaders == nil {
		return
	}
	s.tail, s.kept = s.tail<<8|uint64(c), s.kept+1
	first := byte(s.tail >> (8 * (LoaderTypeLength - 1)))
	if s.kept >= LoaderTypeLength && first == s.rules.Loaders.first && s.wanted() && s.rules.Loaders.marks[s.last()] {
		s.Found = BadLoaderType
	}
}

// wanted reports whether what loader types begin with is what is asked for.
func (s *ContentScan) wanted() bool {
	return s.rules.Loader == 0 || s.rules.Loader == s.rules.Loaders.first
}

// last are the newest characters.
func (s *ContentScan) last() string {
	var p [LoaderTypeLength]byte
	for i := range p {
		p[i] = byte(s.tail >> (8 * (LoaderTypeLength - 1 - i)))
	}
	return string(p[:])
}
