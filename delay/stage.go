// Package delay holds everything that waits: retries in the tiers of the delay
// topics until they are due, legs of suspended scopes in the parked topic
// until a resume, what a scan policy held back in the quarantine topic until it
// is kept no longer. What ends its wait goes to its queue again, is rerouted when
// its owner, queue or destination has changed, or goes to its queue as expired
// for deliver to settle.
//
// Guarantee: a release, its event and the end of the wait become visible in
// one transaction. A leg is released within a second of being due.
//
// Guarantee: a leg past its lifetime is released to be settled, not to be
// attempted; one attempt more is owed if it never had one, or if it was due in
// time and only we were late. While its scope is suspended the lifetime stands
// still, up to its queue's hold expiry.
//
// Guarantee: nothing is released, and nothing expires, while this process's
// clock is more than 30 s off the broker's.
//
// A flush applies to what waits when the command is read by a running process;
// one that is sent while no delay runs, or that meets a partition on its way
// to another owner, is lost: the legs are released when due. Resumes are
// standing state and never lost. A leg that repeats one of the last 10,000 of
// its partition is dropped. Content that a waiting leg needs longer than its
// topic keeps it is copied to the hold topic in time.
package delay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// stageName is this stage's name in events, logs and deadletter records.
const stageName = "delay"

// Deps are what a Delay works with. Bus and Directory are required; the
// directory's follower is run by the caller. Commands are followed by Delay
// itself, since it obeys each of them in order.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
}

// Delay is the stage.
type Delay struct {
	cfg     Config
	deps    Deps
	control *control.Follower
	holder  *bus.Holder
	seen    *bus.Seen
	metrics *metrics
	orders  orders
	since   time.Time // of New
	skew    func() (time.Duration, bool)
	flush   atomic.Pointer[control.Scope] // the flush that is being obeyed

	keeps      atomic.Pointer[kept]
	keepFailed atomic.Int64 // contents that could not be copied
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Delay, error) {
	if d.Bus == nil || d.Directory == nil {
		return nil, errors.New("delay: bus and directory are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Delay{cfg: cfg, deps: d, seen: bus.NewSeen(0), metrics: newMetrics(d.Metrics), orders: newOrders(), since: d.Now(), skew: d.Bus.Skew}
	s.control = control.Follow(d.Bus, s.command)
	s.holder, err = d.Bus.Hold(bus.HoldConfig{
		Group: schemas.DelayGroup, Stage: stageName,
		From:  bus.NewTopics(append(schemas.DelayTopics(), schemas.Parked, schemas.Quarantine)...),
		Entry: s.entry, Release: s.release,
		Ready: func() bool { return s.clock() == nil },
	})
	if err != nil {
		return nil, fmt.Errorf("delay: %w", err)
	}
	return s, nil
}

// Run holds and releases until ctx ends.
func (d *Delay) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.control.Run(ctx) })
	g.Go(func() error { return d.compareClocks(ctx) })
	g.Go(func() error {
		if !d.awaitFollowers(ctx) {
			return nil
		}
		g.Go(func() error { return d.obey(ctx) })
		g.Go(func() error { return d.watch(ctx) })
		return d.holder.Run(ctx)
	})
	return g.Wait()
}

