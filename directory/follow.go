package directory

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"qstream/bus"
	"qstream/schemas"
)

// Follower holds the newest snapshot of a running process; safe for
// concurrent use.
type Follower struct {
	bus  *bus.Bus
	log  *slog.Logger
	fold *fold // only by Run

	mu      sync.Mutex
	from    *bus.Follower // nil before Run
	newest  *Snapshot
	changed chan struct{}
	ready   chan struct{}
	settled bool // everything that was there at the start is read
	skipped uint64
	fault   error
}

// Follow makes a follower; it starts nothing.
func Follow(b *bus.Bus) *Follower {
	empty, err := Build(nil)
	if err != nil {
		panic(err) // an empty directory is consistent
	}
	return &Follower{
		bus: b, log: slog.Default(), fold: newFold(), newest: empty,
		changed: make(chan struct{}), ready: make(chan struct{}),
	}
}

// WithLog makes the follower log to log instead of slog's default. Call it
// before Run.
func (f *Follower) WithLog(log *slog.Logger) *Follower {
	f.log = log
	return f
}

// Run follows the directory topic until ctx ends. Call it once.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.fold.seek(ctx, f.bus); err != nil {
		f.log.Warn("newest full directory not found, reading all", "topic", schemas.Directory, "err", err)
	}
	from := f.bus.Follow([]string{schemas.Directory}, f.fold.start(), f.take)
	f.mu.Lock()
	f.from = from
	f.mu.Unlock()
	return from.RunThen(ctx, f.settle)
}

// take is called for each record, never concurrently.
func (f *Follower) take(r bus.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.fold.take(r)
	switch {
	case errors.Is(err, errLost):
		f.log.Debug("apply lost its race", "topic", r.Topic, "offset", r.Offset, "err", err)
		return nil
	case err != nil:
		f.skipped++
		f.log.Error("directory record skipped", "topic", r.Topic, "offset", r.Offset, "err", err)
		return nil
	}
	if f.settled { // before, one snapshot is made when everything is read
		f.swap()
	}
	return nil
}

// settle makes the first snapshot once the topic was read to its end.
func (f *Follower) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = true
	f.swap()
}

// swap takes the snapshot at the head, or keeps the old one if the head isn't
// understood: mail goes on by the last directory that was. If there was none,
// the process isn't ready: by an empty directory mail would bounce.
func (f *Follower) swap() {
	s, err := f.fold.snapshot()
	if f.fault = err; err != nil {
		f.log.Error("directory not understood, the last one stays in force", "err", err)
		return
	}
	f.newest = s
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// Ready is closed once the first complete snapshot is there: everything that
// was on the topic at the start is read, and understood.
func (f *Follower) Ready() <-chan struct{} { return f.ready }

// Snapshot is the newest one; before Ready it is the empty directory.
func (f *Follower) Snapshot() *Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest
}

// Changed returns a channel that is closed at the next swap.
func (f *Follower) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
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

// Fault says why the newest apply isn't in force here; nil if it is.
func (f *Follower) Fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}
