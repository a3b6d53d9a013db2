package router

import (
	"errors"
	"time"
)

// Config are the router's settings; zero values take the defaults.
type Config struct {
	// Remember is how many records of a partition are remembered to recognise
	// repetitions; default bus.SeenBound.
	Remember int
	// Behind is how long a record waits for the directory that its writer saw
	// before the wait is reported and begun again; default 5 s.
	Behind time.Duration
}

func (c Config) complete() (Config, error) {
	if c.Remember < 0 || c.Behind < 0 {
		return c, errors.New("router: settings must not be negative")
	}
	if c.Behind == 0 {
		c.Behind = 5 * time.Second
	}
	return c, nil
}
