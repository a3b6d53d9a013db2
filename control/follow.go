package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"qstream/bus"
	"qstream/schemas"
)

// Follower follows the control topic. Safe for concurrent use.
type Follower struct {
	bus *bus.Bus
	log *slog.Logger
	on  func(Command)

	mu      sync.Mutex
	fold    *fold
	from    *bus.Follower // nil before Run
	ready   chan struct{}
	skipped uint64
}

// Follow makes a follower; it starts nothing. on is called in order for each
// command applied after the follower had caught up; it must not block. May be
// nil.
func Follow(b *bus.Bus, on func(Command)) *Follower {
	return &Follower{bus: b, log: slog.Default(), on: on, fold: newFold(), ready: make(chan struct{})}
}

// WithLog makes the follower log to log instead of slog's default. Call it
// before Run.
func (f *Follower) WithLog(log *slog.Logger) *Follower {
	f.log = log
	return f
}

// Run follows until ctx ends. Call it once.
func (f *Follower) Run(ctx context.Context) error {
	first := newFold()
	if err := first.seek(ctx, f.bus); err != nil {
		f.log.Warn("newest state not found, reading all commands", "topic", schemas.Control, "err", err)
	}
	from := f.bus.Follow([]string{schemas.Control}, first.start(), f.take)
	f.mu.Lock()
	f.fold, f.from = first, from
	f.mu.Unlock()
	return from.RunThen(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.ready)
	})
}

// take is called for each record, never concurrently.
func (f *Follower) take(r bus.Record) error {
	if c, live := f.apply(r); live && f.on != nil {
		f.on(c)
	}
	return nil
}

func (f *Follower) apply(r bus.Record) (c Command, live bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.fold.take(r)
	switch {
	case errors.Is(err, errLost):
		f.log.Debug("command lost its race", "topic", r.Topic, "offset", r.Offset, "err", err)
		return c, false
	case err != nil:
		f.skipped++
		f.log.Error("command record skipped", "topic", r.Topic, "offset", r.Offset, "err", err)
		return c, false
	}
	select {
	case <-f.ready:
		return c, c.Verb != ""
	default:
		return c, false
	}
}

// Ready is closed once everything that was there at the start is applied.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// State is the newest one; never nil.
func (f *Follower) State() *State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fold.state
}

// Fresh is as bus.Follower.Fresh.
func (f *Follower) Fresh() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from == nil {
		return time.Time{}
	}
	return f.from.Fresh()
}

// Skipped is how many records could not be read.
func (f *Follower) Skipped() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.skipped
}
