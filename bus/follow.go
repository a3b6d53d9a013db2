package bus

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// How often a Follower asks for the ends, and for partitions that are new.
const (
	freshEvery = 200 * time.Millisecond
	partsEvery = 3 * time.Second
	// syncEvery is how often Sync looks whether the end is reached.
	syncEvery = 3 * time.Millisecond
)

// Follow reads on for ever.
func (b *Bus) Follow(topics []string, start Start, apply func(Record) error) *Follower {
	return &Follower{
		b: b, topics: sorted(topics), start: start, apply: apply,
		caught: make(chan struct{}),
	}
}

// Follower is a Read that goes on, over outages of the broker too. Partitions
// that topics gain are read from their start, some seconds later.
type Follower struct {
	b      *Bus
	topics []string
	start  Start
	apply  func(Record) error
	caught chan struct{}

	mu      sync.Mutex
	reader  *reader // nil: not open yet
	fresh   time.Time
	asked   time.Time // when the ends were asked for that aren't reached yet
	ends    offsets   // nil: none are open
	settled bool
}

// CaughtUp is closed once everything that was there at the start is applied.
func (f *Follower) CaughtUp() <-chan struct{} { return f.caught }

// Fresh is the latest time for which it is confirmed that everything appended
// before it has been applied; refreshed at least twice a second while the
// broker answers. It is the zero time before CaughtUp.
func (f *Follower) Fresh() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh
}

// Sync waits until everything that was appended before the call is applied;
// it fails when ctx ends before.
func (f *Follower) Sync(ctx context.Context) error {
	var ends offsets
	for {
		f.mu.Lock()
		r := f.reader
		f.mu.Unlock()
		if r != nil && ends == nil {
			r.mu.Lock()
			parts := r.pos.keys()
			r.mu.Unlock()
			var err error
			if ends, err = f.b.listOffsets(ctx, newest, parts); err != nil {
				return err
			}
		}
		if r != nil && r.reached(ends) {
			return nil
		}
		if !Pause(ctx, syncEvery) {
			return fmt.Errorf("follow %s up to its end: %w", f.topics[0], ctx.Err())
		}
	}
}

// Run reads until ctx ends, then returns nil, or until apply fails, and returns
// its error. Call it once.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// RunThen is Run that calls caught once CaughtUp is closed, unless it ends
// before. It returns after caught has.
func (f *Follower) RunThen(ctx context.Context, caught func()) error {
	ctx, stop := context.WithCancel(ctx)
	var settling sync.WaitGroup
	settling.Go(func() {
		select {
		case <-f.caught:
			caught()
		case <-ctx.Done():
		}
	})
	defer settling.Wait()
	defer stop()
	return f.Run(ctx)
}

func (f *Follower) run(ctx context.Context) error {
	r, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	f.mu.Lock()
	f.reader = r
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() { f.ask(ctx, r) })
	defer asking.Wait()
	defer cancel()
	for {
		if err := r.poll(ctx, f.apply); err != nil {
			return err
		}
		f.confirm(r)
	}
}

// open waits until the topics exist and their leaders answer.
func (f *Follower) open(ctx context.Context) (*reader, error) {
	for warned := false; ; {
		parts, err := f.b.partitions(ctx, f.topics)
		var from offsets
		if err == nil {
			from, err = f.b.resolve(ctx, f.start, parts)
		}
		if err == nil {
			return f.b.newReader(from)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !warned {
			f.b.log.Warn("can't read yet, trying again", "topic", f.topics[0], "err", err)
			warned = true
		}
		if !Pause(ctx, freshEvery) {
			return nil, ctx.Err()
		}
	}
}

// ask asks for the committed ends again and again. New ends are asked for
// only once the last are reached: under load they would run ahead for ever.
func (f *Follower) ask(ctx context.Context, r *reader) {
	looked := time.Now()
	for {
		if time.Since(looked) >= partsEvery {
			f.widen(ctx, r)
			looked = time.Now()
		}
		if !f.pending() {
			f.askOnce(ctx, r)
		}
		f.confirm(r)
		if !Pause(ctx, freshEvery) {
			return
		}
	}
}

// pending reports whether ends are waited for.
func (f *Follower) pending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends != nil
}

func (f *Follower) askOnce(ctx context.Context, r *reader) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// Without the monotonic reading, which stands still while a machine sleeps.
	asked := f.b.cfg.Now().Round(0)
	r.mu.Lock()
	parts := r.pos.keys()
	r.mu.Unlock()
	ends, err := f.b.listOffsets(ctx, newest, parts)
	if err != nil {
		return // the next round asks again; Fresh tells that it grows old
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.ends = asked, ends
}

// confirm moves Fresh once the ends asked for are applied.
func (f *Follower) confirm(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends == nil || !r.reached(f.ends) {
		return
	}
	f.fresh, f.ends = f.asked, nil
	if !f.settled {
		f.settled = true
		close(f.caught)
	}
}

// widen starts reading partitions that were added to the topics.
func (f *Follower) widen(ctx context.Context, r *reader) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	parts, err := f.b.partitions(ctx, f.topics)
	if err != nil {
		return
	}
	r.mu.Lock()
	added := missing(parts, r.pos)
	r.mu.Unlock()
	if len(added) == 0 {
		return
	}
	from, err := f.b.listOffsets(ctx, oldest, added)
	if err != nil {
		return
	}
	r.add(from)
}
