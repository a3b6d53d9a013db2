package delay

import (
	"errors"
	"time"
)

// Config are the settings of a Delay; zero values take the defaults.
type Config struct {
	// Check is how often parked legs are held against the standing state;
	// default 30 s.
	Check time.Duration
	// Watch is how often the queue topics are searched for legs past their
	// lifetime; default 30 s.
	Watch time.Duration
}

func (c Config) complete() (Config, error) {
	for _, s := range []struct {
		at       *time.Duration
		normally time.Duration
	}{
		{&c.Check, 30 * time.Second}, {&c.Watch, 30 * time.Second},
	} {
		if *s.at < 0 {
			return c, errors.New("delay: settings must not be negative")
		}
		if *s.at == 0 {
			*s.at = s.normally
		}
	}
	return c, nil
}
