package main

import (
	"context"
	"time"

	"qstream/replay/bundle"
	"qstream/tapper"
	"qstream/tapper/custody"
)

// tapperCmd runs the tapper alone.
type tapperCmd struct {
	roleFlags
	tapFlags
}

// tapFlags are the tapper's settings that up has, too.
type tapFlags struct {
	CheckpointKey   string        `placeholder:"FILE" type:"existingfile" help:"Keep a chain of custody over the log, signed by the Ed25519 key in this PEM file (openssl genpkey -algorithm ed25519)."`
	CheckpointEvery time.Duration `placeholder:"TIME" help:"How often the log is signed (default: 1m)."`
}

func (c *tapperCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, c.role()) }
func (c *tapperCmd) check(p *Process) error                    { return c.checkRoles(p, c.role()) }

func (f tapFlags) role() role {
	return role{"tapper", func(g ground) (stage, error) {
		cfg := tapper.Config{Custody: custody.Config{Every: f.CheckpointEvery}}
		if f.CheckpointKey != "" {
			key, err := bundle.ReadPrivateKey(f.CheckpointKey)
			if err != nil {
				return nil, usagef("--checkpoint-key: %w", err)
			}
			cfg.Custody.Key = key
		}
		return tapper.New(cfg, tapper.Deps{
			Bus: g.bus, Directory: g.directory, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}
