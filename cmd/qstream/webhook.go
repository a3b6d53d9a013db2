package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// webhookCmd looks after the webhooks of the directory.
type webhookCmd struct {
	List   webhookListCmd   `cmd:"" help:"List webhooks: how far they are, what stands about them."`
	Show   webhookShowCmd   `cmd:"" help:"Show one webhook: its document, its place, what it has given up."`
	Pause  webhookPauseCmd  `cmd:"" help:"Post nothing until it is resumed; what happens meanwhile is kept."`
	Resume webhookResumeCmd `cmd:"" help:"Let a webhook go on where it was."`
	Rewind webhookRewindCmd `cmd:"" help:"Post again what happened from a time on, with the ids that it had."`
	Test   webhookTryCmd    `cmd:"" help:"Post a signed test from this host and print the answer."`
	Dead   webhookDeadCmd   `cmd:"" help:"List, post again or drop events that a webhook has given up."`
}

// hook is one webhook, with what a verb about it needs.
type hook struct {
	*directory.Webhook
	bus      *bus.Bus
	document directory.Document
	standing control.Webhook
}

// openHook finds a webhook of the system; close the bus after it.
func openHook(ctx context.Context, sys *System, name string) (*hook, error) {
	b, err := sys.Open(ctx)
	if err != nil {
		return nil, err
	}
	h, err := findHook(ctx, b, name)
	if err != nil {
		b.Close()
		return nil, err
	}
	return h, nil
}

func findHook(ctx context.Context, b *bus.Bus, name string) (*hook, error) {
	s, err := directory.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	w := s.Webhook(name)
	if w == nil {
		return nil, notFoundf("there is no webhook %s", mail.Printable(name))
	}
	state, err := control.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	doc, _ := s.Document(directory.Ref{Kind: directory.KindWebhook, Name: name})
	return &hook{Webhook: w, bus: b, document: doc, standing: state.Webhook(name)}, nil
}

// audited does something to a webhook, and tells the audit topic before and
// after.
func (h *hook) audited(ctx context.Context, p *Process, action, reason string, detail any, do func() error) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	act := &pb.Act{
		AtMs: p.Now().UnixMilli(), Actor: actor(), Action: "webhook " + action, Job: mail.NewID(p.Now()), Reason: reason, Detail: string(text),
	}
	if err := control.Audit(ctx, h.bus, act); err != nil {
		return err
	}
	done := do()
	act.AtMs, act.Ended = p.Now().UnixMilli(), true
	if done != nil {
		act.Error = done.Error()
	}
	return errors.Join(done, control.Audit(ctx, h.bus, act))
}

// order sends a command about the webhook.
func (h *hook) order(ctx context.Context, p *Process, action string, c control.Command) error {
	c.Webhook, c.Actor = h.Name, actor()
	detail := map[string]string{"webhook": h.Name}
	if !c.Since.IsZero() {
		detail["since"] = c.Since.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return h.audited(ctx, p, action, c.Reason, detail, func() error {
		_, err := control.Send(ctx, h.bus, c)
		if errors.Is(err, control.ErrNotPaused) {
			err = notFoundf("%w", err)
		}
		return err
	})
}
