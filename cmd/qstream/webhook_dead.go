package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	"qstream/tapper/webhook"
)

// webhookDeadCmd is about events that a webhook has given up.
type webhookDeadCmd struct {
	System
	Name  string  `arg:"" help:"The webhook's name."`
	IDs   []int64 `arg:"" optional:"" name:"id" help:"Those meant by --retry or --drop, as the list shows them."`
	Retry bool    `xor:"what" help:"Post them again."`
	Drop  bool    `xor:"what" help:"Forget them."`
	All   bool    `help:"All of them."`
	JSON  bool    `name:"json" help:"Print JSON, one event a line."`
}

func (c *webhookDeadCmd) Run(ctx context.Context, p *Process) error {
	settle := c.Retry || c.Drop
	if settle != (len(c.IDs) > 0 || c.All) || c.All && len(c.IDs) > 0 {
		return usagef("to list, name the webhook alone; else say --retry or --drop, and ids or --all")
	}
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	dead, err := webhook.AllDead(ctx, h.bus, c.Name)
	if err != nil {
		return err
	}
	if !settle {
		return c.list(p, dead)
	}
	return c.settle(ctx, p, h, dead)
}

func (c *webhookDeadCmd) list(p *Process, dead []webhook.Dead) error {
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for i, d := range dead {
		if c.JSON {
			event, err := schemas.JSON(d.Event)
			if err != nil {
				return err
			}
			err = json.NewEncoder(p.Stdout).Encode(map[string]any{
				"id": d.Offset, "event": json.RawMessage(event), "first": time.UnixMilli(d.FirstMs).UTC(), "last": time.UnixMilli(d.LastMs).UTC(),
				"attempts": d.Attempts, "error": d.Error,
			})
			if err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			fmt.Fprintln(t, "ID\tGIVEN UP\tPOSTS\tEVENT\tMESSAGE\tERROR")
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\n", d.Offset, time.UnixMilli(d.LastMs).UTC().Format(time.RFC3339), d.Attempts,
			directory.EventWord(d.Event.Type), mail.Printable(d.Event.MessageId), mail.Printable(d.Error))
	}
	if !c.JSON && len(dead) == 0 {
		fmt.Fprintln(p.Stdout, "nothing was given up")
	}
	return t.Flush()
}

func (c *webhookDeadCmd) settle(ctx context.Context, p *Process, h *hook, dead []webhook.Dead) error {
	action := webhook.ActionDrop
	if c.Retry {
		action = webhook.ActionRetry
	}
	var meant []webhook.Dead
	for _, d := range dead {
		if c.All || slices.Contains(c.IDs, d.Offset) {
			meant = append(meant, d)
		}
	}
	if len(meant) == 0 || !c.All && len(meant) < len(c.IDs) {
		return notFoundf("webhook %s has not given up what is meant by that", h.Name)
	}
	detail := map[string]any{"webhook": h.Name, "events": len(meant)}
	err := h.audited(ctx, p, action, "", detail, func() error {
		for _, d := range meant {
			if err := webhook.Settle(ctx, h.bus, d, action, actor()); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		fmt.Fprintf(p.Stdout, "%s: %d events\n", action, len(meant))
	}
	return err
}
