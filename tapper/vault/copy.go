package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
	"qstream/tapper/vault/lane"
	"qstream/tapper/vault/order"
)

// errGone is a copy of which nothing can be had any more.
var errGone = errors.New("what was copied is gone from its topic")

// copy makes what the sink is given.
func (d *delivery) copy(ctx context.Context, n int, it item) (sink.Copy, error) {
	c := sink.Copy{
		ID: d.id(n, it.sequence), Subscription: d.tap.Order.ID, Sequence: it.sequence, Lane: fmt.Sprintf("%02d", n),
	}
	var err error
	if it.copy != nil {
		err = d.message(ctx, &c, it.copy)
	} else {
		err = d.outcome(ctx, &c, it.outcome)
	}
	if err != nil || d.tap.Order.Encrypt == "" {
		return c, err
	}
	return encrypt(ctx, c, d.tap.Order.Encrypt, d.v.cfg.Me)
}

// record is what stands at a place of a topic: read a moment ago, or else
// fetched.
func (d *delivery) record(ctx context.Context, source uint32, offset int64) (bus.Record, error) {
	if r, ok := d.v.window.at(source, offset); ok {
		return r, nil
	}
	kind, partition := lane.Split(source)
	found, r := false, bus.Record{}
	err := d.v.apart.At(ctx, kinds[kind], map[int32][]int64{partition: {offset}}, func(at bus.Record) error {
		found, r = true, at
		return nil
	})
	if err == nil && !found {
		err = errGone
	}
	return r, err
}

func (d *delivery) message(ctx context.Context, c *sink.Copy, of *pb.TapCopy) error {
	r, err := d.record(ctx, of.Source, of.Offset)
	if err != nil {
		return err
	}
	m, err := Mail(r)
	if err != nil || m.Id != of.MessageId {
		return fmt.Errorf("%w: another message is at its place", errGone)
	}
	bare := of.Bare || d.tap.Order.What == order.Envelope
	d.stands = standsOf(r, m.Content, bare)
	c.MessageID, c.Accepted = m.Id, m.At
	for _, rcpt := range m.GetEnvelope().GetRecipients() {
		if slices.Contains(of.Recipients, rcpt.Number) {
			c.Recipients = append(c.Recipients, rcpt)
		}
	}
	content := m.Content
	c.Received = proto.CloneOf(m.Received)
	c.Received.Content = nil
	c.Kind = sink.Envelope
	if bare {
		return nil
	}
	c.Kind, c.Size = sink.Full, content.GetSize()+int64(len(m.Prepend))
	c.Open = func(ctx context.Context) (io.ReadCloser, error) {
		body := io.NopCloser(bytes.NewReader(content.GetInline()))
		if ref := content.GetRef(); ref != nil {
			var err error
			if body, err = d.v.apart.Open(ctx, ref); err != nil {
				return nil, err
			}
		}
		return mail.Prepended(m.Prepend, body), nil
	}
	return d.readable(ctx, content.GetRef())
}

// readable finds out whether content is gone for good: its first bytes can't
// be read because nothing is at its place.
func (d *delivery) readable(ctx context.Context, ref *pb.ContentRef) error {
	if ref == nil || len(ref.Offsets) == 0 {
		return nil
	}
	starts, err := d.v.apart.Starts(ctx, ref.Topic)
	if err != nil {
		return err
	}
	if oldest, ok := starts[ref.Partition]; ok && ref.Offsets[0] < oldest {
		return fmt.Errorf("%w: content at offset %d, the oldest is %d", errGone, ref.Offsets[0], oldest)
	}
	return nil
}

func (d *delivery) outcome(ctx context.Context, c *sink.Copy, of *pb.TapOutcome) error {
	r, err := d.record(ctx, of.Source, of.Offset)
	if err != nil {
		return err
	}
	e := &pb.Event{}
	if err := proto.Unmarshal(r.Value, e); err != nil || e.MessageId != of.MessageId {
		return fmt.Errorf("%w: another event is at its place", errGone)
	}
	// The order is about its recipients alone.
	e.Outcomes, _ = lane.Theirs(e, of.Recipients)
	c.Kind, c.MessageID, c.Accepted, c.Event = sink.Outcome, e.MessageId, r.Time, e
	return nil
}

// encrypt makes an age file of a copy, in the form of a report.
func encrypt(ctx context.Context, c sink.Copy, to, me string) (sink.Copy, error) {
	recipient, err := age.ParseX25519Recipient(to)
	if err != nil {
		return c, fmt.Errorf("encrypt a copy: %w", err)
	}
	m, err := sink.Mail(ctx, &c, sink.Report, me)
	if err != nil {
		return c, err
	}
	write := func(ctx context.Context, w io.Writer) error {
		text, err := m.Open(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = text.Close() }()
		file, err := age.Encrypt(w, recipient)
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, text); err != nil {
			return err
		}
		return file.Close()
	}
	// An age file's size follows from the text's, but is not for others to know.
	var size counter
	if err := write(ctx, &size); err != nil {
		return c, fmt.Errorf("encrypt a copy: %w", err)
	}
	return sink.Copy{
		ID: c.ID, Subscription: c.Subscription, Sequence: c.Sequence, Lane: c.Lane, Kind: c.Kind,
		Sealed: true, Size: int64(size),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() { _ = w.CloseWithError(write(ctx, w)) }() // ends when r is closed or read
			return r, nil
		},
	}, nil
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
