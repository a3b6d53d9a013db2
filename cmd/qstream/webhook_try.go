package main

import (
	"context"
	"fmt"

	"qstream/mail"
	"qstream/tapper/webhook"
)

// webhookTryCmd posts a test.
type webhookTryCmd struct {
	System
	Name string `arg:"" help:"Its name."`
}

func (c *webhookTryCmd) Run(ctx context.Context, p *Process) error {
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	poster, err := webhook.NewPoster(h.Webhook, p.Now)
	if err != nil {
		return err
	}
	defer poster.Close()
	code := 0
	err = h.audited(ctx, p, "test", "", map[string]string{"webhook": h.Name}, func() error {
		var err error
		code, err = poster.Test(ctx, mail.NewID(p.Now()))
		return err
	})
	switch {
	case err != nil && code == 0:
		return fmt.Errorf("webhook %s: no answer: %w", h.Name, err)
	case err != nil:
		return fmt.Errorf("webhook %s: its endpoint %w", h.Name, err)
	}
	fmt.Fprintf(p.Stdout, "webhook %s: its endpoint answered %d\n", h.Name, code)
	return nil
}
