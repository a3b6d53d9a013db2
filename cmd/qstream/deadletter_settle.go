package main

import (
	"context"
	"errors"
	"fmt"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

type deadRetryCmd struct {
	System
	deadIDs
}

func (c *deadRetryCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := c.find(ctx, b)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(p.Stdout, "nothing is there")
	}
	for _, d := range found {
		if err := b.Retry(ctx, d, actor()); err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "%s is on %s again\n", deadID(d), d.Record.Topic)
	}
	return nil
}

type deadBounceCmd struct {
	System
	deadIDs
	Text string `default:"message could not be processed" placeholder:"TEXT" help:"What the senders are told."`
}

func (c *deadBounceCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := c.find(ctx, b)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		fmt.Fprintln(p.Stdout, "nothing is there")
	}
	s, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	// A question about no domain ends at the implicit tenant and queue.
	d := s.Decide(directory.Question{Recipient: "postmaster@invalid"})
	fallback := bus.Fallback{Queue: d.Queue.Name, Generation: d.Queue.Generation, Tenant: d.Tenant, Directory: s.Number}
	refusal := &pb.Status{Code: 554, Enhanced: "5.3.0", Text: mail.Printable(c.Text)}
	var failed []error
	for _, d := range found {
		err := b.Bounce(ctx, d, refusal, fallback, actor())
		if errors.Is(err, bus.ErrNotMail) {
			failed = append(failed, err)
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "%s is refused\n", deadID(d))
	}
	return errors.Join(failed...)
}
