package main

import (
	"context"

	"qstream/router"
)

// routerCmd runs the router alone.
type routerCmd struct{ roleFlags }

func (c *routerCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, routerRole()) }
func (c *routerCmd) check(p *Process) error                    { return c.checkRoles(p, routerRole()) }

func routerRole() role {
	return role{"router", func(g ground) (stage, error) {
		return router.New(router.Config{}, router.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}
