package main

import (
	"context"
	"errors"
	"time"

	"qstream/bus"
	"qstream/cmd/qstream/internal/tail"
	"qstream/directory"
	"qstream/mail"
)

// tailCmd prints the records of a topic.
type tailCmd struct {
	System
	Topic  string   `arg:"" help:"Topic, with or without qstream. and .v1 (events, queue.acme, delay.1m), or all."`
	Since  duration `placeholder:"DURATION" help:"Records of the last so many s, m, h or d. Default: all, or none with --follow."`
	Follow bool     `short:"f" help:"Go on with what comes."`
	JSON   bool     `name:"json" help:"Print JSON, one record a line." xor:"format"`
	Raw    bool     `help:"Print the values as they are." xor:"format"`
}

func (c *tailCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	snapshot, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	topics, err := tail.Topics(c.Topic, snapshot)
	if err != nil {
		return usagef("%w", err)
	}
	format := tail.Text
	switch {
	case c.JSON:
		format = tail.JSON
	case c.Raw:
		format = tail.Raw
	}
	found := false
	show := func(r bus.Record) error {
		found = true
		return tail.Print(p.Stdout, format, r)
	}
	start := c.start(p.Now())
	if c.Follow {
		return b.Follow(topics, start, show).Run(ctx)
	}
	if err := b.Read(ctx, topics, start, show); errors.Is(err, bus.ErrNoTopic) {
		return notFoundf("there is no topic %s", mail.Printable(c.Topic))
	} else if err != nil {
		return err
	}
	if !found {
		return notFoundf("no records on %s", c.Topic)
	}
	return nil
}

func (c *tailCmd) start(now time.Time) bus.Start {
	switch {
	case c.Since > 0:
		return bus.Start{Since: now.Add(-time.Duration(c.Since))}
	case c.Follow:
		return bus.Start{End: true}
	}
	return bus.Start{}
}
