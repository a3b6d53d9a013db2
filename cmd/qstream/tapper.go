package main

import (
	"context"

	"qstream/tapper"
)

// tapperCmd runs the tapper alone.
type tapperCmd struct {
	roleFlags
	tapFlags
}

// tapFlags are the tapper's settings that up has, too.
type tapFlags struct {
	vaultFlags `embed:""`
}

func (c *tapperCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, c.role()) }
func (c *tapperCmd) check(p *Process) error                    { return c.checkRoles(p, c.role()) }

func (f tapFlags) role() role {
	return role{"tapper", func(g ground) (stage, error) {
		vault, err := f.vaultFlags.config()
		if err != nil {
			return nil, err
		}
		return tapper.New(tapper.Config{Vault: vault}, tapper.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}
