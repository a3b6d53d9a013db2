package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
)

// queueCmd are the questions and the orders about waiting mail.
type queueCmd struct {
	List        queueListCmd   `cmd:"" help:"Count what waits, by queue, tenant, destination and more."`
	Show        queueShowCmd   `cmd:"" help:"Show one queue: what waits where, for whom and why."`
	Legs        queueLegsCmd   `cmd:"" help:"List what waits, leg by leg."`
	Usage       queueUsageCmd  `cmd:"" help:"Show what tenants and users with a quota have used of it."`
	Suspend     suspendCmd     `cmd:"" help:"Attempt nothing for a tenant, queue or destination until resume; mail is kept."`
	Resume      resumeCmd      `cmd:"" help:"End a suspension, or let go on what was held at a quota."`
	Flush       flushCmd       `cmd:"" help:"Try now what waits for a later attempt."`
	Suspensions suspensionsCmd `cmd:"" help:"List what is suspended."`
	Deadletter  deadletterCmd  `cmd:"" help:"Records that no handler could process."`
}

// scopeFlags say what an order is about.
type scopeFlags struct {
	Tenant      string `placeholder:"NAME" help:"Mail of this tenant."`
	Queue       string `placeholder:"NAME" help:"Mail in this queue."`
	Destination string `placeholder:"DESTINATION" help:"Mail for this destination: a domain, host:port or path, as trace shows it."`
	All         bool   `help:"Everything."`
	Reason      string `placeholder:"TEXT" help:"Why, for those who wonder."`
}

func (f scopeFlags) scope(id string) (control.Scope, error) {
	s := control.Scope{Tenant: f.Tenant, Queue: f.Queue, Destination: f.Destination, MessageID: id}
	if (s == control.Scope{}) != f.All {
		return s, usagef("say what it is about (--tenant, --queue, --destination), or --all")
	}
	return s, nil
}

func (f scopeFlags) send(ctx context.Context, p *Process, sys *System, verb, id string) error {
	scope, err := f.scope(id)
	if err != nil {
		return err
	}
	b, err := sys.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if verb != control.Resume {
		if err := f.known(ctx, b); err != nil {
			return err
		}
	}
	if verb == control.Suspend {
		if s, err := standing(ctx, b, scope); err != nil || s != nil {
			return tellStanding(p, s, err)
		}
	}
	n, err := control.Send(ctx, b, control.Command{Verb: verb, Scope: scope, Actor: actor(), Reason: f.Reason})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "%s %s: command number %d\n", verb, scope, n)
	return nil
}

// standing is the suspension of exactly this scope, nil if there is none.
func standing(ctx context.Context, b *bus.Bus, scope control.Scope) (*control.Suspension, error) {
	state, err := control.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, s := range state.Suspensions() {
		if s.Scope == scope {
			return &s, nil
		}
	}
	return nil, nil
}

// tellStanding says that a suspension is there already: who sends another one
// has to know that his reason isn't kept.
func tellStanding(p *Process, s *control.Suspension, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "suspended already, nothing changes: %s\n", suspensionText(*s))
	return err
}

// suspensionText is a suspension in one line.
func suspensionText(s control.Suspension) string {
	text := fmt.Sprintf("%s  since %s  by %s", s.Scope, s.Since.UTC().Format(time.RFC3339), mail.Printable(s.Actor))
	if s.Reason != "" {
		text += "  " + mail.Printable(s.Reason)
	}
	return text
}

// known refuses names that the directory lacks: an order with a misspelt name
// would be obeyed in silence by nobody.
func (f scopeFlags) known(ctx context.Context, b *bus.Bus) error {
	s, err := directory.Read(ctx, b)
	if wrong := (directory.Errors)(nil); errors.As(err, &wrong) {
		return nil // a directory that isn't understood must not stop an order
	} else if err != nil {
		return err
	}
	if f.Tenant != "" && s.Tenant(f.Tenant) == nil {
		return notFoundf("there is no tenant %s", mail.Printable(f.Tenant))
	}
	if f.Queue != "" && s.Queue(f.Queue) == nil {
		return notFoundf("there is no queue %s", mail.Printable(f.Queue))
	}
	return nil
}

type suspendCmd struct {
	System
	scopeFlags
}

func (c *suspendCmd) Run(ctx context.Context, p *Process) error {
	return c.send(ctx, p, &c.System, control.Suspend, "")
}

type resumeCmd struct {
	System
	scopeFlags
	Held bool `help:"Let mail go on instead that was held at a quota until now."`
}

func (c *resumeCmd) Run(ctx context.Context, p *Process) error {
	if c.Held {
		return c.send(ctx, p, &c.System, control.ResumeHeld, "")
	}
	err := c.send(ctx, p, &c.System, control.Resume, "")
	if errors.Is(err, control.ErrNotSuspended) {
		return notFoundf("%w; what there is: qstream queue suspensions", err)
	}
	return err
}

type flushCmd struct {
	System
	scopeFlags
	ID string `name:"id" placeholder:"ID" help:"The message of this id."`
}

func (c *flushCmd) Run(ctx context.Context, p *Process) error {
	c.ID = typedID(c.ID)
	if _, ok := mail.IDTime(c.ID); c.ID != "" && !ok {
		return usagef("--id %s: not a message id", mail.Printable(c.ID))
	}
	return c.send(ctx, p, &c.System, control.Flush, c.ID)
}

type suspensionsCmd struct {
	System
	JSON bool `name:"json" help:"Print JSON."`
}

// suspensionJSON is a suspension as JSON.
type suspensionJSON struct {
	Tenant      string    `json:"tenant,omitempty"`
	Queue       string    `json:"queue,omitempty"`
	Destination string    `json:"destination,omitempty"`
	Since       time.Time `json:"since"`
	Actor       string    `json:"actor"`
	Reason      string    `json:"reason,omitempty"`
}

func (c *suspensionsCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	state, err := control.Read(ctx, b)
	if err != nil {
		return err
	}
	all := []suspensionJSON{}
	for _, s := range state.Suspensions() {
		all = append(all, suspensionJSON{s.Scope.Tenant, s.Scope.Queue, s.Scope.Destination, s.Since.UTC(), s.Actor, s.Reason})
		if !c.JSON {
			fmt.Fprintln(p.Stdout, suspensionText(s))
		}
	}
	if c.JSON {
		return printJSON(p.Stdout, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(p.Stdout, "nothing is suspended")
	}
	return nil
}
