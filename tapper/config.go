package tapper

import (
	"fmt"
	"net/http"

	"qstream/tapper/archive"
	"qstream/tapper/custody"
	"qstream/tapper/tenants"
	"qstream/tapper/webhook"
)

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct {
	Custody custody.Config // without a key there is no chain of custody
	Archive archive.Config
	// Identify says which user asks for events over HTTP, and of which
	// tenant; its errors are tenants.ErrUnknown, tenants.ErrForbidden, or
	// temporary. Nil: nobody may ask.
	Identify func(*http.Request) (user, tenant string, err error)
	Vault    VaultConfig
}

// parts makes every part that the settings ask for, in the order of their start.
func (c Config) parts(d Deps) ([]named, error) {
	var parts []named
	if len(c.Custody.Key) > 0 {
		p, err := custody.New(c.Custody, custody.Deps{Bus: d.Bus, Log: d.Log, Metrics: d.Metrics, Now: d.Now})
		if err != nil {
			return nil, fmt.Errorf("chain of custody: %w", err)
		}
		parts = append(parts, named{"chain of custody", p})
	}
	archives, err := archive.New(c.Archive, archive.Deps{Bus: d.Bus, Directory: d.Directory, Log: d.Log, Metrics: d.Metrics, Now: d.Now})
	if err != nil {
		return nil, fmt.Errorf("archives: %w", err)
	}
	parts = append(parts, named{"archive", archives})
	own, err := tenants.New(tenants.Deps{
		Bus: d.Bus, Directory: d.Directory, Identify: c.Identify, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	parts = append(parts, named{"tenants", own})
	hooks, err := webhook.New(webhook.Deps{
		Bus: d.Bus, Directory: d.Directory, Control: d.Control, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	parts = append(parts, named{"webhooks", hooks})
	if c.Vault.Dir != "" {
		v, err := newVault(c.Vault, d)
		if err != nil {
			return nil, err
		}
		parts = append(parts, named{"vault", v})
	}
	return parts, nil
}
