package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"qstream/mail"
)

// webhookShowCmd shows one webhook.
type webhookShowCmd struct {
	System
	Name string `arg:"" help:"Its name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *webhookShowCmd) Run(ctx context.Context, p *Process) error {
	h, err := openHook(ctx, &c.System, c.Name)
	if err != nil {
		return err
	}
	defer h.bus.Close()
	one, err := h.json(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.Stdout).Encode(one)
	}
	fmt.Fprint(p.Stdout, h.document.YAML)
	fmt.Fprintf(p.Stdout, "---\nposts events since %s, in the group %s\n", one.Since.Format(time.RFC3339), one.Group)
	if one.Rewound != nil {
		fmt.Fprintf(p.Stdout, "rewound at %s to %s\n", one.Rewound.Format(time.RFC3339), one.To.Format(time.RFC3339))
	}
	if one.Paused != nil {
		fmt.Fprintf(p.Stdout, "paused since %s by %s: %s\n", one.Paused.Format(time.RFC3339), mail.Printable(one.By), mail.Printable(one.Reason))
	}
	_, err = fmt.Fprintf(p.Stdout, "behind: %s; given up: %d\n", one.behind(), one.Dead)
	return err
}
