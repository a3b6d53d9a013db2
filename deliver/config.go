package deliver

import (
	"errors"
	"fmt"
	"os"
	"time"

	"qstream/schemas"
)

// Config are the stage's settings; zero values take the defaults.
type Config struct {
	Pools      []string        // whose queues are delivered; default "default"
	AllPools   bool            // instead of Pools: every pool that the directory names, as it changes
	Scheduler  SchedulerConfig // what one process holds and runs
	Me         string          // name of this system where neither queue nor site says one; default the host's name
	Own        []string        // further names and addresses of this system, for loops of MX records
	Drain      time.Duration   // how long begun attempts may go on at a stop; default 45 s
	DelayAfter time.Duration   // age at which a sender is told of a delay; default 4 h
	Fresh      time.Duration   // oldest view of directory and control with which attempts are made; default 1 s
	MaxSkew    time.Duration   // difference from the broker's clock above which nothing is done; default 30 s
}

func (c Config) complete() (Config, error) {
	if c.Drain < 0 || c.DelayAfter < 0 || c.Fresh < 0 || c.MaxSkew < 0 {
		return c, errors.New("deliver: settings must not be negative")
	}
	if len(c.Pools) == 0 {
		c.Pools = []string{schemas.DefaultPool}
	}
	if c.Me == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("deliver: name of this host: %w", err)
		}
		c.Me = name
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&c.Drain, 45*time.Second)
	set(&c.DelayAfter, 4*time.Hour)
	set(&c.Fresh, time.Second)
	set(&c.MaxSkew, 30*time.Second)
	c.Scheduler.defaults()
	return c, c.Scheduler.check()
}

func (c SchedulerConfig) check() error {
	if min(c.Slots, c.SettleSlots, c.Held, c.HeldBytes, c.PartitionHeld) < 0 {
		return errors.New("deliver: bounds must not be negative")
	}
	return nil
}
