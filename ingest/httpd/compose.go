package httpd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strings"
)

// description is a message that is to be made.
type description struct {
	From        string            `json:"from"`
	Sender      string            `json:"sender"`
	ReplyTo     addressList       `json:"reply_to"`
	To          addressList       `json:"to"`
	Cc          addressList       `json:"cc"`
	Bcc         addressList       `json:"bcc"` // recipients whom no header names
	Subject     string            `json:"subject"`
	Text        *string           `json:"text"`
	HTML        *string           `json:"html"`
	Headers     map[string]string `json:"headers"`
	Attachments []attachment      `json:"attachments"`
}

type attachment struct {
	Filename    string `json:"filename"`
	ContentType string `json:"content_type"` // default: application/octet-stream
	ContentID   string `json:"content_id"`   // what the HTML refers to it by, without <>
	Content     []byte `json:"content"`      // base64
}

// addressList is an address, or a list of them, as a header has it: "Ann
// <ann@acme.example>".
type addressList []string

func (l *addressList) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*l = make(addressList, 1)
		return json.Unmarshal(text, &(*l)[0])
	}
	return json.Unmarshal(text, (*[]string)(l))
}

func (l addressList) parse(field string) (all []*netmail.Address, err error) {
	for _, text := range l {
		a, err := netmail.ParseAddress(text)
		if err != nil || hasControl(a.Name) || hasControl(a.Address) {
			return nil, fmt.Errorf("%s: %q is no address", field, text)
		}
		all = append(all, a)
	}
	return all, nil
}

// into makes the message, and what its envelope lacks.
func (d *description) into(s *submission, hasFrom bool) error {
	var out bytes.Buffer
	from, to, err := d.header(&out)
	if err != nil {
		return err
	}
	if !hasFrom {
		s.from = from
	}
	if len(s.to) == 0 {
		s.addressTo(to)
	}
	if len(s.to) == 0 {
		return errors.New("no recipients")
	}
	if err := d.body(&out); err != nil {
		return err
	}
	s.content = &out
	return nil
}

// header writes the fields before the body's own.
func (d *description) header(out *bytes.Buffer) (from string, to []string, err error) {
	if d.From == "" {
		return "", nil, errors.New("from is missing")
	}
	for _, f := range []struct {
		name      string
		list      addressList
		recipient bool
	}{
		{"From", addressList{d.From}, false}, {"Sender", one(d.Sender), false}, {"Reply-To", d.ReplyTo, false},
		{"To", d.To, true}, {"Cc", d.Cc, true}, {"Bcc", d.Bcc, true},
	} {
		all, err := f.list.parse(f.name)
		if err != nil {
			return "", nil, err
		}
		var texts []string
		for _, a := range all {
			if f.name == "From" || f.name == "Sender" {
				from = a.Address
			}
			if f.recipient {
				to = append(to, a.Address)
			}
			texts = append(texts, a.String())
		}
		if len(texts) > 0 && f.name != "Bcc" {
			if err := field(out, f.name, strings.Join(texts, ", ")); err != nil {
				return "", nil, err
			}
		}
	}
	if d.Subject != "" {
		if err := unstructured(out, "Subject", d.Subject); err != nil {
			return "", nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		if err := custom(out, name, d.Headers[name]); err != nil {
			return "", nil, err
		}
	}
	return from, to, nil
}

func one(address string) addressList {
	if address == "" {
		return nil
	}
	return addressList{address}
}

// ours are fields that a description has keys for, that the body makes, or
// that only servers write.
var ours = []string{"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "mime-version", "return-path", "received", "authentication-results", "received-spf"}

// custom writes a field of the client's.
func custom(out *bytes.Buffer, name, value string) error {
	lower := strings.ToLower(name)
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) >= 0 {
		return fmt.Errorf("%q is no name of a header field", name)
	}
	if slices.Contains(ours, lower) || strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "resent-") {
		return fmt.Errorf("header field %s can't be set like this", name)
	}
	return unstructured(out, name, value)
}

