package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"time"

	"qstream/mail"
	"qstream/replay/bundle"
)

// verifyCmd checks evidence; it needs no system.
type verifyCmd struct {
	Bundle string `arg:"" type:"existingfile" help:"A file that replay bundle made."`
	Key    string `placeholder:"FILE" type:"existingfile" help:"PEM file of the public key that must have signed it (openssl pkey -pubout)."`
	JSON   bool   `name:"json" help:"Print the manifest as JSON."`
}

func (c *verifyCmd) Run(_ context.Context, p *Process) error {
	var key ed25519.PublicKey
	if c.Key != "" {
		var err error
		if key, err = bundle.ReadPublicKey(c.Key); err != nil {
			return usagef("--key: %w", err)
		}
	}
	f, err := os.Open(c.Bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	res, err := bundle.Verify(f, key)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Bundle, err)
	}
	m := res.Manifest
	if c.JSON {
		return printJSON(p.Stdout, m)
	}
	fmt.Fprintf(p.Stdout, "%s is as it was made: %d messages, %d events\n", c.Bundle, m.Messages, m.Events)
	fmt.Fprintf(p.Stdout, "  made %s by %s: %s\n", m.Made.UTC().Format(time.RFC3339), mail.Printable(m.Actor), mail.Printable(m.Reason))
	fmt.Fprintf(p.Stdout, "  signed by key %s\n", res.Fingerprint)
	if key == nil {
		fmt.Fprintln(p.Stdout, "  that key is named by the bundle itself: compare it with what its maker told you, or give --key")
	}
	return nil
}
