// Package sink is where copies of mail go: the common shape of a copy and of
// what takes it. The sinks are in sinks, one file each; sinktest holds the
// suite that each of them passes.
//
// Guarantee: Put returns nil only when the copy is durable at the sink.
// Guarantee: a copy that is put again, with the same ID, makes no second
// object where the store allows it; elsewhere the ID in both tells that they
// are one.
// Guarantee: content that fails to read is never left at a sink as if it were
// whole.
// Guarantee: nothing in a copy, all of which but the IDs is hostile text, leads
// out of the place that a sink was given, or adds a line to what it writes.
//
// A sink makes no decision about retries, keeps no order by itself and chooses
// no copies: who puts does, one copy after the other.
package sink

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Sink takes copies. Put is called by one goroutine at a time for each
// Subscription; it may be called by several for different ones, or for
// different messages.
type Sink interface {
	// Put returns nil when the copy is durable. It may be repeated with the
	// same ID. It returns soon after ctx ends; the copy may be there all the
	// same. Every error is temporary: what was not taken is put again.
	Put(ctx context.Context, c Copy) error
	// Close ends what is open between copies. No Put may run.
	Close() error
}

// Spec says which sink, and where: see directory.ParseSink for how it is
// written.
type Spec = directory.Sink

// Parse reads a Spec.
func Parse(s string) (Spec, error) { return directory.ParseSink(s) }

// Deps are what sinks share. Zero values take the defaults.
type Deps struct {
	Me  string           // name of this system, for HELO and what sinks write themselves; required
	Log *slog.Logger     // default: discards
	Now func() time.Time // default time.Now
}

// Kind is what a copy holds.
type Kind uint8

const (
	// Full is envelope, session and content.
	Full Kind = iota
	// Envelope is the same without content.
	Envelope
	// Outcome is what became of a message that was copied before: an event.
	Outcome
)

var kinds = [...]string{"full", "envelope", "outcome"}

// String is the kind in lower case.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// Copy is what a sink is given. Sinks read it only.
type Copy struct {
	// ID is the same for a repetition and for nothing else: 1 to 128 letters,
	// digits, "-", "_" and ".", the first of them a letter or digit.
	ID           string
	Subscription string // the archive or order; of the same characters
	Sequence     uint64 // counts the copies of a subscription's lane
	Lane         string // what Sequence counts in; of the same characters, may be empty
	Kind         Kind

	MessageID string    // ours
	Accepted  time.Time // append time of the received record

	// Received has envelope, session and checks, without inline content; nil
	// where Sealed. Its envelope may name more recipients than the copy is for:
	// sinks tell Recipients only.
	Received   *pb.Received
	Recipients []*pb.Recipient // those the copy is for, in the envelope's order
	Event      *pb.Event       // of an outcome; else nil

	// Sealed says that Open gives an age file, which holds envelope and
	// content in the form of Report: the fields above are empty.
	Sealed bool
	Size   int64 // of what Open gives, in bytes
	// Open reads the message as it is delivered, from its beginning, each time
	// that it is called; the reader fails instead of returning io.EOF if the
	// content is not what was stored. Nil for an envelope or an outcome.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Check refuses a copy that no sink can take.
func (c *Copy) Check() error {
	for _, name := range []string{c.ID, c.Subscription} {
		if !plainName(name) {
			return fmt.Errorf("copy %q of %q: not a name", mail.Printable(c.ID), mail.Printable(c.Subscription))
		}
	}
	if c.Lane != "" && !plainName(c.Lane) {
		return fmt.Errorf("copy %s: lane %q is not a name", c.ID, mail.Printable(c.Lane))
	}
	switch {
	case c.Kind > Outcome:
		return fmt.Errorf("copy %s: unknown %s", c.ID, c.Kind)
	case (c.Open != nil) != (c.Kind == Full || c.Sealed):
		return fmt.Errorf("copy %s: a copy of kind %s has content, or has none", c.ID, c.Kind)
	case c.Sealed:
		return nil
	case c.Kind == Outcome && c.Event == nil, c.Kind != Outcome && c.Received == nil:
		return fmt.Errorf("copy %s: %s without what it tells", c.ID, c.Kind)
	}
	return nil
}

func plainName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '-' || s[0] == '_' || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}
