package tapper

import (
	"fmt"

	"qstream/tapper/custody"
)

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct {
	Custody custody.Config // without a key there is no chain of custody
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
	return parts, nil
}
