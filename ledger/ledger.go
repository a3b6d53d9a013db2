// Package ledger is the view of waiting and of finished mail: it follows the
// events topic and keeps in a SQLite file what is known of each message, so
// that a postmaster's questions (what waits where and why, what became of this
// message) are answered without reading the log.
//
// Guarantee: nothing in the path of mail waits for the ledger, and what is
// wrong with its file ends no process: it is unready, and tries again.
//
// Guarantee: the view can be lost. It is built again from the log when its file
// is gone or damaged, or when it is of another cluster, and says so.
//
// Guarantee: an event counts once, also over kills; one that repeats another is
// counted as repeated.
//
// It reads no content, but for records that no router has read for a second:
// those are noted by id, since no event tells of them. What waits is told by
// events here; package audit counts the records themselves.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/ledger/audit"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	"qstream/schemas"
)

// stageName is this role's name in logs.
const stageName = "ledger"

// Deps are what a Ledger works with. Bus, Directory and Control are required;
// the followers are run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Control   *control.Follower
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
}

// Ledger is the role.
type Ledger struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	auditor *audit.Auditor
	view    atomic.Pointer[view] // nil while there is none

	mu    sync.Mutex
	fault error // nil while the view is kept
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Ledger, error) {
	if d.Bus == nil || d.Directory == nil || d.Control == nil {
		return nil, errors.New("ledger: bus, directory and control are required")
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
	l := &Ledger{cfg: cfg, deps: d, fault: errors.New("ledger: not begun yet")}
	l.metrics = newMetrics(d.Metrics, l.age)
	l.auditor, err = audit.New(cfg.Audit, audit.Deps{
		Records: audit.Topics{Bus: d.Bus, Directory: d.Directory.Snapshot, Now: d.Now},
		Book:    l.book, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	return l, err
}

// Ready is nil while the view is kept. How far it is, each answer tells.
func (l *Ledger) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// age is how old the view is, in seconds; -1 while there is none.
func (l *Ledger) age() float64 {
	v := l.view.Load()
	if v == nil || v.follower.Fresh().IsZero() {
		return -1
	}
	return l.deps.Now().Sub(v.follower.Fresh()).Seconds()
}

// failed makes the role unready, or ready with nil, and says so when it is new.
func (l *Ledger) failed(err error) {
	l.mu.Lock()
	before := l.fault
	l.fault = err
	l.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		l.deps.Log.Error("the ledger can't be kept, trying again; mail goes on", "stage", stageName, "err", err)
	case err == nil && before != nil:
		l.deps.Log.Info("the ledger is kept", "stage", stageName)
	}
}

// Run keeps the view until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { l.auditor.Run(ctx) })
	beside.Go(func() { l.mending(ctx) })
	reset := false
	for ctx.Err() == nil {
		err := l.keep(ctx, reset)
		if ctx.Err() != nil {
			break
		}
		reset = errors.Is(err, store.ErrDamaged) || errors.Is(err, errAhead)
		l.metrics.failures.Inc()
		l.failed(fmt.Errorf("ledger: %w", err))
		if reset {
			continue // what is thrown away fails only once
		}
		bus.Pause(ctx, l.cfg.Retry)
	}
	return nil
}

// mendEvery is how often transactions that hang are looked for.
const mendEvery = 30 * time.Second

// mending ends transactions that hang in any topic: nobody else would, and mail
// would stand still behind them. It goes on while the view can't be kept.
func (l *Ledger) mending(ctx context.Context) {
	hanging := l.deps.Bus.Hanging()
	for warned := false; bus.Pause(ctx, mendEvery); {
		ended, err := hanging.Look(ctx)
		l.metrics.hanging.Add(float64(ended))
		if err != nil && ctx.Err() == nil && !warned {
			l.deps.Log.Warn("can't look for transactions that hang, trying again", "stage", stageName, "err", err)
		}
		warned = err != nil
	}
}

// errAhead is a view of a log that was longer, as after a loss of power.
var errAhead = errors.New("the ledger is beyond the end of the log")

// keep opens the view and keeps it until something fails.
func (l *Ledger) keep(ctx context.Context, reset bool) error {
	v, err := l.open(ctx, reset)
	if err != nil {
		return err
	}
	l.view.Store(v)
	defer func() {
		l.view.Store(nil)
		v.mu.Lock() // who still asks may be writing
		defer v.mu.Unlock()
		v.store.Close()
	}()
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return v.follower.Run(ctx) })
	all.Go(func() error { return v.flushing(ctx) })
	all.Go(func() error { return v.noting(ctx) })
	all.Go(func() error { return v.pruning(ctx) })
	all.Go(func() error { return v.telling(ctx) })
	return all.Wait()
}

// open opens the file and finds where to go on in the log.
func (l *Ledger) open(ctx context.Context, reset bool) (*view, error) {
	topic, err := l.deps.Bus.Identity(ctx, schemas.Events)
	if err != nil {
		return nil, err
	}
	s, fresh, err := store.Open(ctx, store.Options{Dir: l.cfg.Dir, Topic: topic, Reset: reset, MaxBytes: l.cfg.MaxBytes})
	if err != nil {
		return nil, err
	}
	if fresh != "" {
		l.metrics.builds.Inc()
		l.deps.Log.Info("the ledger is built from the log", "stage", stageName, "why", fresh)
	}
	v := &view{Ledger: l, store: s, batch: &fold.Batch{}}
	if err := v.resume(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return v, nil
}

// resume takes up where the file is.
func (v *view) resume(ctx context.Context) error {
	var err error
	if v.done, err = v.store.Progress(ctx); err != nil {
		return err
	}
	v.next = v.done.Clone()
	if v.waits, err = v.store.Waits(ctx); err != nil {
		return err
	}
	ends, err := v.deps.Bus.Ends(ctx, schemas.Events)
	if err != nil {
		return err
	}
	oldest, err := v.deps.Bus.Since(ctx, schemas.Events, time.Time{})
	if err != nil {
		return err
	}
	start := map[int32]int64{}
	for p, next := range v.next.Next {
		switch {
		case next > ends[p]:
			return fmt.Errorf("%w: at %d of partition %d, which ends at %d", errAhead, next, p, ends[p])
		case next < oldest[p]:
			v.metrics.gaps.Inc()
			v.deps.Log.Warn("events were gone before the ledger read them", "stage", stageName,
				"partition", p, "offset", next, "events", oldest[p]-next)
		}
		start[p] = next
	}
	v.follower = v.deps.Bus.Follow([]string{schemas.Events}, bus.Start{Offset: map[string]map[int32]int64{schemas.Events: start}}, v.take)
	return nil
}
