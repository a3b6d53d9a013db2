package main

import (
	"context"
	"errors"
	"fmt"

	"qstream/bus"
)

type topicsCreateCmd struct {
	System
	sizeFlags
}

func (c *topicsCreateCmd) Run(ctx context.Context, p *Process) error {
	size, err := c.sizing()
	if err != nil {
		return err
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	created, err := b.CreateTopics(ctx, size.Fixed(), c.options())
	if err != nil {
		return err
	}
	// The directory is on a topic of its own: its queues come second.
	all, err := c.every(ctx, b)
	if err != nil {
		return err
	}
	queues, err := b.CreateTopics(ctx, all, c.options())
	if err != nil {
		return err
	}
	for _, name := range append(created, queues...) {
		fmt.Fprintln(p.Stdout, "created topic", name)
	}
	if err := b.Admit(ctx, all); errors.Is(err, bus.ErrNoAuthorizer) {
		fmt.Fprintln(p.Stdout, "tenants' topics are not kept apart:", err)
	} else if err != nil {
		return err
	}
	if len(created)+len(queues) == 0 {
		fmt.Fprintf(p.Stdout, "all %d topics are there\n", len(all))
	}
	return nil
}
