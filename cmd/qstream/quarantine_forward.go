package main

import (
	"context"
	"fmt"

	"qstream/mail"
	"qstream/quarantine"
)

// quarantineForwardCmd sends copies of held mail elsewhere.
type quarantineForwardCmd struct {
	System
	heldFlags
	orderFlags
	To string `required:"" placeholder:"ADDRESS" help:"Who gets the copies; they are not scanned."`
}

func (c *quarantineForwardCmd) Run(ctx context.Context, p *Process) error {
	to, err := mail.ParseAddress(c.To, true)
	if err != nil || to.IsNull() {
		return usagef("--to %s: want an address", mail.Printable(c.To))
	}
	b, legs, err := c.find(ctx, p, &c.System, c.All)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.DryRun {
		return heldTable(p.Stdout, legs, p.Now())
	}
	ids, err := quarantine.Forward(ctx, b, legs, to, c.who(p))
	for i, id := range ids {
		fmt.Fprintln(p.Stdout, legs[i].ID(), id)
	}
	if err != nil {
		return fmt.Errorf("%d of %d legs are forwarded: %w", len(ids), len(legs), err)
	}
	return nil
}
