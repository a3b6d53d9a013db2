package schemas

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields that Inline looks at, as in mail.proto.
const (
	fieldID              = 1 // of Received and Reinject
	fieldReceivedContent = 4
	fieldReinjectContent = 6
	fieldInline          = 1 // of Content, as all below
	fieldRef             = 2
	fieldSha256          = 4
)

// Carried is what Inline finds in a record. Its slices alias the record's
// value.
type Carried struct {
	ID     string
	Inline []byte // the content; nil: the record refers to it
	Sha256 []byte // of the content, as its writer says
}

// Inline finds the content in the value of a received or reinject record
// without decoding the record: content is most of it, and each copy counts.
// Records of other topics carry none.
func Inline(topic string, value []byte) (Carried, error) {
	var c Carried
	number := contentField(topic)
	if number == 0 {
		return c, fmt.Errorf("records of %s carry no content", topic)
	}
	err := eachField(value, func(n protowire.Number, payload, _ []byte) error {
		switch n {
		case fieldID:
			c.ID = string(payload)
		case number:
			return eachField(payload, c.content)
		}
		return nil
	})
	if err != nil {
		return Carried{}, fmt.Errorf("decode record of %s: %w", topic, err)
	}
	return c, nil
}

// content takes one field of Content; of a oneof the last counts.
func (c *Carried) content(n protowire.Number, payload, _ []byte) error {
	switch n {
	case fieldInline:
		c.Inline = payload
	case fieldRef:
		c.Inline = nil
	case fieldSha256:
		c.Sha256 = payload
	}
	return nil
}

// WithoutInline is the value of a received or reinject record with empty
// inline content, and else as it was, for who needs everything but that. A
// value that can't be read comes back unchanged.
func WithoutInline(topic string, value []byte) []byte {
	number := contentField(topic)
	c, err := Inline(topic, value)
	if err != nil || len(c.Inline) == 0 {
		return value
	}
	out := make([]byte, 0, len(value)-len(c.Inline)+8)
	_ = eachField(value, func(n protowire.Number, payload, whole []byte) error { // was read above
		if n != number {
			out = append(out, whole...)
			return nil
		}
		out = protowire.AppendTag(out, n, protowire.BytesType)
		out = protowire.AppendBytes(out, emptied(payload))
		return nil
	})
	return out
}

// emptied is Content without the bytes of its inline field.
func emptied(content []byte) []byte {
	var out []byte
	_ = eachField(content, func(n protowire.Number, _, whole []byte) error { // was read before
		if n == fieldInline {
			out = protowire.AppendTag(out, n, protowire.BytesType)
			out = protowire.AppendVarint(out, 0)
			return nil
		}
		out = append(out, whole...)
		return nil
	})
	return out
}

func contentField(topic string) protowire.Number {
	switch topic {
	case Received:
		return fieldReceivedContent
	case Reinject:
		return fieldReinjectContent
	}
	return 0
}

// eachField hands over the fields of a message; payload is nil unless the
// field has a length, whole is the field with its tag. Numbers of the fields
// above that come as another type are unknown fields (payload nil).
func eachField(b []byte, f func(n protowire.Number, payload, whole []byte) error) error {
	for len(b) > 0 {
		n, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(n, typ, b[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		whole := b[:tag+size]
		number, payload := n, []byte(nil)
		if typ == protowire.BytesType {
			payload, _ = protowire.ConsumeBytes(b[tag:])
		} else {
			number = 0 // none of ours: all we look at have a length
		}
		if err := f(number, payload, whole); err != nil {
			return err
		}
		b = b[tag+size:]
	}
	return nil
}
