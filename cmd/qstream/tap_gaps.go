package main

import (
	"context"
	"encoding/json"

	"qstream/tapper/vault/office"
)

// tapGapsCmd checks that an order's copies are all there.
type tapGapsCmd struct {
	officerFlags
	ID string `arg:"" help:"The order's id."`
}

func (c *tapGapsCmd) Run(ctx context.Context, p *Process) error {
	var report json.RawMessage
	if err := c.ask(ctx, p, office.VerbGaps, office.IDArgs{ID: typedID(c.ID)}, &report); err != nil {
		return err
	}
	return printJSON(p.Stdout, report)
}
