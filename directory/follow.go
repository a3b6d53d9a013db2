package directory

import (
	"context"
	"time"

	"qstream/bus"
)

// Follower holds the newest snapshot of a running process; safe for
// concurrent use.
type Follower struct{}

// Follow makes a follower; it starts nothing.
func Follow(b *bus.Bus) *Follower { panic("todo") }

// Run follows the directory topic until ctx ends.
func (f *Follower) Run(ctx context.Context) error { panic("todo") }

// Ready is closed once the first complete snapshot is there.
func (f *Follower) Ready() <-chan struct{} { panic("todo") }

// Snapshot is the newest one; never nil after Ready.
func (f *Follower) Snapshot() *Snapshot { panic("todo") }

// Changed returns a channel that is closed at the next swap.
func (f *Follower) Changed() <-chan struct{} { panic("todo") }

// Fresh is as bus.Follower.Fresh.
func (f *Follower) Fresh() time.Time { panic("todo") }
