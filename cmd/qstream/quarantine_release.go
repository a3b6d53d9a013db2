package main

import (
	"context"
	"fmt"

	"qstream/control"
	"qstream/quarantine"
)

// quarantineReleaseCmd lets held mail go on.
type quarantineReleaseCmd struct {
	System
	heldFlags
	orderFlags
	Rescan bool `help:"Scan it again first, with the policy and the signatures of today; else it goes whatever was found."`
}

func (c *quarantineReleaseCmd) Run(ctx context.Context, p *Process) error {
	return c.order(ctx, p, &c.System, c.heldFlags, control.Release, c.Rescan)
}

// quarantineDeleteCmd ends held mail.
type quarantineDeleteCmd struct {
	System
	heldFlags
	orderFlags
}

func (c *quarantineDeleteCmd) Run(ctx context.Context, p *Process) error {
	return c.order(ctx, p, &c.System, c.heldFlags, control.Delete, false)
}

// order sends an order about what is meant, or lists that.
func (f orderFlags) order(ctx context.Context, p *Process, sys *System, which heldFlags, verb string, rescan bool) error {
	b, legs, err := which.find(ctx, p, sys, f.All)
	if err != nil {
		return err
	}
	defer b.Close()
	if f.DryRun {
		return heldTable(p.Stdout, legs, p.Now())
	}
	n, err := quarantine.Order(ctx, b, verb, legs, rescan, f.who(p))
	if err != nil {
		return fmt.Errorf("%d of %d legs are ordered: %w", n, len(legs), err)
	}
	recipients := 0
	for _, l := range legs {
		recipients += len(l.Meant)
	}
	fmt.Fprintf(p.Stdout, "%s ordered for %d legs, %d recipients\n", verb, n, recipients)
	return nil
}
