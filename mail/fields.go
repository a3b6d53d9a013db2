package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrHeaderTooLong is a header above the limit of ReadFields.
var ErrHeaderTooLong = errors.New("header too long")

// Field is a header field with its folds, lines ended by LF.
type Field struct{ Text string }

// Name is the field's name in lower case.
func (f Field) Name() string {
	name, _, _ := strings.Cut(f.Text, ":")
	return strings.ToLower(strings.TrimRight(name, " \t"))
}

// Value is what follows the colon, folded as it came.
func (f Field) Value() string {
	_, value, _ := strings.Cut(f.Text, ":")
	return value
}

// Fields are those of a header, in their order.
type Fields []Field

// Values are the values of all fields with one of these names.
func (h Fields) Values(names ...string) (all []string) {
	for _, f := range h {
		for _, name := range names {
			if f.Name() == name {
				all = append(all, f.Value())
			}
		}
	}
	return all
}

// Recipients are the lists of addresses that the header names recipients by:
// To, Cc and Bcc, or of a message that was sent again its Resent fields.
func (h Fields) Recipients() []string {
	if again := h.Values("resent-to", "resent-cc", "resent-bcc"); len(again) > 0 {
		return again
	}
	return h.Values("to", "cc", "bcc")
}

// Sent is the header as it goes on to recipients: without Bcc and Return-Path.
func (h Fields) Sent() string {
	var b strings.Builder
	for _, f := range h {
		switch f.Name() {
		case "bcc", "resent-bcc", "return-path":
		default:
			b.WriteString(f.Text)
		}
	}
	return b.String()
}

// ReadFields reads fields from lines up to the empty line, which is left out,
// or up to a line that is no field: the body begins with it, rest holds it. next
// returns a line with its end, and io.EOF behind the last. A first line that
// mailbox files have before a message is passed over.
func ReadFields(next func() ([]byte, error), limit int) (h Fields, rest []byte, err error) {
	size := 0
	var open []byte // the last field, which may go on
	ended := func() Fields {
		if len(open) > 0 {
			h, open = append(h, Field{string(open)}), open[:0]
		}
		return h
	}
	for {
		line, err := next()
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return ended(), nil, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		text := string(bytes.TrimRight(line, "\r\n"))
		if size += len(line); size > limit {
			return nil, nil, fmt.Errorf("%w: more than %d octets", ErrHeaderTooLong, limit)
		}
		switch {
		case text == "":
			return ended(), nil, nil
		case size == len(line) && strings.HasPrefix(text, "From "):
			size++
		case (text[0] == ' ' || text[0] == '\t') && len(open) > 0:
			open = append(open, text+"\n"...)
		case isFieldLine(text):
			ended()
			open = append(open, text+"\n"...)
		default:
			return ended(), line, nil
		}
	}
}

// isFieldLine reports whether a line begins a header field.
func isFieldLine(s string) bool {
	name, _, ok := strings.Cut(s, ":")
	return ok && isFieldName([]byte(strings.TrimRight(name, " \t")))
}
