package main

import (
	"context"

	"qstream/delay"
)

// delayCmd runs delay alone.
type delayCmd struct{ roleFlags }

func (c *delayCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, delayRole()) }
func (c *delayCmd) check(p *Process) error                    { return c.checkRoles(p, delayRole()) }

func delayRole() role {
	return role{"delay", func(g ground) (stage, error) {
		return delay.New(delay.Config{}, delay.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}
