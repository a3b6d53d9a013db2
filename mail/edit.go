package mail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
)

// EditKind says what an Edit does.
type EditKind uint8

const (
	EditAdd     EditKind = iota // at the end of the header
	EditInsert                  // before the field at Index, counted from 0 in all of the header
	EditReplace                 // the value of the field at Index, counted from 1 among those of its name; beyond them it is added
	EditDelete                  // likewise; Index 0: all of that name
	EditPrefix                  // before the value of the first field of that name, which is added if there is none
)

// Edit is one change of a header.
type Edit struct {
	Kind  EditKind
	Index int
	Name  string
	// Value is without the blank behind the colon; its lines are ended by CRLF
	// and begin with a blank or tab, except the first.
	Value string
}

// EditHeader makes the edits of a header: fields ended by CRLF, without the
// empty line. Fields are counted as they are before any edit; what isn't there
// isn't deleted, and is added where it was to be replaced, as filters know it from
// smfi_chgheader. Of two fields inserted at one place the later is in front. A
// prefix that isn't ASCII is encoded (RFC 2047); what begins with it stays. The
// result has no line that ends otherwise than the header's own.
func EditHeader(header []byte, edits []Edit) []byte {
	h := parsedHeader(header)
	for _, e := range edits {
		h.edit(e)
	}
	var out bytes.Buffer
	for i, f := range h {
		for _, in := range slices.Backward(f.before) {
			out.WriteString(in)
		}
		if i < len(h)-1 && !f.gone {
			out.Write(f.text)
		}
	}
	for _, in := range h[len(h)-1].after {
		out.WriteString(in)
	}
	return out.Bytes()
}

// field is a field of a header with what is put around it. The last of a
// header has no text: it is its end.
type field struct {
	name   string // in lower case; empty: no field
	text   []byte // all of it, with its line endings
	gone   bool
	before []string
	after  []string
}

type editedHeader []field

func parsedHeader(header []byte) editedHeader {
	var h editedHeader
	for line := range bytes.Lines(header) {
		if last := len(h) - 1; last >= 0 && blank(line[0]) {
			h[last].text = append(h[last].text, line...)
			continue
		}
		name, _ := fieldName(line)
		h = append(h, field{name: strings.ToLower(name), text: slices.Clip(line)})
	}
	return append(h, field{})
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// fieldName is the name of the field that a line begins, if it does.
func fieldName(line []byte) (string, bool) {
	name, _, ok := bytes.Cut(line, []byte{':'})
	name = bytes.TrimRight(name, " \t") // RFC 5322 4.5
	if !ok || !isFieldName(name) {
		return "", false
	}
	return string(name), true
}

func (h editedHeader) edit(e Edit) {
	name := strings.ToLower(e.Name)
	end := &h[len(h)-1]
	switch e.Kind {
	case EditAdd:
		end.after = append(end.after, written(e.Name, e.Value))
	case EditInsert:
		at := &h[min(max(e.Index, 0), len(h)-1)]
		at.before = append(at.before, written(e.Name, e.Value))
	case EditReplace, EditDelete:
		n := 0
		for i := range h {
			if f := &h[i]; name == "" || f.name != name {
				continue
			}
			if n++; n != e.Index && (e.Index != 0 || e.Kind == EditReplace) {
				continue
			}
			if h[i].gone = e.Kind == EditDelete; !h[i].gone {
				h[i].text = []byte(written(e.Name, e.Value))
			}
		}
		if e.Kind != EditReplace || name == "" || e.Index <= n {
			return
		}
		if i := added(end.after, name); i >= 0 {
			end.after[i] = written(e.Name, e.Value)
		} else {
			end.after = append(end.after, written(e.Name, e.Value))
		}
	case EditPrefix:
		i := slices.IndexFunc(h, func(f field) bool { return f.name == name && name != "" && !f.gone })
		if i >= 0 {
			h[i].text = prefixed(h[i].text, e.Value)
		} else if i = added(end.after, name); i >= 0 {
			end.after[i] = string(prefixed([]byte(end.after[i]), e.Value))
		} else {
			end.after = append(end.after, written(e.Name, strings.TrimSpace(encodedPrefix(e.Value))))
		}
	}
}

// added finds a field, by its name in lower case, among those that an edit before
// this one has added; -1: none has.
func added(fields []string, name string) int {
	return slices.IndexFunc(fields, func(f string) bool {
		before, _, _ := strings.Cut(f, ":")
		return strings.ToLower(before) == name
	})
}

func written(name, value string) string { return name + ": " + value + "\r\n" }

// encodedPrefix is a prefix as a header may hold it. The blank at its end is
// within the encoded word: between two such words it would not be shown
// (RFC 2047 6.2).
func encodedPrefix(prefix string) string {
	prefix = strings.TrimSpace(prefix) + " "
	if word := mime.QEncoding.Encode("utf-8", prefix); word != prefix {
		return word + " "
	}
	return prefix
}

// longLine is what a line should not exceed (RFC 5322 2.1.1).
const longLine = 78

func prefixed(text []byte, prefix string) []byte {
	name, value, _ := bytes.Cut(text, []byte{':'})
	value = bytes.TrimLeft(value, " \t")
	prefix = encodedPrefix(prefix)
	if bytes.HasPrefix(value, []byte(strings.TrimSpace(prefix))) {
		return text
	}
	first, _, _ := bytes.Cut(value, []byte{'\r'})
	out := slices.Concat(name, []byte(": "+prefix))
	if len(out)+len(first) > longLine && len(bytes.TrimSpace(first)) > 0 {
		out = append(out, "\r\n "...) // the blank before is part of the fold
	}
	return append(out, value...)
}

// ErrLongHeader is a header that is longer than it may be.
var ErrLongHeader = errors.New("header is too long")

// ReadHeader reads the header of a message: its fields, without the empty line
// or whatever else ends it, at most limit bytes of them. A longer one is
// ErrLongHeader.
func ReadHeader(r io.Reader, limit int) ([]byte, error) {
	b := bufio.NewReaderSize(io.LimitReader(r, int64(limit)+1), 4096)
	var header []byte
	for {
		start := len(header)
		for {
			part, err := b.ReadSlice('\n')
			header = append(header, part...)
			if len(header) > limit {
				return nil, fmt.Errorf("%w: more than %d bytes", ErrLongHeader, limit)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if err == io.EOF { // a line without an end is no field
					return header[:start], nil
				}
				return nil, err
			}
		}
		if !belongs(header[start:], start == 0) {
			return header[:start], nil
		}
	}
}

// belongs reports whether a line is part of a header. At its start it may be
// the envelope line of an mbox file.
func belongs(line []byte, first bool) bool {
	if blank(line[0]) {
		return !first
	}
	if _, ok := fieldName(line); ok {
		return true
	}
	return first && bytes.HasPrefix(bytes.TrimPrefix(line, []byte(">")), []byte("From "))
}
