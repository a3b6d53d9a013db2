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

// verifyBundleCmd checks evidence; it needs no system.
type verifyBundleCmd struct {
	Bundle string `arg:"" type:"existingfile" help:"A file that replay bundle made."`
	Key    string `placeholder:"FILE" type:"existingfile" help:"PEM file of the public key that must have signed it (openssl pkey -pubout)."`
	Chain  string `name:"checkpoint-key" placeholder:"FILE" type:"existingfile" help:"PEM file of the public key that must have signed the checkpoints in it."`
	JSON   bool   `name:"json" help:"Print the manifest as JSON."`
}

func (c *verifyBundleCmd) Run(_ context.Context, p *Process) error {
	var keys bundle.Keys
	for _, given := range []struct {
		flag, file string
		key        *ed25519.PublicKey
	}{{"--key", c.Key, &keys.Maker}, {"--checkpoint-key", c.Chain, &keys.Checkpoints}} {
		if given.file == "" {
			continue
		}
		var err error
		if *given.key, err = bundle.ReadPublicKey(given.file); err != nil {
			return usagef("%s: %w", given.flag, err)
		}
	}
	f, err := os.Open(c.Bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	res, err := bundle.Verify(f, keys)
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
	if keys.Maker == nil {
		fmt.Fprintln(p.Stdout, "  that key is named by the bundle itself: compare it with what its maker told you, or give --key")
	}
	c.custody(p, res)
	return nil
}

// custody tells what the chain of custody says of the records.
func (c *verifyBundleCmd) custody(p *Process, res *bundle.Result) {
	m := res.Manifest
	if m.Proved == 0 {
		fmt.Fprintln(p.Stdout, "  none of its records was under a checkpoint: that they stood in the log is the maker's word")
		return
	}
	fmt.Fprintf(p.Stdout, "  %d of %d records stood in the log when its checkpoints were signed\n", m.Proved, m.Proved+m.Unproved)
	for _, k := range res.Checkpoints {
		fmt.Fprintf(p.Stdout, "  checkpoints are signed by key %s\n", k)
	}
	if c.Chain == "" {
		fmt.Fprintln(p.Stdout, "  compare that key, too, or give --checkpoint-key")
	}
}
