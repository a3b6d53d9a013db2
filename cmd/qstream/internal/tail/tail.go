// Package tail prints records of any topic: as text for people, as JSON for
// programs, or as they are.
//
// Guarantee: text that came from outside is made printable before it is shown
// to people; a record that can't be decoded is shown with its error; secrets of
// the directory are hidden, unless values are asked for as they are.
package tail

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Format is how records are printed.
type Format int

// Formats.
const (
	Text Format = iota // one line, long bytes as their size
	JSON               // one line, everything
	Raw                // the value's bytes and a line feed
)

// longBytes is from where on text shows bytes as their size.
const longBytes = 64

// Print writes one record.
func Print(w io.Writer, f Format, r bus.Record) error {
	var line []byte
	var err error
	switch f {
	case Raw:
		line = r.Value
	case JSON:
		line, err = asJSON(r)
	default:
		line = []byte(asText(r))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

// decode reads the value; typ is the record header that tells kinds apart.
func decode(r bus.Record) (proto.Message, error) {
	m, err := schemas.Decode(r.Topic, header(r, bus.HeaderType), r.Value)
	if a, ok := m.(*pb.Apply); ok && err == nil {
		return directory.Shown(a), nil
	}
	return m, err
}

func header(r bus.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// asText is a record on one line: when and where, its headers, its value.
func asText(r bus.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%d@%d", r.Time.UTC().Format("2006-01-02 15:04:05.000Z"), r.Topic, r.Partition, r.Offset)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %s=%s", h.Key, h.Value)
	}
	m, err := decode(r)
	if err != nil {
		fmt.Fprintf(&b, " (%d bytes: %s)", len(r.Value), err)
		return mail.Printable(b.String())
	}
	var long []string
	shorten(m.ProtoReflect(), &long)
	value, err := schemas.JSON(m)
	if err != nil {
		fmt.Fprintf(&b, " (%d bytes: %s)", len(r.Value), err)
		return mail.Printable(b.String())
	}
	fmt.Fprintf(&b, " %s %s", m.ProtoReflect().Descriptor().Name(), value)
	for _, l := range long {
		b.WriteString(" " + l)
	}
	return mail.Printable(b.String())
}

// shorten empties long bytes in m and notes their sizes.
func shorten(m protoreflect.Message, long *[]string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
		case f.IsList():
			if f.Message() != nil {
				for i := range v.List().Len() {
					shorten(v.List().Get(i).Message(), long)
				}
			}
		case f.Message() != nil:
			shorten(v.Message(), long)
		case f.Kind() == protoreflect.BytesKind && len(v.Bytes()) >= longBytes:
			*long = append(*long, fmt.Sprintf("(%s: %d bytes)", f.Name(), len(v.Bytes())))
			m.Set(f, protoreflect.ValueOfBytes(nil))
		}
		return true
	})
}

// recordJSON is a record as JSON. What can't be decoded has error and raw.
type recordJSON struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Time      time.Time         `json:"time"`
	Key       string            `json:"key,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	Type      string            `json:"type,omitempty"`
	Value     json.RawMessage   `json:"value,omitempty"`
	Error     string            `json:"error,omitempty"`
	Raw       []byte            `json:"raw,omitempty"`
}

func asJSON(r bus.Record) ([]byte, error) {
	out := recordJSON{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time.UTC(), Key: string(r.Key)}
	for _, h := range r.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[h.Key] = string(h.Value)
	}
	m, err := decode(r)
	if err == nil {
		out.Type = string(m.ProtoReflect().Descriptor().FullName())
		out.Value, err = schemas.JSON(m)
	}
	if err != nil {
		out.Error, out.Raw, out.Type, out.Value = err.Error(), r.Value, "", nil
	}
	return json.Marshal(out)
}
