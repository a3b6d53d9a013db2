package main

import (
	"context"
	"fmt"
	"time"
)

type topicsResumeCmd struct {
	System
	Since  time.Time `placeholder:"TIME" help:"Go on with the first record appended then or later (RFC 3339; default: the oldest there is)."`
	DryRun bool      `help:"Show what would change, but change nothing."`
}

// Help is the long text of --help.
func (c *topicsResumeCmd) Help() string {
	return "A group whose commit on a partition is missing, or points where no records are, stands still there rather than " +
		"skip or repeat mail by itself. This lets it go on. Records from --since on are handled, also those that were " +
		"handled before; records before it are not. The events tell up to when mail was handled. Commits in order are never touched."
}

func (c *topicsResumeCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	topics, err := sizeFlags{}.every(ctx, b)
	if err != nil {
		return err
	}
	mended, err := b.Resume(ctx, topics, c.Since, c.DryRun)
	if err != nil {
		return err
	}
	for _, m := range mended {
		fmt.Fprintf(p.Stdout, "%s on %s partition %d: commit was %s, goes on at %d with %d records ahead\n",
			m.Group, m.Topic, m.Partition, m.Was, m.At, m.Records)
	}
	switch {
	case len(mended) == 0:
		fmt.Fprintln(p.Stdout, "every group has its place")
	case c.DryRun:
		fmt.Fprintln(p.Stdout, "dry run: nothing was changed")
	}
	return nil
}
