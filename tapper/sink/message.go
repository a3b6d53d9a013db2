package sink

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"

	"qstream/mail"
)

// Form is what a copy looks like where it is kept as mail.
type Form string

const (
	// Raw is the message as it is delivered. What the envelope said stands in
	// fields before it: X-Qstream-Copy, X-Qstream-Envelope-From and a
	// X-Qstream-Envelope-To for each recipient.
	Raw Form = "raw"
	// Report is a journal report, in the format of Exchange: a part that tells
	// the envelope, and the message in a part of its own.
	Report Form = "report"
)

// Message is a copy as one mail: lines ended by CRLF, its size known.
type Message struct {
	Size int64
	head []byte
	copy *Copy
	wrap bool // content goes in base64
	tail []byte
}

// Mail makes a mail of a copy. Me is the name of this system. What has no
// message, and what is sealed, is a report whatever the form says.
func Mail(ctx context.Context, c *Copy, form Form, me string) (*Message, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	m := &Message{copy: c, wrap: c.Sealed}
	if form == Raw && c.Open != nil && !c.Sealed {
		m.head = rawHead(c)
		m.Size = int64(len(m.head)) + c.Size
		return m, nil
	}
	if err := m.report(ctx, me); err != nil {
		return nil, err
	}
	m.Size = int64(len(m.head) + len(m.tail))
	switch {
	case c.Open != nil && m.wrap:
		m.Size += wrapped(c.Size)
	case c.Open != nil:
		m.Size += c.Size
	}
	return m, nil
}

// Open reads the mail from its beginning. It fails instead of ending where the
// content does, or where that is not of the size that the copy told.
func (m *Message) Open(ctx context.Context) (io.ReadCloser, error) {
	if m.copy.Open == nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(m.head), bytes.NewReader(m.tail))), nil
	}
	content, err := m.copy.Open(ctx)
	if err != nil {
		return nil, err
	}
	var body io.Reader = &sized{r: content, left: m.copy.Size}
	if m.wrap {
		body = &wrapper{r: body}
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(m.head), body, bytes.NewReader(m.tail)), content}, nil
}

// ErrSize is content of another size than was told.
var ErrSize = errors.New("content has another size than was told")

// sized fails where content is longer or shorter than was told.
type sized struct {
	r    io.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.left -= int64(n)
	if s.left < 0 || err == io.EOF && s.left > 0 {
		return 0, ErrSize
	}
	return n, err
}

// rawHead are the fields before a message as it is.
func rawHead(c *Copy) []byte {
	var b bytes.Buffer
	field(&b, "X-Qstream-Copy", c.ID)
	field(&b, "X-Qstream-Subscription", c.Subscription+"; "+c.sequence())
	field(&b, "X-Qstream-Envelope-From", "<"+c.Received.GetEnvelope().GetReversePath()+">")
	for _, r := range c.Recipients {
		field(&b, "X-Qstream-Envelope-To", "<"+r.Address+">")
	}
	return b.Bytes()
}

func (c *Copy) sequence() string {
	if c.Lane == "" {
		return strconv.FormatUint(c.Sequence, 10)
	}
	return c.Lane + "/" + strconv.FormatUint(c.Sequence, 10)
}

// field writes a header field whose value is hostile text, in one line of at
// most 998 octets (RFC 5322 2.1.1).
func field(b *bytes.Buffer, name, value string) {
	value = strings.TrimSpace(mail.Printable(value))
	if room := 998 - len(name) - 2; len(value) > room {
		value = strings.ToValidUTF8(value[:room], "")
	}
	fmt.Fprintf(b, "%s: %s\r\n", name, value)
}

// encoded is a value as RFC 2047 writes it, where it isn't ASCII.
func encoded(value string) string { return mime.QEncoding.Encode("utf-8", mail.Printable(value)) }

const lineOctets = 57 // 76 characters in base64

// wrapped is the size of n octets in lines of base64.
func wrapped(n int64) int64 {
	full, rest := n/lineOctets, n%lineOctets
	size := full * (76 + 2)
	if rest > 0 {
		size += (rest+2)/3*4 + 2
	}
	return size
}

// wrapper reads in lines of base64.
type wrapper struct {
	r    io.Reader
	raw  [lineOctets * 256]byte
	line []byte
	err  error
}

func (w *wrapper) Read(p []byte) (int, error) {
	for len(w.line) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		var n int
		n, w.err = io.ReadFull(w.r, w.raw[:])
		if w.err == io.ErrUnexpectedEOF {
			w.err = io.EOF
		}
		if w.err != nil && w.err != io.EOF {
			continue
		}
		for part := w.raw[:n]; len(part) > 0; {
			end := min(lineOctets, len(part))
			w.line = append(base64.StdEncoding.AppendEncode(w.line, part[:end]), "\r\n"...)
			part = part[end:]
		}
	}
	n := copy(p, w.line)
	w.line = w.line[n:]
	return n, nil
}
