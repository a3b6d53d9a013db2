package sendmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"time"

	"qstream/mail"
)

// maxHeader bounds a header that is held, in octets.
const maxHeader = 1 << 20

// Identity is who calls, and where.
type Identity struct {
	User     string // of the system
	Host     string // behind addresses without a domain
	FullName string // of the user; -F goes before it
	Now      time.Time
}

// Message is what is to be handed over. Content is read once.
type Message struct {
	ReversePath string
	Recipients  []string
	Content     io.Reader // lines as they came in
}

// errData is a message that can't be sent for what it says.
type errData struct{ error }

// BadData reports whether an error of Compose is the message's own.
func BadData(err error) bool { var d errData; return errors.As(err, &d) }

// Compose reads the header, finds sender and recipients, and adds From, Date
// and Message-ID where they are missing. Bcc and Return-Path are taken out. Text
// that begins without a header gets one.
func (r Request) Compose(in io.Reader, id Identity) (Message, error) {
	lines := &lines{in: bufio.NewReaderSize(in, 64<<10), dots: !r.WholeInput}
	fields, err := lines.header()
	if err != nil {
		return Message{}, err
	}
	m := Message{ReversePath: id.User + "@" + id.Host}
	if r.ReversePath != nil {
		if m.ReversePath, err = one(*r.ReversePath, id.Host); err != nil {
			return m, errData{fmt.Errorf("-f: %w", err)}
		}
	}
	if m.Recipients, err = r.recipients(fields, id.Host); err != nil {
		return m, errData{err}
	}
	var head bytes.Buffer
	head.WriteString(fields.Sent())
	r.complete(&head, fields, id, m.ReversePath)
	head.WriteByte('\n')
	m.Content = io.MultiReader(&head, lines)
	return m, nil
}

// one is a single address, or the empty one.
func one(s, host string) (string, error) {
	if s == "" {
		return "", nil
	}
	all, err := mail.ParseList(s, host)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("%s is no address", mail.Printable(s))
	}
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// recipients are the arguments', and the header's by -t; of a message that was
// sent again, those of its Resent fields. Who comes twice is kept once.
func (r Request) recipients(fields mail.Fields, host string) (all []string, err error) {
	lists := r.Recipients
	if r.FromHeader {
		lists = append(lists[:len(lists):len(lists)], fields.Recipients()...)
	}
	seen := map[string]bool{}
	for _, list := range lists {
		found, err := mail.ParseList(list, host)
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			if !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no recipients in the message's header")
	}
	return all, nil
}

// complete adds what a header must have (RFC 5322 3.6).
func (r Request) complete(head *bytes.Buffer, fields mail.Fields, id Identity, reversePath string) {
	has := map[string]bool{}
	for _, f := range fields {
		has[f.Name()] = true
	}
	if !has["from"] {
		from, name := reversePath, r.FullName
		if from == "" {
			from = id.User + "@" + id.Host
		}
		if name == "" {
			name = id.FullName
		}
		if name = strings.Join(strings.Fields(mail.Printable(name)), " "); name != "" {
			from = phrase(name) + " <" + from + ">"
		}
		fmt.Fprintf(head, "From: %s\n", from)
	}
	if !has["date"] {
		fmt.Fprintf(head, "Date: %s\n", id.Now.Format(time.RFC1123Z))
	}
	if !has["message-id"] {
		fmt.Fprintf(head, "Message-ID: <%s@%s>\n", mail.NewID(id.Now), id.Host)
	}
}

// phrase is a display name as a header carries it.
func phrase(name string) string {
	if encoded := mime.QEncoding.Encode("utf-8", name); encoded != name {
		return encoded
	}
	if strings.ContainsAny(name, `()<>[]:;@\,."`) {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name
}

// lines reads a message up to its end, or to a lone dot.
type lines struct {
	in    *bufio.Reader
	dots  bool // a lone dot ends the message
	owed  []byte
	begun bool // in the midst of a line
	ended bool
}

// header reads the fields. What is no header is the body's beginning.
func (l *lines) header() (mail.Fields, error) {
	fields, rest, err := mail.ReadFields(l.line, maxHeader)
	l.owed = rest
	if errors.Is(err, mail.ErrHeaderTooLong) {
		return nil, errData{fmt.Errorf("a header of more than %d octets", maxHeader)}
	}
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	return fields, nil
}

// line is the next whole line, bounded by maxHeader.
func (l *lines) line() ([]byte, error) {
	var whole []byte
	for {
		part, err := l.piece()
		whole = append(whole, part...)
		if err != nil || len(whole) > maxHeader || bytes.HasSuffix(whole, []byte("\n")) {
			return whole, err
		}
	}
}

// piece is the next line, or a part of a long one.
func (l *lines) piece() ([]byte, error) {
	if l.ended {
		return nil, io.EOF
	}
	part, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	if l.dots && !l.begun && (string(part) == ".\n" || string(part) == ".\r\n" || string(part) == "." && err != nil) {
		l.ended = true
		return nil, io.EOF
	}
	l.begun = len(part) > 0 && part[len(part)-1] != '\n'
	return part, err
}

// Read reads the body.
func (l *lines) Read(p []byte) (int, error) {
	for len(l.owed) == 0 {
		part, err := l.piece()
		if err != nil && len(part) == 0 {
			return 0, err
		}
		l.owed = part
	}
	n := copy(p, l.owed)
	l.owed = l.owed[n:]
	return n, nil
}
