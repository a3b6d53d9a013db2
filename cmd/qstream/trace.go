package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/cmd/qstream/internal/trace"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// traceCmd prints the life of messages.
type traceCmd struct {
	System
	ID        string   `arg:"" optional:"" help:"Message id, as the edge's 250 names it."`
	MessageID string   `name:"message-id" placeholder:"TEXT" help:"Messages with this Message-ID field."`
	Recipient string   `placeholder:"ADDRESS" help:"Messages to this recipient."`
	Since     duration `placeholder:"DURATION" default:"24h" help:"How far back to look, when it isn't the id that says so (default: ${default})."`
	JSON      bool     `name:"json" help:"Print JSON, one message a line."`
}

func (c *traceCmd) Run(ctx context.Context, p *Process) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := trace.Collect(ctx, eventsOf(b, c.from(p.Now())), q)
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

func (c *traceCmd) query() (trace.Query, error) {
	given := 0
	for _, s := range []string{c.ID, c.MessageID, c.Recipient} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return trace.Query{}, usagef("name a message by its id, by --message-id or by --recipient, one of them")
	}
	if _, ok := mail.IDTime(c.ID); c.ID != "" && !ok {
		return trace.Query{}, usagef("%s is no message id (26 letters and digits, as the edge's 250 names it); a Message-ID goes with --message-id", mail.Printable(c.ID))
	}
	return trace.Query{ID: c.ID, MessageID: c.MessageID, Recipient: c.Recipient}, nil
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
