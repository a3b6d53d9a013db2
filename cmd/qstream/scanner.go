package main

import (
	"context"
	"time"

	"qstream/engine/engines"
	"qstream/scanner"
)

// scannerCmd runs the scanner alone.
type scannerCmd struct {
	roleFlags
	Pools []string      `placeholder:"POOL" help:"Pools whose queues are scanned (default: the pool named default)."`
	Drain time.Duration `placeholder:"TIME" help:"How long what has ended may take to be published at a stop (default: 10s)."`
	scanFlags
}

// scanFlags are the scanner's settings that up has, too.
type scanFlags struct {
	Rescans int `placeholder:"N" help:"Most messages of the past scanned again at once in this process; -1 for none (default: 4)."`
	Scans   int `placeholder:"N" help:"Most messages scanned at once in this process (default: 64)."`
	Shadows int `placeholder:"N" help:"Most messages at once, beside these, that shadow policies are asked about (default: 16)."`
}

func (c *scannerCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, c.role()) }
func (c *scannerCmd) check(p *Process) error                    { return c.checkRoles(p, c.role()) }

func (c *scannerCmd) role() role {
	return c.scanFlags.role(scanner.Config{Pools: c.Pools, Drain: c.Drain})
}

func (f scanFlags) role(cfg scanner.Config) role {
	cfg.Scans, cfg.Again, cfg.Shadows = f.Scans, f.Rescans, f.Shadows
	return role{"scanner", func(g ground) (stage, error) {
		return scanner.New(cfg, scanner.Deps{
			Bus: g.bus, Directory: g.directory, Engine: engines.New, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}
