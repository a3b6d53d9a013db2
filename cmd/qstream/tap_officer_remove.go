package main

import (
	"context"

	"qstream/tapper/vault/order"
)

// tapOfficerRemoveCmd removes an officer.
type tapOfficerRemoveCmd struct {
	officerFlags
	Name string `arg:"" help:"The officer's name."`
}

func (c *tapOfficerRemoveCmd) Run(ctx context.Context, p *Process) error {
	return c.agree(ctx, p, order.Change{Remove: c.Name})
}
