package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/control"
	"qstream/delay"
	"qstream/directory"
	"qstream/router"
)

// stage is what every role is once it is made.
type stage interface {
	Run(ctx context.Context) error
	// Ready is nil while the stage does its work.
	Ready() error
}

// ground is what the roles of a process share.
type ground struct {
	bus       *bus.Bus
	directory *directory.Follower
	control   *control.Follower
	log       *slog.Logger
	metrics   prometheus.Registerer
	now       func() time.Time
	failpoint func(string)
}

// role is a row of the role table: its name and its constructor. New checks
// and starts nothing.
type role struct {
	name string
	make func(ground) (stage, error)
}

func routerRole() role {
	return role{"router", func(g ground) (stage, error) {
		return router.New(router.Config{}, router.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}

func delayRole() role {
	return role{"delay", func(g ground) (stage, error) {
		return delay.New(delay.Config{}, delay.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}

// The verbs of single roles.
type (
	routerCmd struct{ roleFlags }
	delayCmd  struct{ roleFlags }
)

func (c *routerCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, routerRole()) }
func (c *routerCmd) check(p *Process) error                    { return c.checkRoles(p, routerRole()) }

func (c *delayCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, delayRole()) }
func (c *delayCmd) check(p *Process) error                    { return c.checkRoles(p, delayRole()) }
