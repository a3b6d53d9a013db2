package main

import (
	"context"
	"fmt"
	"time"

	"qstream/control"
)

// hookFlags name a webhook, and say why.
type hookFlags struct {
	System
	Name   string `arg:"" help:"Its name."`
	Reason string `placeholder:"TEXT" help:"Why; it is kept."`
}

// webhookPauseCmd stops a webhook.
type webhookPauseCmd struct{ hookFlags }

func (c *webhookPauseCmd) Run(ctx context.Context, p *Process) error {
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	if err := h.order(ctx, p, "pause", control.Command{Verb: control.PauseWebhook, Reason: c.Reason}); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "webhook %s is paused\n", h.Name)
	return nil
}

// webhookResumeCmd lets it go on.
type webhookResumeCmd struct{ hookFlags }

func (c *webhookResumeCmd) Run(ctx context.Context, p *Process) error {
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	if err := h.order(ctx, p, "resume", control.Command{Verb: control.ResumeWebhook, Reason: c.Reason}); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "webhook %s goes on\n", h.Name)
	return nil
}

// webhookRewindCmd takes it back in time.
type webhookRewindCmd struct {
	hookFlags
	Since moment `required:"" placeholder:"WHEN" help:"To when: a time (RFC 3339), or so many s, m, h or d ago."`
}

func (c *webhookRewindCmd) Run(ctx context.Context, p *Process) error {
	since := c.Since.at(p.Now())
	if since.After(p.Now()) {
		return usagef("--since is in the future: what happened until then would never be posted")
	}
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	if err := h.order(ctx, p, "rewind", control.Command{Verb: control.RewindWebhook, Reason: c.Reason, Since: since}); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "webhook %s posts again what happened since %s\n", h.Name, since.UTC().Format(time.RFC3339))
	return nil
}
