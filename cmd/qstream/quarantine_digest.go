package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/quarantine"
)

// quarantineDigestCmd tells recipients what is held back from them.
type quarantineDigestCmd struct {
	System
	Tenant    string `placeholder:"NAME" help:"Recipients of this tenant (default: all)."`
	Queue     string `placeholder:"NAME" help:"Mail of this queue."`
	Recipient string `placeholder:"ADDRESS" help:"This recipient, or all of @domain."`
	Finding   string `placeholder:"WORD" enum:",malware,spam,refused,unscannable,encrypted,down,poison" default:"" help:"Mail held for this, such as spam."`
	Since     moment `placeholder:"WHEN" default:"24h" help:"Held back since then; as long ago as the last digest was (default: ${default})."`
	Until     moment `placeholder:"WHEN" help:"Held back before then; with a time in --since, digests of whole days leave nothing out (default: now)."`
	From      string `required:"" placeholder:"ADDRESS" help:"Who the digests are from."`
	Contact   string `placeholder:"TEXT" help:"Whom recipients ask for a release, as the digest says it (default: the address of --from)."`
	DryRun    bool   `help:"Say who would be told of how much, and send nothing."`
}

func (c *quarantineDigestCmd) Run(ctx context.Context, p *Process) error {
	from, err := mail.ParseAddress(c.From, false)
	if err != nil || from.IsNull() {
		return usagef("--from %s: want an address", mail.Printable(c.From))
	}
	which := heldFlags{Tenant: c.Tenant, Queue: c.Queue, Recipient: c.Recipient, Finding: c.Finding, Since: c.Since, Until: c.Until}
	b, legs, err := which.find(ctx, p, &c.System, false)
	switch {
	case errors.Is(err, errNoneHeld):
		return nil // as on most days: cron would tell of anything else
	case err != nil:
		return err
	}
	defer b.Close()
	s, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	letter := quarantine.Letter{From: from, Host: mail.Domain(from.String()), Contact: c.Contact, Who: quarantine.Who{Actor: actor(), Now: p.Now()}}
	if letter.Contact == "" {
		letter.Contact = from.String()
	}
	for _, d := range quarantine.Digests(legs) {
		if c.DryRun {
			fmt.Fprintf(p.Stdout, "%s  %d messages, the oldest of %s\n", shown(d.Recipient), len(d.Legs), d.Legs[0].Since().UTC().Format(time.RFC3339))
			continue
		}
		id, err := d.Send(ctx, b, letter, s)
		if err != nil {
			return fmt.Errorf("digest to %s: %w", mail.Printable(d.Recipient), err)
		}
		fmt.Fprintln(p.Stdout, id, shown(d.Recipient))
	}
	return nil
}
