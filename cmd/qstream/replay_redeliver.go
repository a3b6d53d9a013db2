package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	"qstream/replay"
)

// replayRedeliverCmd delivers messages of the past again.
type replayRedeliverCmd struct {
	System
	selectFlags
	redeliverFlags
	Whole  bool   `help:"Deliver to all recipients of each message, not only to those that are meant."`
	Route  string `placeholder:"NAME" help:"By this route of the directory, whatever matches the recipients (default: as they are routed today)."`
	Reason string `required:"" placeholder:"TEXT" help:"Why; it stands in the audit."`
	DryRun bool   `help:"List what would be delivered, and deliver nothing."`
}

// redeliverFlags are those of a run.
type redeliverFlags struct {
	Rate float64 `placeholder:"N" default:"100" help:"Messages a second at the most; 0 for as fast as it goes (default: ${default})."`
}

func (c *replayRedeliverCmd) Run(ctx context.Context, p *Process) error {
	s, err := c.narrowed(p.Now())
	if err != nil {
		return err
	}
	h, done, err := c.open(ctx, &c.System)
	if err != nil {
		return err
	}
	defer done()
	if err := knownRoute(ctx, h.Bus, c.Route); err != nil {
		return err
	}
	if c.DryRun {
		list := replayListCmd{System: c.System, selectFlags: c.selectFlags}
		return list.show(ctx, p, h)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	j := &replay.Job{ID: mail.NewID(p.Now()), Reason: c.Reason, Selection: s, Whole: c.Whole, Route: c.Route, Host: host}
	fmt.Fprintln(p.Stderr, "job", j.ID)
	return c.redeliver(ctx, p, h, j)
}

// knownRoute refuses a route that there isn't: mail would go as ever in silence.
func knownRoute(ctx context.Context, b *bus.Bus, name string) error {
	if name == "" {
		return nil
	}
	s, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	if s.Route(name) == nil {
		return notFoundf("there is no route %s", mail.Printable(name))
	}
	return nil
}

// redeliver runs a job and tells of it.
func (f redeliverFlags) redeliver(ctx context.Context, p *Process, h *replay.History, j *replay.Job) error {
	if f.Rate < 0 {
		return usagef("--rate %v: want a number of messages a second, or 0", f.Rate)
	}
	told := progress{w: p.Stderr}
	j.Actor, j.Now, j.Rate = actor(), p.Now, f.Rate
	j.Told = func(r replay.Progress) { told.say("%d messages delivered again", r.Again+r.Before) }
	j.Each = func(old *replay.Message, id string) error {
		_, err := fmt.Fprintln(p.Stdout, old.ID(), id)
		return err
	}
	r, err := h.Redeliver(ctx, j)
	switch {
	case err != nil:
		return errors.Join(err, fmt.Errorf("%d messages are delivered again; go on with: qstream replay resume %s", r.Again+r.Before, j.ID))
	case r.Selected == 0:
		return notFoundf("no message of the past is meant by that")
	case r.Before > 0:
		fmt.Fprintf(p.Stderr, "%d messages delivered again, %d of them before\n", r.Again+r.Before, r.Before)
	default:
		fmt.Fprintf(p.Stderr, "%d messages delivered again, to %d recipients meant\n", r.Again, r.Recipients)
	}
	if r.Unreadable > 0 {
		return fmt.Errorf("%d messages were passed over: their content can't be read any more", r.Unreadable)
	}
	return nil
}
