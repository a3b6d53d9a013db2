package tapper

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct {
	Vault VaultConfig
}

// parts makes every part that the settings ask for, in the order of their start.
func (c Config) parts(d Deps) ([]named, error) {
	var parts []named
	if c.Vault.Dir != "" {
		v, err := newVault(c.Vault, d)
		if err != nil {
			return nil, err
		}
		parts = append(parts, named{"vault", v})
	}
	return parts, nil
}