// unstructured writes a field of text, encoded where it needs to be (RFC 2047).
func unstructured(out *bytes.Buffer, name, value string) error {
	if hasControl(value) { // encoded, it would come out at somebody's who trusts it
		return fmt.Errorf("a control character in %s", name)
	}
	return field(out, name, mime.QEncoding.Encode("utf-8", value))
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// maxWord is the longest part of a field without a blank; a line of 998 octets
// (RFC 5322 2.1.1) holds it with the field's name.
const maxWord = 900

// field writes a field, folded at its blanks. A value with a control character
// would begin another field, or end the header: it is refused.
func field(out *bytes.Buffer, name, value string) error {
	if hasControl(value) {
		return fmt.Errorf("a control character in %s", name)
	}
	out.WriteString(name + ":")
	column := len(name) + 1
	for word := range strings.SplitSeq(value, " ") {
		if len(word)+len(name) > maxWord {
			return fmt.Errorf("a word of more than %d octets in %s", maxWord, name)
		}
		if column+1+len(word) > 76 && column > len(name)+1 && word != "" {
			out.WriteString("\r\n")
			column = 0
		}
		out.WriteString(" " + word)
		column += 1 + len(word)
	}
	out.WriteString("\r\n")
	return nil
}

// part writes a body part: its own fields first.
type part struct {
	header textproto.MIMEHeader
	write  func(io.Writer) error
}

// body writes text, HTML and attachments as RFC 2046 and RFC 2387 nest them.
func (d *description) body(out *bytes.Buffer) error {
	var inline, apart []part
	for _, a := range d.Attachments {
		p, err := a.part()
		if err != nil {
			return err
		}
		if a.ContentID != "" && d.HTML != nil {
			inline = append(inline, p)
		} else {
			apart = append(apart, p)
		}
	}
	var texts []part
	if d.Text != nil || d.HTML == nil {
		text := ""
		if d.Text != nil {
			text = *d.Text
		}
		texts = append(texts, textPart("plain", text))
	}
	if d.HTML != nil {
		html := textPart("html", *d.HTML)
		if len(inline) > 0 {
			html = several("related", append([]part{html}, inline...))
			html.header.Set("Content-Type", html.header.Get("Content-Type")+`; type="text/html"`)
		}
		texts = append(texts, html)
	}
	whole := texts[0]
	if len(texts) > 1 {
		whole = several("alternative", texts)
	}
	if len(apart) > 0 {
		whole = several("mixed", append([]part{whole}, apart...))
	}
	out.WriteString("MIME-Version: 1.0\r\n")
	for _, name := range slices.Sorted(maps.Keys(whole.header)) {
		if err := field(out, name, whole.header.Get(name)); err != nil {
			return err
		}
	}
	out.WriteString("\r\n")
	return whole.write(out)
}

// textPart is text in UTF-8, with short lines in ASCII.
func textPart(kind, text string) part {
	return part{
		header: textproto.MIMEHeader{"Content-Type": {"text/" + kind + "; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}},
		write: func(w io.Writer) error {
			q := quotedprintable.NewWriter(w)
			if _, err := io.WriteString(q, text); err != nil {
				return err
			}
			return q.Close()
		},
	}
}

// part is the attachment. What has parts of its own can't be base64 (RFC 2046
// 5.1), and is refused.
func (a attachment) part() (part, error) {
	kind := a.ContentType
	if kind == "" {
		kind = "application/octet-stream"
	}
	name, params, err := mime.ParseMediaType(kind)
	if err != nil || slices.ContainsFunc(slices.Collect(maps.Values(params)), hasControl) || !strings.Contains(name, "/") || strings.HasPrefix(name, "multipart/") || strings.HasPrefix(name, "message/") {
		return part{}, fmt.Errorf("an attachment can't be of content type %q", a.ContentType)
	}
	disposition := map[string]string{}
	if hasControl(a.Filename) { // encoded, it would come out where it is stored
		return part{}, fmt.Errorf("a control character in file name %q", a.Filename)
	}
	if a.Filename != "" {
		disposition["filename"] = a.Filename
	}
	h := textproto.MIMEHeader{
		"Content-Type":              {mime.FormatMediaType(name, params)},
		"Content-Transfer-Encoding": {"base64"},
		"Content-Disposition":       {mime.FormatMediaType("attachment", disposition)},
	}
	if a.ContentID != "" {
		if strings.IndexFunc(a.ContentID, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' || r == '>' }) >= 0 {
			return part{}, fmt.Errorf("%q is no content id", a.ContentID)
		}
		h["Content-Disposition"] = []string{mime.FormatMediaType("inline", disposition)}
		h["Content-Id"] = []string{"<" + a.ContentID + ">"}
	}
	for name, values := range h {
		if err := field(&bytes.Buffer{}, name, values[0]); err != nil || values[0] == "" || len(values[0]) > maxWord {
			return part{}, fmt.Errorf("attachment %q: no %s can be made of this", a.Filename, name)
		}
	}
	return part{header: h, write: func(w io.Writer) error { return writeBase64(w, a.Content) }}, nil
}

// several is a multipart of parts.
func several(kind string, parts []part) part {
	boundary := multipart.NewWriter(io.Discard).Boundary() // random
	return part{
		header: textproto.MIMEHeader{"Content-Type": {"multipart/" + kind + "; boundary=" + boundary}},
		write: func(w io.Writer) error {
			m := multipart.NewWriter(w)
			if err := m.SetBoundary(boundary); err != nil {
				return err
			}
			for _, p := range parts {
				inner, err := m.CreatePart(p.header)
				if err != nil {
					return err
				}
				if err := p.write(inner); err != nil {
					return err
				}
			}
			return m.Close()
		},
	}
}

// base64Line is what makes a line of 76 characters.
const base64Line = 57

func writeBase64(w io.Writer, data []byte) error {
	line := make([]byte, 0, 78)
	for chunk := range slices.Chunk(data, base64Line) {
		line = append(base64.StdEncoding.AppendEncode(line[:0], chunk), '\r', '\n')
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
