// Package control holds standing state and commands: suspend, resume, flush.
package control

import (
	"context"
	"time"

	"qstream/bus"
)

// Scope is what a command is about; empty fields match everything.
type Scope struct{ Tenant, Queue, Destination, MessageID string }

// State is the standing state at one command number; immutable.
type State struct{ Number uint64 }

// Suspended reports the suspension that covers a leg, if any, since when.
func (s *State) Suspended(tenant, queue, destination string) (since time.Time, ok bool) {
	panic("todo")
}

// Command is one command as roles see it.
type Command struct {
	Number uint64
	Verb   string // "suspend", "resume", "flush"
	Scope  Scope
	At     time.Time // append time
	Actor  string
	Reason string
}

// Follower follows the control topic. Safe for concurrent use.
type Follower struct{}

// Follow makes a follower; it starts nothing. on is called in order for each
// command applied after the follower had caught up; it must not block. May be nil.
func Follow(b *bus.Bus, on func(Command)) *Follower { panic("todo") }

func (f *Follower) Run(ctx context.Context) error { panic("todo") }
func (f *Follower) Ready() <-chan struct{}        { panic("todo") }
func (f *Follower) State() *State                 { panic("todo") }
func (f *Follower) Fresh() time.Time              { panic("todo") }

// Send publishes a command based on the head and waits until it is applied.
func Send(ctx context.Context, b *bus.Bus, c Command) (number uint64, err error) { panic("todo") }
