package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Errors of records that change nothing.
var (
	// errGarbage is a record that can't be read as an apply.
	errGarbage = errors.New("record is no apply")
	// errLost is an apply whose base isn't the head: another one won.
	errLost = errors.New("apply is not based on the head")
)

// fold is the directory as the records of the topic make it, one by one. All
// readers agree on which records count, whatever version they are: that is
// decided by numbers alone. Whether the documents are understood is asked when
// a snapshot is made.
type fold struct {
	number  uint64
	at      time.Time // append time of the head
	offset  int64     // of the head, -1: none
	full    int64     // offset of the newest full record, -1: none
	since   int       // records since that
	docs    map[Ref]entry
	lineage lineage
	resume  bool // the next record may be a full one of any base: reading starts there

	next int64          // offset to read on from
	won  map[int64]bool // records that counted in the last read
}

// entry is a document on the topic; err says why it isn't understood.
type entry struct {
	doc Document
	err error
}

func newFold() *fold { return &fold{docs: map[Ref]entry{}, offset: -1, full: -1} }

// take applies a record. An error means that it changed nothing.
func (f *fold) take(r bus.Record) (*pb.Apply, error) {
	a, err := decodeApply(r)
	if err != nil {
		return nil, err
	}
	first := f.resume && a.Full
	if !first && a.Base != f.number {
		return a, fmt.Errorf("%w: number %d is based on %d, the head is %d", errLost, a.Number, a.Base, f.number)
	}
	f.resume = false
	if a.Full {
		f.docs, f.full, f.since = map[Ref]entry{}, r.Offset, 0
	}
	for _, d := range a.Documents {
		ref := Ref{d.Kind, d.Name}
		if d.Yaml == "" {
			delete(f.docs, ref)
			continue
		}
		f.docs[ref] = readEntry(a.Number, ref, d.Yaml)
	}
	f.lineage = f.lineage.merge(a)
	f.number, f.offset, f.at = a.Number, r.Offset, r.Time
	f.since++
	return a, nil
}

func decodeApply(r bus.Record) (*pb.Apply, error) {
	a := &pb.Apply{}
	if err := proto.Unmarshal(r.Value, a); err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	switch {
	case a.Number == 0 || a.Number != a.Base+1:
		return nil, fmt.Errorf("%w: number %d on base %d", errGarbage, a.Number, a.Base)
	case len(a.Documents) == 0 && !a.Full:
		return nil, fmt.Errorf("%w: it changes nothing", errGarbage)
	}
	return a, nil
}

func readEntry(number uint64, ref Ref, text string) entry {
	file := fmt.Sprintf("directory number %d, %s", number, mail.Printable(ref.String()))
	docs, err := Parse(File{Name: file, Data: []byte(text), stored: true})
	switch {
	case err != nil:
	case len(docs) != 1 || docs[0].Ref != ref:
		err = &Error{File: file, Reason: "holds another document than it is called"}
	default:
		docs[0].lines = nil
		return entry{doc: docs[0]}
	}
	shown := text
	if ref.Kind == KindCredential || ref.Kind == KindWebhook { // whatever it holds
		shown = fmt.Sprintf("kind: %s\nname: %q\n# this version doesn't understand the rest\n", ref.Kind, ref.Name)
	}
	return entry{doc: Document{Ref: ref, YAML: shown, text: text, file: file}, err: err}
}

// snapshot makes the snapshot at the head. An error tells that a document
// isn't understood by this version, or that the whole isn't consistent.
func (f *fold) snapshot() (*Snapshot, error) {
	var errs Errors
	for _, e := range f.docs {
		if e.err != nil {
			errs = append(errs, &Error{Reason: e.err.Error()})
		}
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	return newSnapshot(f.number, f.documents(), f.lineage)
}

func (f *fold) documents() []Document {
	docs := make([]Document, 0, len(f.docs))
	for _, e := range f.docs {
		docs = append(docs, e.doc)
	}
	return docs
}

// refs are the names of all documents, in order.
func (f *fold) refs() []Ref { return slices.SortedFunc(maps.Keys(f.docs), compareRefs) }

// read takes what was published since the last read, and remembers which
// records counted.
func (f *fold) read(ctx context.Context, b *bus.Bus) error {
	f.won = map[int64]bool{}
	if f.offset < 0 {
		if err := f.seek(ctx, b); err != nil {
			return err
		}
	}
	err := b.Read(ctx, []string{schemas.Directory}, f.start(), func(r bus.Record) error {
		if _, err := f.take(r); err == nil {
			f.won[r.Offset] = true
		}
		f.next = r.Offset + 1
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the directory: %w", err)
	}
	return nil
}