// awaitFollowers waits until directory and control are known.
func (d *Delay) awaitFollowers(ctx context.Context) bool {
	for _, ready := range []<-chan struct{}{d.deps.Directory.Ready(), d.control.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Ready is nil while legs are released on time.
func (d *Delay) Ready() error {
	select {
	case <-d.deps.Directory.Ready():
	default:
		return errors.New("delay: no directory yet")
	}
	select {
	case <-d.control.Ready():
	default:
		return errors.New("delay: no standing state yet")
	}
	if err := d.clock(); err != nil {
		return err
	}
	return d.holder.Ready()
}

// maxSkew is how far our clock may be from the broker's append times.
const maxSkew = 30 * time.Second

// compareClocks sees to a first comparison; the process repeats it.
func (d *Delay) compareClocks(ctx context.Context) error {
	for {
		if _, known := d.skew(); known {
			return nil
		}
		if err := d.deps.Bus.Ping(ctx); err != nil && ctx.Err() == nil {
			d.deps.Log.Warn("clock not compared with the broker's", "stage", stageName, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// clock is nil while our clock can be trusted to release and to expire.
func (d *Delay) clock() error {
	skew, known := d.skew()
	if !known {
		return errors.New("delay: clock not compared with the broker's yet")
	}
	if skew.Abs() > maxSkew {
		return fmt.Errorf("delay: clock is %s off the broker's", skew.Round(time.Second))
	}
	return nil
}

// entry is bus.HoldConfig.Entry.
func (d *Delay) entry(r bus.Record) (bus.Entry, error) {
	l, err := bus.ReadLeg(r)
	if err != nil {
		d.metrics.poison.Inc()
		return bus.Entry{}, err
	}
	e := newEntry(r, l)
	if d.seen.Repeated(r, bus.LegIdentity(l)) {
		e.Kind, e.Due = e.Kind|kindRepeated, r.Time
	}
	if r.Topic == schemas.Quarantine {
		if _, _, _, ok := order(l, d.control.State().Orders); ok {
			e.Due = r.Time // ordered before it was read here
		}
	} else if number, ok := d.control.State().ScanAgain(l.MessageId, l.Recipients); ok && schemas.DueAgain(l, number) {
		e.Due = r.Time
	}
	if d.overlooked(e, r.Time) {
		d.orders.look()
	}
	return e, nil
}

// overlooked reports an entry that a pull would match though its time hasn't
// come: parked after the resume that it waits for, or read at the take-over of
// a partition. Content of newer records is left to the scans: it may just have
// failed to be copied.
func (d *Delay) overlooked(e bus.Entry, appended time.Time) bool {
	now := d.deps.Now()
	if freed(d.control.State().Suspended, d.control.State().Resumed, d.deps.Directory.Snapshot().Queue, now)(e) {
		return true
	}
	return appended.Before(d.since) && d.kept().ending(e, now)
}

// release is bus.HoldConfig.Release.
func (d *Delay) release(ctx context.Context, e bus.Entry, r bus.Record, pulled bool) ([]bus.Record, error) {
	l, err := bus.ReadLeg(r)
	if err != nil {
		return nil, err
	}
	if e.Kind&kindRepeated != 0 {
		d.metrics.duplicates.Inc()
		d.deps.Log.Warn("repeated record dropped", "stage", stageName, "msg_id", l.MessageId,
			"topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		return nil, nil
	}
	if err := d.clock(); err != nil {
		return nil, err
	}
	w := d.world()
	if l.Directory > w.number {
		// By the old directory it would be rerouted, and come back.
		return nil, fmt.Errorf("directory is at %d, the leg was decided with %d", w.number, l.Directory)
	}
	moves := []move{}
	if r.Topic == schemas.Quarantine {
		moves = quarantined(l, w)
	} else {
		moves = append(moves, release(l, r.Topic == schemas.Parked, w))
	}
	var out []bus.Record
	for _, m := range moves {
		if pulled && m.fate.waits() && d.kept().ending(e, w.now) {
			out = append(out, d.keep(ctx, m, w)...)
		} else {
			out = append(out, m.records()...)
		}
		d.metrics.fates.WithLabelValues(string(m.fate)).Inc()
	}
	if !pulled {
		d.metrics.lateness.Observe(max(w.now.Sub(e.Due), 0).Seconds())
	}
	return out, nil
}

// world is what releases depend on, as of now.
func (d *Delay) world() world {
	s := d.deps.Directory.Snapshot()
	flush := d.flush.Load()
	return world{
		number: s.Number, decide: s.Decide, queue: s.Queue, scan: s.Scan,
		suspended: d.control.State().Suspended, resumed: d.control.State().Resumed, orders: d.control.State().Orders,
		again:   d.control.State().ScanAgain,
		flushed: func(l *pb.Leg) bool { return flushes(flush, l) },
		now:     d.deps.Now(),
	}
}
