package scanner

import (
	"errors"
	"time"
)

// Config are the settings of a Scanner; zero values take the defaults.
type Config struct {
	Pools    []string // whose queues are scanned; default: the pool named default
	AllPools bool     // every pool that the directory names, instead of Pools
	// Scans is how many messages are scanned at once in this process; default
	// 64. Each takes about a megabyte.
	Scans int
	Held  int           // legs held; default 4096
	Drain time.Duration // how long a stop waits for what has begun; default 10 s
	Kept  int           // verdicts that are kept in memory; default 20,000
	// Again is how many messages of the past are scanned again at once in this
	// process; default 4, negative: none.
	Again int
	// Shadows is how many messages are compared at once in this process, beside
	// those that are scanned; default 16.
	Shadows int
	Tell    time.Duration // how often counts of comparisons are told; default 10 s
}

// heldOfPart is how many legs of one partition are held: a flood in one queue
// must leave the others their room, and what waits in the topic costs nothing.
const heldOfPart = 64

func (c Config) complete() (Config, error) {
	if c.Scans < 0 || c.Held < 0 || c.Drain < 0 || c.Kept < 0 || c.Shadows < 0 || c.Tell < 0 {
		return c, errors.New("scanner: settings must not be negative")
	}
	if c.Again == 0 {
		c.Again = 4
	}
	if len(c.Pools) == 0 {
		c.Pools = []string{"default"}
	}
	if c.Scans == 0 {
		c.Scans = 64
	}
	if c.Held == 0 {
		c.Held = 4096
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Kept == 0 {
		c.Kept = 20_000
	}
	if c.Shadows == 0 {
		c.Shadows = 16
	}
	if c.Tell == 0 {
		c.Tell = 10 * time.Second
	}
	return c, nil
}
