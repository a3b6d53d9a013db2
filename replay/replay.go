// Package replay reads mail history again: it selects messages of the past by
// what is known of them, and lets them be delivered once more, scanned again,
// exported, or bound into a bundle that proves itself (bundle).
//
// Guarantee: history is only read. What is delivered again is a new message
// with an id of its own that names the old one; it comes in by reinject, as
// any other.
// Guarantee: a job that is run again, after whatever end, delivers no message
// twice: the new id is a function of the job and the old id, and what the job
// put on reinject before is passed over.
// Guarantee: who selects by tenant, queue, outcome or verdict is given the recipients
// that this is true of, and no others of the same message.
//
// Memory grows with what the events tell of the messages that may match, and
// is bounded by Limits; content is streamed. Messages are those that came in
// over an edge: reports that qstream made, and what was delivered again, are
// found as their children, never selected, so a replay can't feed itself.
package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// ErrTooMany says that a selection needs more memory than it may have.
var ErrTooMany = errors.New("too many recipients may match: narrow the time, or select by sender, recipient or id")

// DefaultLimit is how many recipients are remembered by their events: some 100
// MB of memory.
const DefaultLimit = 1_000_000

// History is mail as topics keep it. Its methods may be called concurrently.
type History struct {
	Bus   *bus.Bus
	Limit int       // of recipients remembered at once; 0: DefaultLimit
	Pace  *bus.Pace // of reading; nil: as fast as it goes
}

// Message is an accepted message of which recipients were selected.
type Message struct {
	Received   *pb.Received // without inline content
	Content    *pb.ContentRef
	Recipients []*pb.Recipient // those that were selected, in the envelope's order
	Topic      string          // where its received record stands
	Partition  int32
	Offset     int64
	Accepted   time.Time // append time: when its lifetime began

	raw     bus.Record
	history *History
}

// ID is the message id.
func (m *Message) ID() string { return m.Received.Id }

// Record is the received record as it stands on its topic.
func (m *Message) Record() bus.Record { return m.raw }

// Open reads the message as it is delivered: what qstream put before it, and
// the content. An error that wraps bus.ErrContent comes instead of io.EOF if the
// content is not what was stored.
func (m *Message) Open(ctx context.Context) (io.ReadCloser, error) {
	body, err := m.OpenContent(ctx)
	if err != nil {
		return nil, err
	}
	return mail.Prepended(m.Received.Prepend, body), nil
}

// OpenContent reads the content alone, as it was accepted.
func (m *Message) OpenContent(ctx context.Context) (io.ReadCloser, error) {
	if !m.Content.Inline {
		return m.history.Bus.Open(ctx, m.Content)
	}
	data, err := m.inline()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// there fails with an error that wraps bus.ErrContent if the begin of the content
// is gone: topics lose their oldest records first.
func (m *Message) there(ctx context.Context) error {
	body, err := m.OpenContent(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := body.Read(make([]byte, 1)); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// inline is the content that the received record carries.
func (m *Message) inline() ([]byte, error) {
	carried, err := schemas.Inline(m.Topic, m.raw.Value)
	if err != nil {
		return nil, fmt.Errorf("read content of %s: %w: %w", m.ID(), bus.ErrContent, err)
	}
	if sum := sha256.Sum256(carried.Inline); !bytes.Equal(sum[:], m.Content.Sha256) {
		return nil, fmt.Errorf("read content of %s: %w: sha256 %x, stored was %x", m.ID(), bus.ErrContent, sum, m.Content.Sha256)
	}
	return carried.Inline, nil
}

// Select calls each for the messages of a selection, each partition in the
// order of acceptance. An error of each ends it.
func (h *History) Select(ctx context.Context, s Selection, each func(*Message) error) error {
	return h.choose(ctx, s, &told{}, each)
}

// choose selects, and keeps in told what the events say of what may match.
func (h *History) choose(ctx context.Context, s Selection, told *told, each func(*Message) error) error {
	s, err := s.complete()
	if err != nil {
		return err
	}
	told.selection, told.limit = s, h.Limit
	if told.limit <= 0 {
		told.limit = DefaultLimit
	}
	if told.asked() {
		if err := h.Bus.Read(ctx, []string{schemas.Events}, s.about(h.Pace), told.take); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if len(told.of) == 0 {
			return nil
		}
	}
	// A clock that was set back leaves records behind the first that is too late;
	// each one's own time decides.
	start := bus.Start{Since: s.Since, Pace: h.Pace}
	if !s.Until.IsZero() {
		start.Until = s.Until.Add(clocks)
	}
	return h.Bus.Read(ctx, []string{schemas.Received}, start, func(r bus.Record) error {
		m, err := h.message(r, s, told)
		if err != nil || m == nil {
			return err
		}
		return each(m)
	})
}
