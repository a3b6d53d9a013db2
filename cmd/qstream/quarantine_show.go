package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"qstream/control"
	"qstream/mail"
	"qstream/quarantine"
	pb "qstream/schemas/qstream/v1"
)

// quarantineShowCmd tells all about a held leg.
type quarantineShowCmd struct {
	System
	ID      string `arg:"" help:"A message, or a leg as list shows it (ID.NUMBER)."`
	Content bool   `help:"Print the message itself, as it came in; that you did stands in the audit." xor:"form"`
	JSON    bool   `name:"json" help:"Print JSON, one leg a line." xor:"form"`
}

func (c *quarantineShowCmd) Run(ctx context.Context, p *Process) error {
	f := heldFlags{ID: []string{c.ID}}
	if c.JSON {
		list := quarantineListCmd{System: c.System, heldFlags: f, JSON: true}
		return list.Run(ctx, p)
	}
	b, legs, err := f.find(ctx, p, &c.System, false)
	if err != nil {
		return err
	}
	defer b.Close()
	if !c.Content {
		for _, l := range legs {
			showHeld(p.Stdout, l)
		}
		return nil
	}
	// The legs of a message have one content.
	act := &pb.Act{AtMs: p.Now().UnixMilli(), Actor: actor(), Action: "quarantine show", Job: mail.NewID(p.Now()), Detail: legs[0].MessageId}
	if err := control.Audit(ctx, b, act); err != nil {
		return err
	}
	body, err := quarantine.Open(ctx, b, legs[0])
	if err != nil {
		return err
	}
	_, err = io.Copy(p.Stdout, body)
	return errors.Join(err, body.Close())
}

func showHeld(w io.Writer, l quarantine.Leg) {
	fmt.Fprintf(w, "%s\n", l.ID())
	fmt.Fprintf(w, "  tenant %s, queue %s, from <%s>, %d octets, Message-ID %s\n", shown(l.Tenant), shown(l.Queue),
		strings.TrimSpace(mail.Printable(l.ReversePath)), l.Content.GetSize(), shown(l.HeaderMessageId))
	if s := l.GetSession(); s.GetClientIp() != "" {
		fmt.Fprintf(w, "  came from [%s], HELO %s, user %s\n", shown(s.ClientIp), shown(s.Helo), shown(s.AuthUser))
	}
	fmt.Fprintf(w, "  held since %s, until %s, by policy %s for %s\n", l.Since().UTC().Format(time.RFC3339), l.Until().UTC().Format(time.RFC3339),
		shown(l.GetScan().GetPolicy()), shown(l.GetScan().GetFinding()))
	for _, v := range l.GetScan().GetVerdicts() {
		line := fmt.Sprintf("  %s says %s", shown(v.Engine), shown(v.Outcome))
		for _, text := range []string{v.Reason, v.Name, v.Detail} {
			if text != "" {
				line += ", " + shown(text)
			}
		}
		if v.Score != 0 {
			line += fmt.Sprintf(", score %g of %g", v.Score, v.Threshold)
		}
		fmt.Fprintln(w, line)
	}
	for _, r := range l.Meant {
		fmt.Fprintf(w, "  to %s\n", shown(r.Address))
	}
}
