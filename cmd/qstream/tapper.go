package main

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"qstream/directory"
	"qstream/ingest/auth"
	"qstream/replay/bundle"
	"qstream/tapper"
	"qstream/tapper/custody"
	"qstream/tapper/tenants"
)

// tapperCmd runs the tapper alone.
type tapperCmd struct {
	roleFlags
	tapFlags
}

// tapFlags are the tapper's settings that up has, too.
type tapFlags struct {
	vaultFlags      `embed:""`
	CheckpointKey   string        `placeholder:"FILE" type:"existingfile" help:"Keep a chain of custody over the log, signed by the Ed25519 key in this PEM file (openssl genpkey -algorithm ed25519)."`
	CheckpointEvery time.Duration `placeholder:"TIME" help:"How often the log is signed (default: 1m)."`
}

func (c *tapperCmd) Run(ctx context.Context, p *Process) error { return c.run(ctx, p, c.role()) }
func (c *tapperCmd) check(p *Process) error                    { return c.checkRoles(p, c.role()) }

func (f tapFlags) role() role {
	return role{"tapper", func(g ground) (stage, error) {
		identify, err := readers(g)
		if err != nil {
			return nil, err
		}
		vault, err := f.vaultFlags.config()
		if err != nil {
			return nil, err
		}
		cfg := tapper.Config{Identify: identify, Vault: vault, Custody: custody.Config{Every: f.CheckpointEvery}}
		if f.CheckpointKey != "" {
			key, err := bundle.ReadPrivateKey(f.CheckpointKey)
			if err != nil {
				return nil, usagef("--checkpoint-key: %w", err)
			}
			cfg.Custody.Key = key
		}
		return tapper.New(cfg, tapper.Deps{
			Bus: g.bus, Directory: g.directory, Control: g.control, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
	}}
}

// readers says whose events a request may read: users of the directory sign in
// by password, as they do where they submit mail.
func readers(g ground) (func(*http.Request) (user, tenant string, err error), error) {
	snapshot := func() *directory.Snapshot {
		select {
		case <-g.directory.Ready():
			return g.directory.Snapshot()
		default:
			return nil
		}
	}
	a, err := auth.New(auth.Config{}, auth.Deps{Snapshot: snapshot, Log: g.log, Now: g.now})
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (string, string, error) {
		user, password, ok := r.BasicAuth()
		if !ok || len(r.Header.Values("Authorization")) != 1 {
			return "", "", tenants.ErrUnknown
		}
		client := auth.Client{TLS: r.TLS}
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			client.Addr = peer.Addr()
		}
		exchange := a.Begin(r.Context(), client, auth.Plain)
		if exchange == nil {
			return "", "", errors.New("passwords are not taken at the moment")
		}
		_, done, err := exchange.Next([]byte("\x00" + user + "\x00" + password))
		switch {
		case errors.Is(err, auth.ErrRejected), errors.Is(err, auth.ErrMalformed):
			return "", "", tenants.ErrUnknown
		case err != nil || !done:
			return "", "", errors.New("users can't be checked at the moment")
		}
		who := exchange.Identity().User
		u := snapshot().Credential(who)
		if u == nil || !u.Events {
			return who, "", tenants.ErrForbidden
		}
		return who, u.Tenant, nil
	}, nil
}
