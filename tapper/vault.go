package tapper

import "qstream/tapper/vault"

// VaultConfig are the settings of the vault's part; without Dir there is none.
type VaultConfig = vault.Config

func newVault(cfg VaultConfig, d Deps) (part, error) {
	if cfg.Me == "" {
		cfg.Me = "localhost"
	}
	return vault.New(cfg, vault.Deps{Bus: d.Bus, Directory: d.Directory, Log: d.Log, Metrics: d.Metrics, Now: d.Now})
}
