package delay

import (
	"context"
	"maps"
	"sync"
	"time"

	"qstream/bus"
	"qstream/control"
)

// settle is how long entries that were overlooked are gathered.
const settle = 200 * time.Millisecond

// orders are commands that wait to be obeyed.
type orders struct {
	wake  chan struct{}
	found chan struct{} // entries that a pull would match were read

	mu      sync.Mutex
	flushes []control.Scope
	resumed bool
	named   map[named]bool // messages that orders are about
	again   map[named]bool // those that were pulled since the last check
}

// named is a message that an order names: its legs in quarantine, or those
// that wait for anything else.
type named struct {
	id          string
	quarantined bool
}

func newOrders() orders {
	return orders{wake: make(chan struct{}, 1), found: make(chan struct{}, 1)}
}

// look asks for a look at what waits; it doesn't block.
func (o *orders) look() { poke(o.found) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// command takes a command from the follower; it doesn't block.
func (d *Delay) command(c control.Command) {
	o := &d.orders
	o.mu.Lock()
	switch c.Verb {
	case control.Flush:
		o.flushes = append(o.flushes, c.Scope)
	case control.Resume, control.ResumeHeld:
		o.resumed = true
	case control.Release, control.Delete:
		o.name(c, true)
	case control.ScanAgain:
		o.name(c, false)
	}
	o.mu.Unlock()
	poke(o.wake)
}

// name adds the messages that a command names; o.mu is held.
func (o *orders) name(c control.Command, quarantined bool) {
	if o.named == nil {
		o.named = map[named]bool{}
	}
	for _, h := range c.Held {
		o.named[named{h.MessageId, quarantined}] = true
	}
}

// take empties the orders.
func (o *orders) take() (flushes []control.Scope, resumed bool, messages map[named]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	flushes, resumed, messages = o.flushes, o.resumed, o.named
	o.flushes, o.resumed, o.named = nil, false, nil
	return flushes, resumed, messages
}

// repeat adds messages to those that are pulled again; nil: it returns and
// forgets them.
func (o *orders) repeat(messages map[named]bool) map[named]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if messages == nil {
		messages, o.again = o.again, nil
		return messages
	}
	if o.again == nil {
		o.again = map[named]bool{}
	}
	maps.Copy(o.again, messages)
	return nil
}

// obey pulls what commands, the directory and the standing state set free,
// one after the other.
func (d *Delay) obey(ctx context.Context) error {
	check := time.NewTicker(d.cfg.Check)
	defer check.Stop()
	keep := time.NewTimer(0)
	defer keep.Stop()
	changed := d.deps.Directory.Changed()
	before := d.deps.Directory.Snapshot()
	d.pullFreed(ctx)
	var gathered <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.orders.wake:
			d.obeyCommands(ctx)
		case <-changed:
			changed = d.deps.Directory.Changed()
			after := d.deps.Directory.Snapshot()
			d.pull(ctx, "moved", moved(before, after))
			d.pull(ctx, "outlived", outlived(d.control.State().Suspended, after.Queue, d.deps.Now()))
			before = after
		case <-d.orders.found:
			if gathered == nil {
				gathered = time.After(settle)
			}
		case <-gathered:
			gathered = nil
			d.pullFreed(ctx)
			keep.Reset(d.pullUnsafe(ctx))
		case <-check.C:
			d.pullFreed(ctx)
			d.pullAgain(ctx)
		case <-keep.C:
			keep.Reset(d.pullUnsafe(ctx))
		}
	}
}

func (d *Delay) obeyCommands(ctx context.Context) {
	flushes, resumed, messages := d.orders.take()
	if resumed {
		d.pullFreed(ctx)
	}
	for _, scope := range flushes {
		d.flush.Store(&scope)
		d.pull(ctx, "flush", flush(scope))
		d.flush.Store(nil)
	}
	if len(messages) > 0 {
		// Legs that are read later find the order by themselves; legs of these
		// messages that it isn't about go round once.
		d.pull(ctx, "ordered", about(messages))
		d.orders.repeat(messages)
	}
}

// about matches legs of messages.
func about(messages map[named]bool) func(bus.Entry) bool {
	return func(e bus.Entry) bool { return messages[named{e.ID, e.Kind&kindQuarantined != 0}] }
}

// pullAgain repeats what was pulled for orders since the last check: a leg may
// have been read without the order and be held after the pull.
func (d *Delay) pullAgain(ctx context.Context) {
	if messages := d.orders.repeat(nil); len(messages) > 0 {
		d.pull(ctx, "ordered", about(messages))
	}
}

func (d *Delay) pullFreed(ctx context.Context) {
	s := d.deps.Directory.Snapshot()
	d.pull(ctx, "freed", freed(d.control.State().Suspended, d.control.State().Resumed, s.Queue, d.deps.Now()))
}

// pull releases what matches, once our clock can be trusted. What can't be
// pulled now is found again by the next check, or is released when due.
func (d *Delay) pull(ctx context.Context, why string, match func(bus.Entry) bool) int {
	if !d.awaitClock(ctx) {
		return 0
	}
	n, err := d.holder.Pull(ctx, match)
	d.metrics.pulled.WithLabelValues(why).Add(float64(n))
	switch {
	case err != nil && ctx.Err() == nil:
		d.deps.Log.Error("pull failed", "stage", stageName, "why", why, "err", err)
	case n > 0:
		d.deps.Log.Info("waiting legs pulled", "stage", stageName, "why", why, "count", n)
	}
	return n
}

// awaitClock waits for a clock that can be trusted.
func (d *Delay) awaitClock(ctx context.Context) bool {
	for d.clock() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
	return true
}
