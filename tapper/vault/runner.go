package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
	"qstream/tapper/sink/sinks"
	"qstream/tapper/vault/lane"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

const (
	// recentKept bounds the entries of a lane that are kept in memory for sinks;
	// who is further behind reads the lane.
	recentKept = 500
	// atOnce is how many copies of a lane an order's sink gets before the next
	// lane's turn.
	atOnce = 100
	// The waits for a sink that fails double from the first to the last.
	firstWait = time.Second
	lastWait  = 5 * time.Minute
	// putTime bounds one Put.
	putTime = 10 * time.Minute
)

// runner hands copies to the orders' sinks, one order beside the other.
type runner struct {
	v *Vault

	mu     sync.Mutex
	recent [schemas.VaultLanes][]lane.Said
	wake   chan struct{} // closed and made anew at an entry with something for sinks
}

func newRunner(v *Vault) *runner { return &runner{v: v, wake: make(chan struct{})} }

// said is told of each entry of a lane that counts.
func (r *runner) said(n int, s lane.Said) {
	if len(s.Tick.Copies)+len(s.Tick.Outcomes)+len(s.Tick.Begins) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent[n] = append(r.recent[n], s)
	if over := len(r.recent[n]) - recentKept; over > 0 {
		r.recent[n] = append([]lane.Said(nil), r.recent[n][over:]...)
	}
	close(r.wake)
	r.wake = make(chan struct{})
}

