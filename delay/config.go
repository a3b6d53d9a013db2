package delay

import (
	"errors"
	"time"

	"qstream/schemas"
)

// holdClass is the retention class whose topic is schemas.Hold.
const holdClass = "hold"

// Config are the settings of a Delay; zero values take the defaults.
type Config struct {
	// Check is how often parked legs are held against the standing state;
	// default 30 s.
	Check time.Duration
	// Watch is how often the queue topics are searched for legs past their
	// lifetime; default 30 s.
	Watch time.Duration
	// Margin is how long before its topic drops it content of a waiting leg is
	// copied to hold; default 1 d.
	Margin time.Duration
	// KeepEvery is how often such content is looked for; default 10 min.
	KeepEvery time.Duration
	// Retention is how long a topic keeps content, 0 for ever; default: as the
	// topic table says.
	Retention func(topic string) time.Duration
}

func (c Config) complete() (Config, error) {
	for _, s := range []struct {
		at       *time.Duration
		normally time.Duration
	}{
		{&c.Check, 30 * time.Second}, {&c.Watch, 30 * time.Second},
		{&c.Margin, 24 * time.Hour}, {&c.KeepEvery, 10 * time.Minute},
	} {
		if *s.at < 0 {
			return c, errors.New("delay: settings must not be negative")
		}
		if *s.at == 0 {
			*s.at = s.normally
		}
	}
	if c.Retention == nil {
		c.Retention = tableRetention
	}
	return c, nil
}

// tableRetention is a topic's retention in default sizes; topics of other
// content classes keep content at least as long as the received topic.
func tableRetention(topic string) time.Duration {
	kept := time.Duration(0)
	for _, row := range schemas.FixedTopics() {
		if row.Name == topic {
			return max(row.Retention, 0)
		}
		if row.Name == schemas.Received {
			kept = row.Retention
		}
	}
	return kept
}
