package main

import (
	"context"
	"errors"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/quarantine"
)

// quarantineCmd are the questions and the orders about mail that scan policies
// hold back.
type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"List what is held back."`
	Show    quarantineShowCmd    `cmd:"" help:"Show one held leg: what was found, by whom, in what; or its message."`
	Release quarantineReleaseCmd `cmd:"" help:"Let held mail go on to its recipients."`
	Delete  quarantineDeleteCmd  `cmd:"" help:"End held mail as discarded; nobody is told."`
	Forward quarantineForwardCmd `cmd:"" help:"Send copies of held mail to an address; it remains held."`
	Digest  quarantineDigestCmd  `cmd:"" help:"Tell recipients by mail what is held back from them; for cron."`
}

// errNoneHeld is a question, or an order, that nothing held back is meant by.
var errNoneHeld = errors.New("nothing is held back that is meant by that")

// heldFlags say which legs, and which of their recipients, are meant.
type heldFlags struct {
	ID          []string `arg:"" optional:"" name:"id" help:"Messages, or legs as list shows them (ID.NUMBER)."`
	Tenant      string   `placeholder:"NAME" help:"Of this tenant."`
	Queue       string   `placeholder:"NAME" help:"Of this queue."`
	ReversePath string   `placeholder:"ADDRESS" help:"From this reverse-path: an address, @domain, or <> for the null one."`
	Recipient   string   `placeholder:"ADDRESS" help:"To this recipient, or to all of @domain; a leg's other recipients are not meant."`
	Finding     string   `placeholder:"WORD" enum:",malware,spam,refused,unscannable,encrypted,down,poison" default:"" help:"Held for this: malware, spam, refused, unscannable, encrypted, down or poison."`
	Name        string   `placeholder:"TEXT" help:"With this in the name of what was found."`
	Since       moment   `placeholder:"WHEN" help:"Held back since then: a time (RFC 3339), or so many s, m, h or d ago."`
	Until       moment   `placeholder:"WHEN" help:"Held back before then."`
}

func (f heldFlags) selection(now time.Time) (quarantine.Selection, error) {
	s, err := quarantine.Selection{
		IDs: f.ID, Tenant: f.Tenant, Queue: f.Queue, ReversePath: mail.Pattern(f.ReversePath), Recipient: mail.Pattern(f.Recipient),
		Finding: f.Finding, Name: f.Name, Since: f.Since.at(now), Until: f.Until.at(now),
	}.Complete()
	if err != nil {
		return s, usagef("%w", err)
	}
	return s, nil
}

// find is what is meant; a selection of everything is refused where all is not
// said.
func (f heldFlags) find(ctx context.Context, p *Process, sys *System, everything bool) (*bus.Bus, []quarantine.Leg, error) {
	s, err := f.selection(p.Now())
	if err != nil {
		return nil, nil, err
	}
	if s.Empty() && !everything {
		return nil, nil, usagef("say what is meant: ids, --tenant, --recipient, --finding or another; or --all")
	}
	b, err := sys.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	legs, err := quarantine.All(ctx, b, s)
	if err == nil && len(legs) == 0 { // mail of tenants and queues that are gone may be held yet
		err = scopeFlags{Tenant: f.Tenant, Queue: f.Queue}.known(ctx, b)
	}
	if err == nil && len(legs) == 0 {
		err = notFoundf("%w", errNoneHeld)
	}
	if err != nil {
		b.Close()
		return nil, nil, err
	}
	return b, legs, nil
}

// orderFlags are those of what changes the quarantine.
type orderFlags struct {
	All    bool   `help:"Everything that is held back."`
	Reason string `placeholder:"TEXT" help:"Why; it stands in the trace."`
	DryRun bool   `help:"List what is meant, and change nothing."`
}

func (f orderFlags) who(p *Process) quarantine.Who {
	return quarantine.Who{Actor: actor(), Reason: f.Reason, Now: p.Now()}
}
