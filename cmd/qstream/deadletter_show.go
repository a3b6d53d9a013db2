package main

import (
	"context"
	"encoding/json"
)

type deadShowCmd struct {
	System
	ID string `arg:"" help:"As list shows it: partition/offset."`
}

func (c *deadShowCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	found, err := deadIDs{IDs: []string{c.ID}}.find(ctx, b)
	if err != nil {
		return err
	}
	out := json.NewEncoder(p.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(deadJSON(found[0]))
}
