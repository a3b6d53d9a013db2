// Package archive copies mail to the tap topics of archives, openly, and from
// there to their sinks.
//
// Guarantee: a message that an archive is for is on its tap topic exactly once,
// with the recipients that the archive is for and no others.
// Guarantee: a sink is given the copies of each partition in their order, each
// until it has taken it: one that is down loses nothing and changes no order.
// A copy comes again, with the same ID and sequence, where a process ended
// between the sink's word and the commit.
// Guarantee: no archive delays mail or another archive: each has a topic and a
// group of its own, and its reader waits alone.
//
// What lies so long that its content would age out is copied to hold. Content
// that is gone all the same can't be archived: its record goes to the
// deadletter topic, is counted and logged.
//
// While the directory has no archive nothing is read: the group is moved on
// every minute. An archive begins with mail of up to a minute before it.
package archive

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	"qstream/tapper/sink"
	"qstream/tapper/sink/sinks"
)

// Config are the part's settings; zero values take the defaults.
type Config struct {
	Me       string        // name of this system towards sinks; default of the directory's site, else "localhost"
	Deadline time.Duration // for one copy to be taken; default 2 min
	PerMiB   time.Duration // added for each MiB of it; default 5 s
	Idle     time.Duration // how often the group is moved on without archives; default 1 min
	Keep     time.Duration // how often what waits for long is looked for; default 10 min
	Tell     time.Duration // how often a failing sink's state is told; default 10 s
}

func (c Config) complete() (Config, error) {
	for _, d := range []struct {
		v  *time.Duration
		to time.Duration
	}{
		{&c.Deadline, 2 * time.Minute}, {&c.PerMiB, 5 * time.Second}, {&c.Idle, time.Minute},
		{&c.Keep, 10 * time.Minute}, {&c.Tell, 10 * time.Second},
	} {
		if *d.v < 0 {
			return c, errors.New("archive: settings must not be negative")
		}
		if *d.v == 0 {
			*d.v = d.to
		}
	}
	return c, nil
}

// Deps are what archives work with. Bus and Directory are required; the
// directory's follower is run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
}

// Archives are all archives of the directory.
type Archives struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	seen    *bus.Seen
	kept    *kept
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Archives, error) {
	if d.Bus == nil || d.Directory == nil {
		return nil, errors.New("archive: bus and directory are required")
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
	return &Archives{
		cfg: cfg, deps: d, metrics: newMetrics(d.Metrics), seen: bus.NewSeen(0),
		kept: newKept(d.Bus),
	}, nil
}

// Ready is nil: a sink that fails stops nobody else. See the metrics.
func (*Archives) Ready() error { return nil }

// Run copies until ctx ends.
func (a *Archives) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.deps.Directory.Ready():
	}
	if err := a.idle(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.kept.follower.Run(ctx) })
	g.Go(func() error {
		return a.deps.Bus.Transform(ctx, schemas.ArchiveGroup, bus.NewTopics(schemas.Received, schemas.Reinject), a.step)
	})
	g.Go(func() error { return a.sinks(ctx) })
	g.Go(func() error { return a.keep(ctx) })
	return g.Wait()
}

// idle returns once the directory has an archive. Until then it moves the group
// on, so that an archive that comes doesn't begin with all of history. Ends are
// asked for before the directory is known to have none: nothing is passed over
// that was accepted with an archive.
func (a *Archives) idle(ctx context.Context) error {
	for {
		changed := a.deps.Directory.Changed()
		if a.some() {
			return nil
		}
		if err := a.advance(ctx); err != nil && ctx.Err() == nil {
			a.deps.Log.Warn("moving the archives' group on failed, trying again", "err", err)
		}
		t := time.NewTimer(a.cfg.Idle)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (a *Archives) some() bool { return len(a.deps.Directory.Snapshot().Archives()) > 0 }

func (a *Archives) advance(ctx context.Context) error {
	began := time.Now()
	ends := map[string]map[int32]int64{}
	for _, topic := range []string{schemas.Received, schemas.Reinject} {
		at, err := a.deps.Bus.Ends(ctx, topic)
		if err != nil {
			return err
		}
		ends[topic] = at
	}
	for !a.deps.Directory.Fresh().After(began) {
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	if a.some() {
		return nil
	}
	return a.deps.Bus.Advance(ctx, schemas.ArchiveGroup, ends)
}

// sinks runs a reader for each archive, and begins again those whose sink
// changed.
func (a *Archives) sinks(ctx context.Context) error {
	running := map[string]*reader{}
	ended := make(chan error)
	defer func() {
		for _, r := range running {
			r.stop()
		}
		for _, r := range running {
			<-r.done
		}
	}()
	for {
		changed := a.deps.Directory.Changed()
		snapshot := a.deps.Directory.Snapshot()
		for name, r := range maps.Clone(running) {
			if now := snapshot.Archive(name); now == nil || now.Sink.String() != r.spec {
				r.stop()
				<-r.done
				delete(running, name)
				a.metrics.failing.DeleteLabelValues(name)
			}
		}
		for _, archive := range snapshot.Archives() {
			if running[archive.Name] == nil {
				running[archive.Name] = a.start(ctx, archive, ended)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case <-changed:
		}
	}
}

// reader hands the copies of one archive to its sink.
type reader struct {
	a    *Archives
	name string
	spec string
	sink sink.Sink
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	trouble map[int32]*trouble
}

func (a *Archives) start(ctx context.Context, archive *directory.Archive, ended chan<- error) *reader {
	r := &reader{a: a, name: archive.Name, spec: archive.Sink.String(), done: make(chan struct{}), trouble: map[int32]*trouble{}}
	own, stop := context.WithCancel(ctx)
	r.stop = stop
	go func() {
		defer close(r.done)
		if err := r.run(own, archive.Sink); err != nil && own.Err() == nil {
			select {
			case ended <- err:
			case <-own.Done():
			}
		}
	}()
	return r
}

// run reads until ctx ends. A sink that can't be made, since a file that it
// needs isn't there, is tried again.
func (r *reader) run(ctx context.Context, spec sink.Spec) error {
	// Before it is known what was copied to hold, content would be taken for
	// gone that is there.
	select {
	case <-ctx.Done():
		return nil
	case <-r.a.kept.follower.CaughtUp():
	}
	for {
		s, err := sinks.New(spec, sink.Deps{Me: r.a.me(), Log: r.a.deps.Log, Now: r.a.deps.Now})
		if err == nil {
			r.sink = s
			r.mended(ctx, made)
			break
		}
		r.a.deps.Log.Warn("archive's sink can't be made, trying again", "stage", stageName, "archive", r.name, "err", err)
		r.failed(ctx, made, err)
		t := time.NewTimer(r.a.cfg.Tell)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
	err := r.a.deps.Bus.Transform(ctx, schemas.SinkGroup(r.name), bus.NewTopics(schemas.Tap(r.name)), r.step)
	return errors.Join(err, r.sink.Close())
}

// me is this system's name towards sinks.
func (a *Archives) me() string {
	if a.cfg.Me != "" {
		return a.cfg.Me
	}
	if me := a.deps.Directory.Snapshot().Site().Me; me != "" {
		return me
	}
	return "localhost"
}
