package tapper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/sealed"
)

// VaultConfig are the settings of the vault's part.
type VaultConfig struct {
	Dir    string        // its folder; empty: there is no vault
	Beat   time.Duration // of the logs of orders and audit; default 5 s
	Listen string        // an address for officers of other hosts; empty: none
	TLS    *tls.Config   // for that: our certificate, and who signs the officers'
}

// vault keeps the orders of lawful taps, and hears who may.
type vault struct {
	docket *docket.Docket
	set    *sealed.Set
	office *office.Server
}

func newVault(cfg VaultConfig, d Deps) (*vault, error) {
	folder, err := docket.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	v := &vault{}
	if v.docket, err = docket.New(docket.Config{Bus: d.Bus, Folder: folder, Every: cfg.Beat, Now: d.Now}); err != nil {
		return nil, err
	}
	v.set, err = sealed.New(sealed.Config{Bus: d.Bus, Keys: folder.Keys, Logs: v.docket.Logs(), Now: d.Now, Log: d.Log, Metrics: d.Metrics})
	if err != nil {
		return nil, err
	}
	v.office, err = office.New(office.Config{
		Docket: v.docket, Folder: folder, Active: v.set.Active, Listen: cfg.Listen, TLS: cfg.TLS, Now: d.Now, Log: d.Log,
	})
	return v, err
}

// Run runs the vault until ctx ends: the office opens once the orders are known.
func (v *vault) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := v.set.Run(ctx); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-v.set.CaughtUp():
		}
		return v.office.Run(ctx)
	})
	return g.Wait()
}

// Ready is nil once the orders are known and officers can come.
func (v *vault) Ready() error {
	select {
	case <-v.set.CaughtUp():
	default:
		return errors.New("the vault's logs are being read")
	}
	return v.office.Ready()
}
