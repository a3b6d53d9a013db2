// Package scanner asks engines about mail before it is delivered: it takes legs
// off the scan topics, has each policy's engines look at their content, and
// publishes what the policy makes of the verdicts.
//
// Guarantee: no leg goes to its queue to be attempted unless every engine of
// its policy gave a verdict, or a rule says what becomes of mail without one.
//
// Guarantee: a leg ends in one transaction with all its follow-ups.
//
// Guarantee: content never changes; what is to be changed in its header goes
// beside it. No more than two chunks of a message are in memory.
//
// Guarantee: a refusal is reported only to a sender who was authenticated;
// else the policy's fall-back happens.
//
// Guarantee: mail of the past takes no slot that mail on its way waits for.
// Guarantee: a shadow policy decides nothing, and no leg waits for it.
//
// A leg that waits for an engine does so in delay, where its lifetime goes on.
// Verdicts that depend on the content alone are kept in memory, bounded, by
// its sha256 and the signatures in force; one scan then serves all legs of a
// message, also at the same time. A scan is cut off at a revoke and done again
// by who takes over: engines may see a message twice, its sender and
// recipients don't.
package scanner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/directory"
	"qstream/directory/roster"
	"qstream/engine"
	"qstream/schemas"
)

// Deps are what the stage works with. Bus, Directory and Engine are required;
// the directory's follower is run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Engine    func(engine.Spec) (engine.Engine, error) // makes engines; the stage closes them
	Log       *slog.Logger                             // default: discards
	Metrics   prometheus.Registerer                    // default: none
	Now       func() time.Time                         // default time.Now
}

// Scanner is the stage.
type Scanner struct {
	asker
	cfg   Config
	seen  *bus.Seen
	slots *roster.Gate
	ctx   context.Context // of Run
	tasks sync.WaitGroup

	past      past
	seenAgain *bus.Seen
	ordering  sync.Mutex
	gathering sync.Mutex // guards batches
	batches   map[string]*batch
	shadow    *shadow
}

const (
	remembered = 2000 // legs of a partition by which a repetition is recognised
	slotShare  = 8    // one lane may take eight times what it leaves free
	watchEvery = 30 * time.Second
)

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Scanner, error) {
	if d.Bus == nil || d.Directory == nil || d.Engine == nil {
		return nil, errors.New("scanner: bus, directory and engines are required")
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
	s := &Scanner{
		cfg: cfg, seen: bus.NewSeen(remembered), slots: roster.NewGate(cfg.Scans, slotShare), seenAgain: bus.NewSeen(remembered), batches: map[string]*batch{},
	}
	s.asker = newAsker(d, newMetrics(d.Metrics, func() float64 { return float64(s.slots.Load()) }), cfg.Kept)
	s.past = past{asker: s.asker, slots: roster.NewGate(cfg.Again, slotShare)}
	s.past.kept, s.past.idle = newKept(cfg.Kept/keptAgain), true
	s.shadow = newShadow(cfg, d, s.metrics)
	return s, nil
}

// Run scans until ctx ends and what was begun has ended.
func (s *Scanner) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.deps.Directory.Ready():
	}
	g, ctx := errgroup.WithContext(ctx)
	s.ctx = ctx
	s.shadow.begin(ctx)
	g.Go(func() error {
		s.follow(ctx, g)
		return nil
	})
	g.Go(func() error {
		s.watch(ctx)
		return nil
	})
	if s.cfg.Again > 0 {
		g.Go(func() error { return s.workAgain(ctx) })
	}
	g.Go(func() error {
		s.shadow.run(ctx)
		return nil
	})
	err := g.Wait()
	s.tasks.Wait()
	s.members.Close()
	s.shadow.close()
	return err
}

// Ready is nil once legs can be scanned.
func (s *Scanner) Ready() error {
	select {
	case <-s.deps.Directory.Ready():
		return nil
	default:
		return errors.New("scanner: no directory yet")
	}
}

// follow works for the pools and topics of the newest snapshot. A pool that is
// gone keeps its worker, without topics.
func (s *Scanner) follow(ctx context.Context, g *errgroup.Group) {
	topics := map[string]*bus.Topics{}
	for {
		changed := s.deps.Directory.Changed()
		snap := s.deps.Directory.Snapshot()
		wanted := s.topics(snap)
		for pool, names := range wanted {
			if topics[pool] == nil {
				from := bus.NewTopics(names...)
				topics[pool] = from
				g.Go(func() error { return s.work(ctx, pool, from) })
			}
		}
		for pool, from := range topics {
			from.Set(wanted[pool]...)
		}
		s.members.Follow(snap)
		s.shadow.members.Follow(snap)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// topics are the scan topics of each pool to work for, those of retired queues
// included: their legs are routed again.
func (s *Scanner) topics(snap *directory.Snapshot) map[string][]string {
	topics := map[string][]string{}
	for _, q := range slices.Concat(snap.Queues(), snap.Retired()) {
		if q.Scanned && (s.cfg.AllPools || slices.Contains(s.cfg.Pools, q.Pool)) {
			topics[q.Pool] = append(topics[q.Pool], q.ScanTopic())
		}
	}
	return topics
}

func (s *Scanner) work(ctx context.Context, pool string, from *bus.Topics) error {
	err := s.deps.Bus.Work(ctx, bus.WorkConfig{
		Group: schemas.ScannerGroup(pool), From: from, Stage: stageName,
		MaxHeld: s.cfg.Held, MaxPart: heldOfPart, Drain: s.cfg.Drain,
	}, s.take)
	if err != nil {
		return fmt.Errorf("scanner pool %s: %w", pool, err)
	}
	return nil
}

// watch looks after the engines' states.
func (s *Scanner) watch(ctx context.Context) {
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for {
		s.members.Watch(ctx, s.metrics.engines)
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}
