package ledger

import (
	"errors"
	"time"

	"qstream/ledger/audit"
)

// Config are the ledger's settings; zero values take the defaults.
type Config struct {
	// Dir is where the view's file is; required. One process has it at a time.
	Dir string
	// MaxBytes bounds the file: at the bound the role is unready, as on a full
	// disk. 0: no bound.
	MaxBytes int64
	// Every is how old an event may get before it is written; default 1 s.
	Every time.Duration
	// Batch is how many events are written at a time at most; default 20,000.
	// What comes and goes within a batch costs least.
	Batch int
	// Wait is how long an answer waits for the view to be up to date; default 3 s.
	Wait time.Duration
	// Retry is how long the view rests after it failed; default 2 s.
	Retry time.Duration
	// Look is how often it is looked for records that no router reads; default 1 s.
	Look time.Duration
	// Tell is how often the edges are told what waits of who has a quota;
	// default 2 s.
	Tell time.Duration
	// Audit is how the account of mail is audited.
	Audit audit.Config
}

func (c Config) complete() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("ledger: no directory for its file")
	}
	if c.Every < 0 || c.Batch < 0 || c.Wait < 0 || c.Retry < 0 || c.Look < 0 || c.MaxBytes < 0 {
		return c, errors.New("ledger: settings must not be negative")
	}
	for _, d := range []struct {
		set   *time.Duration
		value time.Duration
	}{{&c.Every, time.Second}, {&c.Wait, 3 * time.Second}, {&c.Retry, 2 * time.Second}, {&c.Look, time.Second}, {&c.Tell, 2 * time.Second}} {
		if *d.set == 0 {
			*d.set = d.value
		}
	}
	if c.Batch == 0 {
		c.Batch = 20_000
	}
	return c, nil
}
