package tapper

import "qstream/tapper/archive"

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct {
	Archive archive.Config
}

// parts makes every part that the settings ask for, in the order of their start.
func (c Config) parts(d Deps) ([]named, error) {
	var parts []named
	archives, err := archive.New(c.Archive, archive.Deps{Bus: d.Bus, Directory: d.Directory, Log: d.Log, Metrics: d.Metrics, Now: d.Now})
	if err != nil {
		return nil, err
	}
	parts = append(parts, named{"archive", archives})
	return parts, nil
}
