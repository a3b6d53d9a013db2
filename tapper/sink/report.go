package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"time"

	"qstream/mail"
)

// headerLimit bounds what is read of a message's header to tell its fields.
const headerLimit = 256 << 10

// told is what a report tells of a message's header.
type told struct {
	subject string
	lists   map[string][]string // "to", "cc", "bcc": addresses
}

// report fills head and tail with a journal report. Its first part has a line
// for Sender, Subject and Message-ID and one for each recipient, as published:
//
//	To: addr / Cc: addr / Bcc: addr / Recipient: addr
//	To: addr, Forwarded: addr
//
// A recipient is To, Cc or Bcc where the header says so, else Recipient.
// Forwarded names the original recipient that the sender's side told (ORCPT).
// Nothing here expands lists, so no line has Expanded.
func (m *Message) report(ctx context.Context, me string) error {
	c := m.copy
	var t told
	if c.Open != nil && !c.Sealed {
		var err error
		if t, err = c.header(ctx); err != nil {
			return fmt.Errorf("read header of %s: %w", c.MessageID, err)
		}
	}
	info, err := c.JSON()
	if err != nil {
		return err
	}
	boundary := c.boundary()
	var b bytes.Buffer
	at := c.Accepted
	if c.Event != nil {
		at = time.UnixMilli(c.Event.AtMs)
	}
	field(&b, "From", "qstream <postmaster@"+me+">")
	field(&b, "To", "undisclosed-recipients:;")
	field(&b, "Subject", encoded(c.title(t)))
	if !at.IsZero() {
		field(&b, "Date", at.UTC().Format(time.RFC1123Z))
	}
	field(&b, "Message-ID", "<"+c.ID+"@"+me+">")
	b.WriteString("X-MS-Journal-Report:\r\n")
	field(&b, "X-Qstream-Copy", c.ID)
	field(&b, "X-Qstream-Subscription", c.Subscription+"; "+c.sequence())
	field(&b, "Auto-Submitted", "auto-generated")
	b.WriteString("MIME-Version: 1.0\r\n")
	fmt.Fprintf(&b, "Content-Type: multipart/mixed;\r\n\tboundary=\"%s\"\r\n\r\n", boundary)
	part(&b, boundary, "text/plain; charset=utf-8", "8bit")
	c.envelope(&b, t)
	switch {
	case c.Sealed:
		part(&b, boundary, "application/octet-stream; name=\""+c.ID+".age\"", "base64")
	case c.Open != nil:
		part(&b, boundary, "message/rfc822", "8bit")
	default:
		part(&b, boundary, "application/json", "8bit")
		b.Write(info)
	}
	m.head, m.tail = b.Bytes(), []byte("\r\n--"+boundary+"--\r\n")
	return nil
}

func part(b *bytes.Buffer, boundary, typ, encoding string) {
	fmt.Fprintf(b, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", boundary, typ, encoding)
}

// boundary is the same for a repetition. Whoever wrote the content can't have
// put it in: it follows from the content's hash.
func (c *Copy) boundary() string {
	sum := sha256.Sum256([]byte(c.ID + "\x00" + string(c.Received.GetContent().GetSha256())))
	return fmt.Sprintf("=_qstream_%x", sum[:20])
}

// title is the report's own subject.
func (c *Copy) title(t told) string {
	switch {
	case c.Sealed:
		return "Sealed copy " + c.ID
	case c.Kind == Outcome:
		return "Outcome of " + c.MessageID
	case c.Kind == Envelope:
		return "Envelope of " + c.MessageID
	case t.subject == "":
		return "Copy of " + c.MessageID
	}
	return t.subject
}

// envelope writes the report's first part.
func (c *Copy) envelope(b *bytes.Buffer, t told) {
	if c.Sealed {
		fmt.Fprintf(b, "Sealed: %s\r\n", c.ID)
		return
	}
	line := func(name, value string) { field(b, name, value) }
	line("Sender", c.Received.GetEnvelope().GetReversePath())
	line("Subject", t.subject)
	line("Message-ID", c.Received.GetHeaderMessageId())
	for _, r := range c.Recipients {
		value := r.Address
		if original := originalOf(r.Orcpt); original != "" && !strings.EqualFold(original, r.Address) {
			value += ", Forwarded: " + original
		}
		line(t.field(r.Address), value)
	}
	if c.Event == nil {
		return
	}
	e := event(c.Event)
	line("Event", e.Type)
	line("Time", e.At.Format(time.RFC3339))
	for _, o := range e.Outcomes {
		line("Outcome", fmt.Sprintf("%s %d %s %s", o.Address, o.Code, o.Enhanced, o.Text))
	}
}

// originalOf is the address of an ORCPT that is one (RFC 3461 4.2).
func originalOf(orcpt string) string {
	typ, address, ok := strings.Cut(orcpt, ";")
	if !ok || !strings.EqualFold(typ, "rfc822") || strings.ContainsAny(address, ",") {
		return ""
	}
	return address
}

// field is the line's name for a recipient.
func (t told) field(address string) string {
	for _, f := range []struct{ name, shown string }{{"to", "To"}, {"cc", "Cc"}, {"bcc", "Bcc"}} {
		if slices.ContainsFunc(t.lists[f.name], func(a string) bool { return strings.EqualFold(a, address) }) {
			return f.shown
		}
	}
	return "Recipient"
}

// header reads what is told of the message's header. What is no header, or too
// long, tells nothing.
func (c *Copy) header(ctx context.Context) (told, error) {
	content, err := c.Open(ctx)
	if err != nil {
		return told{}, err
	}
	defer content.Close()
	text, err := mail.ReadHeader(content, headerLimit)
	if errors.Is(err, mail.ErrLongHeader) {
		return told{}, nil
	}
	if err != nil {
		return told{}, err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	fields, _, err := mail.ReadFields(func() ([]byte, error) {
		if len(lines) == 0 {
			return nil, io.EOF
		}
		line := lines[0]
		lines = lines[1:]
		return line, nil
	}, headerLimit+1)
	if err != nil {
		return told{}, err
	}
	t := told{lists: map[string][]string{}}
	for _, name := range []string{"to", "cc", "bcc"} {
		for _, list := range fields.Values(name) {
			addresses, _ := mail.ParseList(list, "") // a list that can't be read names nobody
			t.lists[name] = append(t.lists[name], addresses...)
		}
	}
	if subjects := fields.Values("subject"); len(subjects) > 0 {
		t.subject = decoded(subjects[0])
	}
	return t, nil
}

// decoded is a field's text for people: unfolded, RFC 2047 undone where that is
// possible.
func decoded(value string) string {
	value = strings.TrimSpace(mail.Printable(strings.NewReplacer("\r\n", "", "\n", "").Replace(value)))
	if text, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		value = strings.TrimSpace(mail.Printable(text))
	}
	return value
}
