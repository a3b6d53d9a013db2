package tapper

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct{}

// parts makes every part that the settings ask for, in the order of their start.
func (c Config) parts(d Deps) ([]named, error) {
	var parts []named
	return parts, nil
}
