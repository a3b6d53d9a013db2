package main

import (
	"context"

	"qstream/tapper/vault/order"
)

// tapOfficerAddCmd adds an officer.
type tapOfficerAddCmd struct {
	officerFlags
	Name string `arg:"" help:"The new officer's name."`
	File string `arg:"" type:"existingfile" help:"PEM file of the new officer's public key."`
}

func (c *tapOfficerAddCmd) Run(ctx context.Context, p *Process) error {
	o, err := readOfficer(c.Name, c.File)
	if err != nil {
		return err
	}
	return c.agree(ctx, p, order.Change{Add: &o})
}
