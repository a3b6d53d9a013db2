// Package deliver makes the attempts: it takes legs off the queue topics,
// schedules them fairly, hands them to transports, and publishes what became
// of every recipient, the reports to senders included.
//
// Guarantee: a leg ends in one transaction with all its follow-ups: events,
// the leg of those to be tried again, reports.
//
// Guarantee: each remote 250 is journaled before it is told. Whoever takes a
// leg over honours the journal and doesn't send again.
//
// Guarantee: no attempt is made while this process may not know of a
// suspension, or its clock differs from the broker's.
//
// Guarantee: refused and expired legs are settled before every ring, limit and
// suspension.
//
// An attempt past its final dot whose reply or journal entry is lost with the
// process may be made twice. Limits of queues and destinations hold in each
// process; more workers of a pool allow more.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/control"
	"qstream/deliver/dsn"
	"qstream/directory"
	"qstream/schemas"
	"qstream/transport"
)

// Deps are what the stage works with. Bus, Directory, Control and Transport
// are required; the followers are run, the transport is closed by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Control   *control.Follower
	Transport transport.Transport
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
	Failpoint func(name string)     // default: nothing; called with deliver.dot.before and deliver.dot.after
}

// Deliverer is the stage.
type Deliverer struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	seen    *bus.Seen
	limiter *dsn.Limiter
	skew    func() (time.Duration, bool) // bus.Skew; tests set it, since their broker keeps the producer's times

	mu        sync.Mutex // guards scheduler
	scheduler *scheduler
	ctx       context.Context // of Run
	tasks     sync.WaitGroup
	handed    chan *item   // to workers that rest
	resting   atomic.Int32 // how many do
}

