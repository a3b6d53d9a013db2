package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// ErrConflict is an apply that was based on a number that isn't the head any
// more: look at what changed and apply again.
var ErrConflict = errors.New("the directory has changed meanwhile")

// fullEvery is how many records a reader has to read at most: every so many
// applies, one holds the whole directory.
const fullEvery = 100

// attempts bounds how often an apply without a base of its own goes after a
// moving head.
const attempts = 50

// Change is what an apply asks for.
type Change struct {
	Documents []Document // put, new or in place of their namesakes
	Delete    []Ref
	Prune     bool // delete every document that isn't among Documents
}

// Options of an apply.
type Options struct {
	// Base is the number that the change was made for. Nil: whatever the head
	// is, with new attempts when others are faster.
	Base *uint64
	// Actor and Note are kept in the history. Outside text is made printable.
	Actor, Note string
	DryRun      bool
	// Retention is how long the received topic keeps mail; lifetimes it can't
	// cover are refused. 0: the broker is asked; below 0: for ever.
	Retention time.Duration
	Topics    bus.CreateOptions // of new queues' topics
	Now       func() time.Time  // default time.Now
}

// Applied is what an apply did, or would do.
type Applied struct {
	Number        uint64 // of the snapshot that is in force now
	Before, After *Snapshot
	Created       []string // topics
	Changed       bool
}

// Apply changes the directory: it reads the head, checks the whole result,
// makes the topics of new queues, publishes one record and reads on until that
// record's fate is known. The error is an Errors for what is wrong with the
// documents, or wraps ErrConflict if Base isn't the head. After any other
// error the change may have been made; applying it again is harmless.
func Apply(ctx context.Context, b *bus.Bus, c Change, o Options) (Applied, error) {
	o, err := o.complete(ctx, b)
	if err != nil {
		return Applied{}, err
	}
	var lost error
	for range attempts {
		done, err := applyOnce(ctx, b, c, o)
		if !errors.Is(err, ErrConflict) || o.Base != nil {
			return done, err
		}
		lost = err
	}
	return Applied{}, fmt.Errorf("%w; given up after %d attempts", lost, attempts)
}

func (o Options) complete(ctx context.Context, b *bus.Bus) (_ Options, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Retention == 0 {
		if o.Retention, err = b.Retention(ctx, schemas.Received); err != nil {
			return o, fmt.Errorf("ask how long mail is kept: %w", err)
		}
	}
	o.Actor, o.Note = outside(o.Actor), outside(o.Note)
	return o, nil
}

func outside(s string) string { return mail.Printable(strings.ToValidUTF8(s, " ")) }

func applyOnce(ctx context.Context, b *bus.Bus, c Change, o Options) (Applied, error) {
	head := newFold()
	if err := head.read(ctx, b); err != nil {
		return Applied{}, err
	}
	if o.Base != nil && *o.Base != head.number {
		return Applied{}, fmt.Errorf("%w: it is at number %d, the change is for %d", ErrConflict, head.number, *o.Base)
	}
	p, err := plan(head, c, o)
	if err != nil || o.DryRun || !p.Changed {
		return p.Applied, err
	}
	if p.Created, err = createTopics(ctx, b, p.Before, p.After, o); err != nil {
		return Applied{}, err
	}
	rec := bus.Record{Topic: schemas.Directory, Partition: 0, Value: p.value}
	if err := b.Publish(ctx, &rec); err != nil {
		return Applied{}, fmt.Errorf("publish the apply: %w", err)
	}
	if err := head.read(ctx, b); err != nil {
		return Applied{}, fmt.Errorf("read the apply back: %w", err)
	}
	if !head.won[rec.Offset] {
		return Applied{}, fmt.Errorf("%w: number %d is another apply", ErrConflict, p.After.Number)
	}
	return p.Applied, nil
}

// planned is an apply that was checked, and its record.
type planned struct {
	Applied
	value []byte
}

