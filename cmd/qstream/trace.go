package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/cmd/qstream/internal/trace"
	"qstream/directory"
	"qstream/ledger"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// traceCmd prints the life of messages.
type traceCmd struct {
	System
	ID          string   `arg:"" optional:"" help:"Message id, as the edge's 250 names it."`
	MessageID   string   `name:"message-id" placeholder:"TEXT" help:"Messages with this Message-ID field."`
	ReversePath string   `placeholder:"ADDRESS" help:"Messages from this reverse-path."`
	Recipient   string   `placeholder:"ADDRESS" help:"Messages to this recipient."`
	Since       duration `placeholder:"DURATION" default:"24h" help:"How far back to look, when it isn't the id that says so (default: ${default})."`
	JSON        bool     `name:"json" help:"Print JSON, one message a line."`
}

func (c *traceCmd) Run(ctx context.Context, p *Process) error {
	c.ID = typedID(c.ID)
	q, err := c.query()
	if err != nil {
		return err
	}
	read, done, err := c.source(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	found, err := trace.Collect(ctx, read, q)
	if err != nil {
		return err
	}
	if len(found.Roots) == 0 {
		return notFoundf("no message %s", c.wanted())
	}
	if c.JSON {
		return trace.JSON(p.Stdout, found)
	}
	return trace.Text(p.Stdout, found)
}

// source is where the events come from: the ledger knows where they stand; the
// log, read as a whole, always has them.
func (c *traceCmd) source(ctx context.Context, p *Process) (trace.Reader, func(), error) {
	if c.API != "" || len(c.Kafka) == 0 {
		read, err := c.ask(ctx, p)
		if err == nil || !errors.Is(err, errNoLedger) {
			return read, func() {}, err
		}
		fmt.Fprintf(p.Stderr, "reading all events, for %v\n", err)
	}
	b, err := c.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return eventsOf(b, c.from(p.Now())), b.Close, nil
}

// ask asks the ledger for the events of the messages that are wanted.
func (c *traceCmd) ask(ctx context.Context, p *Process) (trace.Reader, error) {
	q := url.Values{"since": {p.Now().Add(-time.Duration(c.Since)).UTC().Format(time.RFC3339Nano)}}
	for name, value := range map[string]string{"id": c.ID, "message_id": c.MessageID, "reverse_path": c.ReversePath, "recipient": c.Recipient} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var found ledger.Trace
	err := c.System.ask(ctx, "/v1/trace", q, &found)
	if f := (failure{}); errors.As(err, &f) && f.code == exitNotFound {
		return nil, notFoundf("no message %s", c.wanted())
	}
	if err != nil {
		return nil, err
	}
	if found.Fresh.Behind > 0 {
		return nil, fmt.Errorf("%w: it is %d events behind the log", errNoLedger, found.Fresh.Behind)
	}
	if gone := found.Told - len(found.Events); gone > 0 {
		fmt.Fprintf(p.Stderr, "%d events of what is shown are no longer in the log\n", gone)
	}
	if found.More {
		fmt.Fprintln(p.Stderr, "only the newest messages are shown")
	}
	events := make([]*pb.Event, len(found.Events))
	for i, line := range found.Events {
		events[i] = &pb.Event{}
		if err := protojson.Unmarshal(line, events[i]); err != nil {
			return nil, fmt.Errorf("%w: read an event: %w", errNoLedger, err)
		}
	}
	return func(_ context.Context, each func(*pb.Event)) error {
		for _, e := range events {
			each(e)
		}
		return nil
	}, nil
}

func (c *traceCmd) query() (trace.Query, error) {
	given := 0
	for _, s := range []string{c.ID, c.MessageID, c.ReversePath, c.Recipient} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return trace.Query{}, usagef("name a message by its id, by --message-id, --reverse-path or --recipient, one of them")
	}
	if _, ok := mail.IDTime(c.ID); c.ID != "" && !ok {
		return trace.Query{}, usagef("%s is no message id (26 letters and digits, as the edge's 250 names it); a Message-ID goes with --message-id", mail.Printable(c.ID))
	}
	return trace.Query{ID: c.ID, MessageID: c.MessageID, ReversePath: c.ReversePath, Recipient: c.Recipient}, nil
}

// wanted says what was looked for, and how far back.
func (c *traceCmd) wanted() string {
	if c.ID != "" {
		return c.ID + " in the events that are kept"
	}
	last := fmt.Sprintf(" in the last %s; look further back by --since", directory.FormatDuration(time.Duration(c.Since)))
	if c.MessageID != "" {
		return "with Message-ID " + mail.Printable(c.MessageID) + last
	}
	if c.ReversePath != "" {
		return "from " + mail.Printable(c.ReversePath) + last
	}
	return "to " + mail.Printable(c.Recipient) + last
}

// from is where the events of the query begin: an id tells its time, less
// what the clocks of edge and broker may differ by.
func (c *traceCmd) from(now time.Time) bus.Start {
	if made, ok := mail.IDTime(c.ID); ok {
		return bus.Start{Since: made.Add(-time.Hour)}
	}
	return bus.Start{Since: now.Add(-time.Duration(c.Since))}
}

// eventsOf reads the events topic; what can't be read there is no event.
func eventsOf(b *bus.Bus, start bus.Start) trace.Reader {
	return func(ctx context.Context, each func(*pb.Event)) error {
		return b.Read(ctx, []string{schemas.Events}, start, func(r bus.Record) error {
			var e pb.Event
			if proto.Unmarshal(r.Value, &e) == nil && e.MessageId != "" {
				each(&e)
			}
			return nil
		})
	}
}
