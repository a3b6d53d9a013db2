package main

import (
	"context"
	"errors"
	"time"

	"qstream/deliver"
	"qstream/transport/resolver"
	"qstream/transport/schemes"
)

// deliverCmd runs deliver alone.
type deliverCmd struct {
	roleFlags
	deliverFlags
}

// deliverFlags are deliver's settings.
type deliverFlags struct {
	Pools []string      `placeholder:"POOL" help:"Pools whose queues are delivered (default: the pool named default; in up: every pool)."`
	Me    string        `placeholder:"NAME" help:"Our name where neither queue nor site says one (default: the host's)."`
	Own   []string      `placeholder:"NAME" help:"Further names and addresses of this system, to recognise loops of MX records."`
	DNS   []string      `name:"dns" placeholder:"HOST:PORT" help:"DNS servers (default: those of /etc/resolv.conf)."`
	Drain time.Duration `placeholder:"TIME" help:"How long begun attempts may go on at a stop (default: 45s)."`

	all bool // every pool that the directory names, instead of Pools
}

func (c *deliverCmd) Run(ctx context.Context, p *Process) error {
	return c.run(ctx, p, c.deliverFlags.role())
}
func (c *deliverCmd) check(p *Process) error { return c.checkRoles(p, c.deliverFlags.role()) }

func (f deliverFlags) role() role {
	return role{"deliver", func(g ground) (stage, error) {
		r, err := resolver.New(resolver.Config{Servers: f.DNS, Now: g.now})
		if err != nil {
			return nil, err
		}
		transports, err := schemes.New(schemes.Config{Resolver: r})
		if err != nil {
			return nil, err
		}
		s, err := deliver.New(deliver.Config{Pools: f.Pools, AllPools: f.all, Me: f.Me, Own: f.Own, Drain: f.Drain}, deliver.Deps{
			Bus: g.bus, Directory: g.directory, Control: g.control, Transport: transports,
			Log: g.log, Metrics: g.metrics, Now: g.now, Failpoint: g.failpoint,
		})
		if err != nil {
			return nil, errors.Join(err, transports.Close())
		}
		return closing{s, transports.Close}, nil
	}}
}

// closing is a stage that lets go of something when it has ended.
type closing struct {
	stage
	close func() error
}

func (c closing) Run(ctx context.Context) error {
	return errors.Join(c.stage.Run(ctx), c.close())
}