// plan works out what a change makes of the head.
func plan(head *fold, c Change, o Options) (planned, error) {
	before, fault := head.snapshot()
	docs, record, err := merge(head, c)
	if err != nil {
		return planned{}, err
	}
	if len(record.Documents) == 0 {
		return planned{Applied: Applied{Number: head.number, Before: before, After: before}}, fault
	}
	after, err := newSnapshot(head.number+1, docs, lineage{})
	if err != nil {
		return planned{}, err
	}
	if err := after.CheckRetention(o.Retention); err != nil {
		return planned{}, err
	}
	now := o.Now()
	next := head.lineage.next(before, after, now)
	after.relate(next)
	if before == nil {
		// What is there isn't understood; the change is what mends it.
		before = &Snapshot{Number: head.number, docs: head.documents()}
	}
	record.Number, record.Base = head.number+1, head.number
	record.Actor, record.Note, record.AtMs = o.Actor, o.Note, now.UnixMilli()
	record.FullOffset = head.full
	value, err := encode(record, after, head, next)
	if err != nil {
		return planned{}, err
	}
	done := Applied{Number: after.Number, Before: before, After: after, Changed: true}
	return planned{Applied: done, value: value}, nil
}

// merge applies a change to the head's documents and tells what differs.
func merge(head *fold, c Change) ([]Document, *pb.Apply, error) {
	var errs Errors
	put := map[Ref]bool{}
	docs := make([]Document, 0, len(head.docs)+len(c.Documents))
	record := &pb.Apply{}
	for _, d := range c.Documents {
		put[d.Ref] = true
		d, err := d.resolve(head.docs[d.Ref].doc)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		docs = append(docs, d)
		if head.docs[d.Ref].doc.text != d.text {
			record.Documents = append(record.Documents, &pb.Document{Kind: d.Kind, Name: d.Name, Yaml: d.text})
		}
	}
	for _, ref := range c.Delete {
		if _, ok := head.docs[ref]; !ok {
			errs = append(errs, &Error{Reason: "there is no " + ref.String() + " to delete"})
		} else if put[ref] {
			errs = append(errs, &Error{Reason: ref.String() + " is both given and deleted"})
		}
	}
	for _, ref := range head.refs() {
		e := head.docs[ref]
		switch {
		case put[ref]:
		case c.Prune || slices.Contains(c.Delete, ref):
			record.Documents = append(record.Documents, &pb.Document{Kind: ref.Kind, Name: ref.Name})
		case e.err != nil:
			errs = append(errs, &Error{Reason: e.err.Error()})
		default:
			docs = append(docs, e.doc)
		}
	}
	return docs, record, errs.err()
}

// encode makes the record: what changed, or from time to time the whole.
func encode(record *pb.Apply, after *Snapshot, head *fold, next lineage) ([]byte, error) {
	limit := schemas.MaxMessage(schemas.Directory) - 4096
	if head.full < 0 || head.since >= fullEvery {
		whole := proto.CloneOf(record)
		whole.Full, whole.Documents = true, nil
		for _, d := range after.docs {
			whole.Documents = append(whole.Documents, &pb.Document{Kind: d.Kind, Name: d.Name, Yaml: d.text})
		}
		next.write(whole, head.lineage)
		if proto.Size(whole) <= limit {
			return proto.Marshal(whole)
		}
	}
	next.write(record, head.lineage)
	if size := proto.Size(record); size > limit {
		return nil, fmt.Errorf("the change has %d bytes, a record holds %d: apply it in parts", size, limit)
	}
	return proto.Marshal(record)
}

// createTopics makes the topics that after needs and before didn't; at the
// first apply also those of what is there without one.
func createTopics(ctx context.Context, b *bus.Bus, before, after *Snapshot, o Options) ([]string, error) {
	old := before.Topics(o.Retention)
	had := map[string]bool{}
	var missing []schemas.Topic
	if before.Number == 0 {
		missing, old = old, nil
	}
	for _, t := range slices.Concat(missing, old) {
		had[t.Name] = true
	}
	for _, t := range after.Topics(o.Retention) {
		if !had[t.Name] {
			missing = append(missing, t)
		}
	}
	if err := changeReaders(ctx, b, before, after); err != nil || len(missing) == 0 {
		return nil, err
	}
	created, err := b.CreateTopics(ctx, missing, o.Topics)
	if err != nil {
		return nil, fmt.Errorf("create topics of new queues: %w", err)
	}
	return created, nil
}