// run serves every order that a lane knows until ctx ends.
func (r *runner) run(ctx context.Context) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	known := map[string]bool{}
	for {
		r.mu.Lock()
		wake := r.wake
		r.mu.Unlock()
		for _, l := range r.v.lanes {
			for _, t := range l.Taps() {
				if !known[t.Order] {
					known[t.Order] = true
					serving.Go(func() { r.serve(ctx, t.Order) })
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
	}
}

// serve hands an order's copies to its sink.
func (r *runner) serve(ctx context.Context, id string) {
	tap := r.v.docket.Book().Tap(id)
	if tap == nil {
		return // ended long ago
	}
	d := &delivery{runner: r, tap: tap, done: map[int]uint64{}}
	defer d.close()
	for ctx.Err() == nil {
		r.mu.Lock()
		wake := r.wake
		r.mu.Unlock()
		if d.round(ctx) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-wake:
		}
	}
}

// delivery is one order's.
type delivery struct {
	*runner
	tap     *order.Tap
	sink    sink.Sink      // nil: not made yet
	done    map[int]uint64 // by lane: what the sink has
	stands  []stand        // of the copy that is tried; nil: not known
	warned  time.Time
	failing time.Duration // the last wait; 0: none
}

func (d *delivery) close() {
	if d.sink != nil {
		_ = d.sink.Close()
	}
}

// round hands over some of each lane; false: there was nothing.
func (d *delivery) round(ctx context.Context) (worked bool) {
	for n, l := range d.v.lanes {
		for _, t := range l.Taps() {
			if t.Order != d.tap.Order.ID {
				continue
			}
			done := max(d.done[n], t.Acked)
			if t.Sequence <= done {
				continue
			}
			items, err := d.items(ctx, n, t, done+1)
			if err != nil || len(items) == 0 {
				d.wait(ctx)
				worked = true
				continue
			}
			worked = true
			for _, it := range items {
				lost, ok := d.put(ctx, n, it)
				if !ok {
					return true
				}
				d.done[n] = it.sequence
				var gone []uint64
				if lost {
					gone = []uint64{it.sequence}
				}
				l.Ack(t.Number, it.sequence, gone)
			}
		}
	}
	return worked
}

// item is a copy or an outcome.
type item struct {
	sequence uint64
	at       sealed.Place
	copy     *pb.TapCopy
	outcome  *pb.TapOutcome
}

// itemsOf are an order's among what a lane said, from a sequence number on.
func itemsOf(said []lane.Said, number uint32, from uint64) (items []item) {
	for _, s := range said {
		for _, c := range s.Tick.Copies {
			if c.Number == number && c.Sequence >= from {
				items = append(items, item{sequence: c.Sequence, at: s.At, copy: c})
			}
		}
		for _, o := range s.Tick.Outcomes {
			if o.Number == number && o.Sequence >= from {
				items = append(items, item{sequence: o.Sequence, at: s.At, outcome: o})
			}
		}
	}
	// Copies and outcomes of one entry stand apart.
	slices.SortStableFunc(items, func(x, y item) int { return cmp.Compare(x.sequence, y.sequence) })
	return items
}

// items are the next, in order and without a gap: from memory, or else from
// the lane.
func (d *delivery) items(ctx context.Context, n int, t lane.Tap, from uint64) ([]item, error) {
	d.mu.Lock()
	said := append([]lane.Said(nil), d.recent[n]...)
	d.mu.Unlock()
	items := inOrder(itemsOf(said, t.Number, from), from)
	if len(items) > 0 {
		return items, nil
	}
	said = nil
	found := 0
	topic := schemas.VaultLane(n)
	start := bus.Start{Offset: map[string]map[int32]int64{topic: {0: t.Open}}}
	err := sealed.Read(ctx, d.v.apart, d.v.folder.Keys, topic, start, func(taken sealed.Taken) error {
		for _, entry := range taken.Entries {
			tick := &pb.TapTick{}
			if proto.Unmarshal(entry, tick) != nil {
				continue
			}
			one := lane.Said{At: taken.Place, Tick: tick}
			said = append(said, one)
			found += len(itemsOf([]lane.Said{one}, t.Number, from))
		}
		if found >= atOnce {
			return errEnough
		}
		if found == 0 {
			said = nil
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return inOrder(itemsOf(said, t.Number, from), from), nil
}

var errEnough = errors.New("enough for now")

// inOrder cuts items to those that follow one another from a number on.
func inOrder(items []item, from uint64) []item {
	for i := range items {
		if items[i].sequence != from+uint64(i) || i == atOnce {
			return items[:i]
		}
	}
	return items
}

// put hands one over, again and again; false: ctx ended. lost: it can't be had
// any more.
func (d *delivery) put(ctx context.Context, n int, it item) (lost, ok bool) {
	for {
		err := d.try(ctx, n, it)
		switch {
		case ctx.Err() != nil:
			return false, false
		case err == nil:
			d.failing = 0
			return false, true
		case errors.Is(err, errGone):
			return true, d.note(ctx, fmt.Sprintf("copy %s can't be had any more, its sink doesn't have it", d.id(n, it.sequence)))
		}
		d.alarm(ctx, it)
		if !d.wait(ctx) {
			return false, false
		}
	}
}

func (d *delivery) try(ctx context.Context, n int, it item) error {
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	d.stands = nil
	if d.sink == nil {
		spec, err := sink.Parse(d.tap.Order.Sink)
		if err != nil {
			return err
		}
		// What a sink has to say depends on orders.
		d.sink, err = sinks.New(spec, sink.Deps{Me: d.v.cfg.Me, Log: slog.New(slog.DiscardHandler), Now: d.v.deps.Now})
		if err != nil {
			return err
		}
	}
	c, err := d.copy(ctx, n, it)
	if err != nil {
		return err
	}
	return d.sink.Put(ctx, c)
}

// wait waits longer each time.
func (d *delivery) wait(ctx context.Context) bool {
	d.failing = min(max(2*d.failing, min(firstWait, d.v.cfg.LaneBeat)), lastWait)
	return bus.Pause(ctx, d.failing)
}

// warnEvery is how often the audit is told of a sink that fails.
const warnEvery = 24 * time.Hour

// alarm tells the audit, once a day, of copies whose content leaves the topics
// soon.
func (d *delivery) alarm(ctx context.Context, it item) {
	now := d.v.deps.Now()
	if it.copy == nil || now.Sub(d.warned) < warnEvery {
		return
	}
	stands := d.stands
	if stands == nil { // it couldn't be read; it was there before its lane said so
		kind, _ := lane.Split(it.copy.Source)
		stands = []stand{{kinds[kind], it.at.At}}
	}
	leaves, soon := d.v.kept().leaves(stands, now)
	if !soon {
		return
	}
	d.warned = now
	d.note(ctx, fmt.Sprintf("the sink fails; content of copies leaves the topics from %s on", leaves.UTC().Format(time.RFC3339)))
}

// note puts a line about the order into the vault's audit; false: ctx ended.
func (d *delivery) note(ctx context.Context, text string) bool {
	for {
		err := d.v.docket.Note(ctx, &pb.TapAct{Action: "alarm", Subject: d.tap.Order.ID, Detail: text})
		if err == nil {
			return true
		}
		if !bus.Pause(ctx, d.v.cfg.LaneBeat) {
			return false
		}
	}
}

// id names a copy for ever.
func (d *delivery) id(n int, sequence uint64) string {
	return fmt.Sprintf("%s-%02d-%d", d.tap.Order.ID, n, sequence)
}