// remembered are the legs of a partition by which a repetition is recognised;
// a process may have two thousand partitions.
const remembered = 2000

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Deliverer, error) {
	if d.Bus == nil || d.Directory == nil || d.Control == nil || d.Transport == nil {
		return nil, errors.New("deliver: bus, directory, control and transport are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Failpoint == nil {
		d.Failpoint = func(string) {}
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Deliverer{
		cfg: cfg, deps: d, seen: bus.NewSeen(remembered), limiter: dsn.NewLimiter(d.Now),
		scheduler: newScheduler(cfg.Scheduler, d.Now), handed: make(chan *item),
	}
	s.skew, s.scheduler.paused = d.Bus.Skew, true
	s.metrics = newMetrics(d.Metrics, s.load)
	return s, nil
}

func (d *Deliverer) load() (running, settling, held, bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.scheduler.running, d.scheduler.settling, d.scheduler.held, d.scheduler.bytes
}

// Run delivers until ctx ends and what was begun has ended.
func (d *Deliverer) Run(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{d.deps.Directory.Ready(), d.deps.Control.Ready()} {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	d.ctx = ctx
	g.Go(func() error {
		d.compareClocks(ctx)
		return nil
	})
	g.Go(func() error {
		d.keep(ctx, g)
		return nil
	})
	err := g.Wait()
	d.tasks.Wait()
	return err
}

// pools are those to work on now.
func (d *Deliverer) pools() []string {
	if !d.cfg.AllPools {
		return d.cfg.Pools
	}
	var names []string
	s := d.deps.Directory.Snapshot()
	for _, q := range slices.Concat(s.Queues(), s.Retired()) {
		names = append(names, q.Pool)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *Deliverer) work(ctx context.Context, pool string, from *bus.Topics) error {
	err := d.deps.Bus.Work(ctx, bus.WorkConfig{
		Group: schemas.DeliverGroup(pool), From: from, Stage: stageName,
		MaxHeld: 2 * d.cfg.Scheduler.Held, MaxOpen: d.cfg.Scheduler.Slots + d.cfg.Scheduler.SettleSlots, Drain: d.cfg.Drain,
		Ready: func() bool { return d.fresh() == nil },
	}, d.take)
	if err != nil {
		return fmt.Errorf("deliver pool %s: %w", pool, err)
	}
	return nil
}

// topics are those of a pool's live queues, and of retired ones, which are
// drained: their legs resolve to another place.
func (d *Deliverer) topics(pool string) []string {
	var names []string
	s := d.deps.Directory.Snapshot()
	for _, q := range slices.Concat(s.Queues(), s.Retired()) {
		if q.Pool == pool {
			names = append(names, q.Topic())
		}
	}
	return names
}

// compareClocks pings until the clock's difference from the broker's is
// known; who runs the stage pings on.
func (d *Deliverer) compareClocks(ctx context.Context) {
	again := time.NewTicker(clockEvery)
	defer again.Stop()
	for ctx.Err() == nil {
		err := d.deps.Bus.Ping(ctx)
		if _, ok := d.skew(); ok {
			return
		}
		if err != nil {
			d.deps.Log.Warn("clock can't be compared", "stage", stageName, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
}

// Intervals of the housekeeping.
const (
	clockEvery = 500 * time.Millisecond
	wakeEvery  = 50 * time.Millisecond
	sweepEvery = 5 * time.Second
)

// keep follows the directory, wakes queues whose rate allows more, and sweeps.
func (d *Deliverer) keep(ctx context.Context, g *errgroup.Group) {
	wake := time.NewTicker(wakeEvery)
	defer wake.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	topics := map[string]*bus.Topics{}
	for {
		changed := d.deps.Directory.Changed()
		d.follow(ctx, g, topics)
		if !d.wait(ctx, changed, wake.C, sweep.C) {
			return
		}
	}
}

// wait serves the tickers until the directory changes; false: ctx ended.
func (d *Deliverer) wait(ctx context.Context, changed <-chan struct{}, wake, sweep <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return true
		case <-wake:
			d.wake()
		case <-sweep:
			d.sweep()
		}
	}
}

func (d *Deliverer) sweep() {
	d.mu.Lock()
	spilled := d.scheduler.sweep()
	d.mu.Unlock()
	for _, sp := range spilled {
		d.spill(sp)
	}
	d.dispatch()
}

func (d *Deliverer) wake() {
	paused := d.fresh() != nil
	d.mu.Lock()
	was := d.scheduler.paused
	d.scheduler.paused = paused
	at := d.scheduler.wake
	d.mu.Unlock()
	if was && !paused {
		d.sweep()
	}
	if !at.IsZero() && !d.deps.Now().Before(at) {
		d.dispatch()
	}
}

// follow brings pools, topics and limits to the newest snapshot. A pool that
// is gone keeps its worker, without topics.
func (d *Deliverer) follow(ctx context.Context, g *errgroup.Group, topics map[string]*bus.Topics) {
	for _, pool := range d.pools() {
		if topics[pool] == nil {
			from := bus.NewTopics(d.topics(pool)...)
			topics[pool] = from
			g.Go(func() error { return d.work(ctx, pool, from) })
		}
	}
	for pool, from := range topics {
		from.Set(d.topics(pool)...)
	}
	d.mu.Lock()
	for _, q := range d.deps.Directory.Snapshot().Queues() {
		d.scheduler.limit(q.Topic(), limitsOf(q))
	}
	d.mu.Unlock()
	d.dispatch()
}

func limitsOf(q *directory.Queue) Limits {
	return Limits{Concurrency: q.Concurrency, DestinationConcurrency: q.DestinationConcurrency, Rate: q.Rate, Shared: q.Shared}
}

// Ready is nil while attempts may be made.
func (d *Deliverer) Ready() error {
	for what, ready := range map[string]<-chan struct{}{"directory": d.deps.Directory.Ready(), "control": d.deps.Control.Ready()} {
		select {
		case <-ready:
		default:
			return fmt.Errorf("deliver: no %s yet", what)
		}
	}
	return d.fresh()
}

// fresh is nil while this process knows directory and control as of now, and
// what time it is.
func (d *Deliverer) fresh() error {
	now := d.deps.Now()
	skew, ok := d.skew()
	if !ok {
		return errors.New("deliver: the clock isn't compared with the broker's yet")
	}
	if skew.Abs() > d.cfg.MaxSkew {
		return fmt.Errorf("deliver: the clock is %v off the broker's", skew)
	}
	if age := now.Sub(d.deps.Directory.Fresh()); age > d.cfg.Fresh {
		return fmt.Errorf("deliver: the directory was last confirmed %v ago", age)
	}
	if age := now.Sub(d.deps.Control.Fresh()); age > d.cfg.Fresh {
		return fmt.Errorf("deliver: control was last confirmed %v ago", age)
	}
	return nil
}
