package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/replay/bundle"
	"qstream/replay/custody"
)

// verifyChainCmd compares the log with its checkpoints.
type verifyChainCmd struct {
	System
	Key   string `placeholder:"FILE" type:"existingfile" help:"PEM file of the public key that must have signed the checkpoints (openssl pkey -pubout)."`
	Since moment `placeholder:"WHEN" help:"Checkpoints made since then: a time (RFC 3339), or so many s, m, h or d ago. Default: all."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

func (c *verifyChainCmd) Run(ctx context.Context, p *Process) error {
	trust, err := trusted(c.Key)
	if err != nil {
		return err
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := custody.Verify(ctx, b, custody.Options{Since: c.Since.at(p.Now()), Trust: trust, Pace: bus.Gently(), Now: p.Now})
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(p.Stdout, r)
	} else {
		c.print(p, r)
	}
	switch {
	case err != nil:
		return err
	case len(r.Wrong) > 0:
		return fmt.Errorf("the log is not what was signed: %d differences", len(r.Wrong))
	case r.Checkpoints == 0:
		return notFoundf("there are no checkpoints: a tapper, or up, writes them with --checkpoint-key")
	}
	return nil
}

func (c *verifyChainCmd) print(p *Process, r *custody.Report) {
	for _, w := range r.Summary() {
		fmt.Fprintln(p.Stdout, "WRONG", mail.Printable(w.String()))
	}
	if r.Checkpoints == 0 {
		return
	}
	fmt.Fprintf(p.Stdout, "%d checkpoints, from %s to %s\n", r.Checkpoints, r.Oldest.Format(time.RFC3339), r.Newest.Format(time.RFC3339))
	for _, part := range r.Parts {
		fmt.Fprintf(p.Stdout, "  %s/%d: %d records in %d intervals are as they were signed", part.Topic, part.Partition, part.Records, part.Intervals)
		if part.Gone > 0 {
			fmt.Fprintf(p.Stdout, "; %d older intervals are gone from the log", part.Gone)
		}
		if part.Unsigned > 0 {
			fmt.Fprintf(p.Stdout, "; %d newer records are not signed yet", part.Unsigned)
		}
		fmt.Fprintln(p.Stdout)
	}
	for _, k := range r.Keys {
		fmt.Fprintf(p.Stdout, "signed by key %s\n", k)
	}
	if c.Key == "" {
		fmt.Fprintln(p.Stdout, "compare that with what you were told, or give --key: whoever can write to the topics can sign with a key of his own")
	}
}

// trusted takes checkpoints of the key in a file only; of any without one.
func trusted(file string) (func(ed25519.PublicKey) bool, error) {
	if file == "" {
		return nil, nil
	}
	key, err := bundle.ReadPublicKey(file)
	if err != nil {
		return nil, usagef("the key of the checkpoints: %w", err)
	}
	return func(k ed25519.PublicKey) bool { return bytes.Equal(k, key) }, nil
}
