package bus

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	commitTick   = 50 * time.Millisecond
	commitEach   = 3 * time.Millisecond // of the tick, for each result
	commitLazy   = time.Second          // progress over nothing but markers waits so long
	drainDefault = 45 * time.Second
	pollRecords  = 1000
	fetchWait    = 250 * time.Millisecond // also bounds how long a resume takes
	topicsLook   = 200 * time.Millisecond
)

// shape is what Transform, Work and Hold do differently with the partitions
// of the one engine below them.
type shape interface {
	// opened is told of a partition before its first record. The engine's
	// lock is held.
	opened(*part)
	// closed is told when it is dropped. The lock is held.
	closed(*part)
	// pump hands out what it can of p.backlog and must not block. It is
	// called by the poll loop alone, without the lock.
	pump(*part)
	// full says whether to stop fetching. The lock is held.
	full(*part) bool
	// marker is one more record for the transaction that holds these results
	// of one partition. The lock is held.
	marker(*part, []*result) (Record, bool)
}

// engine is a group consumer, a transactional producer and the commit loop
// between them.
//
// Guarantee: outputs and progress of a record become visible in one
// transaction, or neither does; a result whose transaction failed is produced
// again, never made again, as long as the partition is owned.
// Guarantee: progress is committed only under a group generation that was
// read before the progress was, so that a former owner can't overwrite.
// Guarantee: a partition without a commit, or out of range, stands still.
type engine struct {
	bus   *Bus
	group string
	from  *Topics
	stage string
	drain time.Duration
	shape shape
	log   *slog.Logger
	lease *lease
	end   func(context.Context, *kgo.Client) error // commits a transaction; planted by tests

	client  *kgo.Client
	journal *journal // nil without
	open    chan struct{}

	mu      sync.Mutex
	parts   map[topicPartition]*part
	stopped map[topicPartition]string // why a partition stands still
	looked  time.Time                 // at those, last
	waiting time.Time                 // oldest result in no commit; zero: none
	pending int                       // results in no commit
	weight  int                       // and the bytes of their outputs
	changed chan struct{}             // closed and replaced at every commit

	producer *producer // the commit loop's
	doubtful []string  // ids of retired producers that are not fenced yet
	closing  bool      // no part is made any more
	begun    time.Time // of the open transaction; zero: none
	counts   counts
	kick     chan struct{}
	hurry    chan struct{} // ends a rest
	every    time.Duration // least time between two transactions
	enough   int           // results that end a rest
	polls    atomic.Uint64
	pollEnd  atomic.Pointer[context.CancelFunc]
	purging  map[string]bool
	again    map[string]bool // topics to give up and take again
	polled   chan struct{}
	done     chan struct{} // the poll loop has ended
	workers  sync.WaitGroup
}

func (b *Bus) newEngine(group, stage string, from *Topics, drain time.Duration, maxOpen int) *engine {
	return &engine{
		bus: b, group: group, from: from, stage: stage, drain: drain,
		log:   b.cfg.Log.With("group", group),
		lease: newLease(b.cfg.Session),
		end: func(ctx context.Context, cl *kgo.Client) error {
			return cl.EndTransaction(ctx, kgo.TryCommit)
		},
		open:    make(chan struct{}, maxOpen),
		parts:   map[topicPartition]*part{},
		stopped: map[topicPartition]string{},
		purging: map[string]bool{},
		again:   map[string]bool{},
		changed: make(chan struct{}),
		kick:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		polled:  make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
}

// run consumes until ctx ends, then drains, commits and leaves the group.
func (e *engine) run(ctx context.Context) error {
	if e.journal != nil {
		defer e.journal.client.Close()
	}
	names, err := e.firstTopics(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything to do
	}
	if e.client, err = kgo.NewClient(e.consumerOpts(names)...); err != nil {
		return fmt.Errorf("consume as %s: %w", e.group, err)
	}
	e.bus.engines.add(e)
	defer e.bus.engines.remove(e)
	commits, stopCommits := context.WithCancel(context.WithoutCancel(ctx))
	commitEnd := make(chan struct{})
	go func() { defer close(commitEnd); e.commitLoop(commits) }()
	e.poll(ctx, names)
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.release(e.owned())
	e.leave()
	stopCommits()
	<-commitEnd
	e.workers.Wait()
	e.client.Close()
	return nil
}

// leave gives the membership back, so that the others need not wait for the
// session's end.
func (e *engine) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.client.LeaveGroupContext(ctx); err != nil {
		e.log.Warn("group not left", "err", err)
	}
}

// firstTopics waits until there is a topic: a group without any can't start.
func (e *engine) firstTopics(ctx context.Context) ([]string, error) {
	tick := time.NewTicker(topicsLook)
	defer tick.Stop()
	for {
		if names := e.from.Names(); len(names) > 0 {
			return slices.Clone(names), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// kafkaVersions pins the two requests that name topics by id in their newest
// version, which the engine writes by hand.
func kafkaVersions() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 5)
	v.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	return v
}

func (e *engine) consumerOpts(names []string) []kgo.Opt {
	session := e.bus.cfg.Session
	return e.bus.clientOpts(
		patientOfEOF,
		kgo.ConsumerGroup(e.group),
		kgo.ConsumeTopics(names...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.ServerSideBalancer(),
		kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(session/4),
		kgo.RebalanceTimeout(max(time.Minute, e.drain+30*time.Second)),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(fetchWait),
		kgo.MaxVersions(kafkaVersions()),
		kgo.OnPartitionsAssigned(e.onAssigned),
		kgo.OnOffsetsFetched(e.onFetched),
		kgo.OnPartitionsRevoked(e.onRevoked),
		kgo.OnPartitionsLost(e.onLost),
		kgo.WithHooks(e.lease),
	)
}

// poll hands over what arrives until ctx ends. It never blocks on work: what
// is full is paused.
func (e *engine) poll(ctx context.Context, names []string) {
	defer close(e.done)
	looked := time.Now()
	for ctx.Err() == nil {
		pctx, cancel := context.WithTimeout(ctx, topicsLook)
		e.pollEnd.Store(&cancel)
		fetches := e.client.PollRecords(pctx, pollRecords)
		cancel()
		fetches.EachError(e.fetchFailed)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) { e.arrived(f.Topic, f.Partition, f.Records) })
		e.pumpAll()
		e.polls.Add(1)
		select {
		case e.polled <- struct{}{}:
		default:
		}
		if time.Since(looked) >= topicsLook {
			looked = time.Now()
			names = e.follow(names)
			e.retryStopped()
		}
	}
}

// arrived appends polled records to their partition's backlog. Records of a
// partition without a part belong to an earlier assignment.
func (e *engine) arrived(topic string, partition int32, rs []*kgo.Record) {
	if len(rs) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.parts[topicPartition{topic, partition}]
	if p == nil || p.draining {
		return
	}
	p.backlog = append(p.backlog, rs...)
	for _, r := range rs {
		p.queued += len(r.Value)
	}
	p.poke()
}

// pumpAll hands out backlogs and pauses or resumes what became full or empty.
func (e *engine) pumpAll() {
	for _, p := range e.owned() {
		e.shape.pump(p)
	}
	pause, resume := map[string][]int32{}, map[string][]int32{}
	e.mu.Lock()
	for _, p := range e.parts {
		full := e.shape.full(p)
		if full == p.paused || p.draining {
			continue
		}
		p.paused = full
		if full {
			pause[p.topic] = append(pause[p.topic], p.partition)
		} else {
			resume[p.topic] = append(resume[p.topic], p.partition)
		}
	}
	e.mu.Unlock()
	if len(pause) > 0 {
		e.client.PauseFetchPartitions(pause)
	}
	if len(resume) > 0 {
		e.client.ResumeFetchPartitions(resume)
	}
}

func (e *engine) owned() []*part {
	e.mu.Lock()
	defer e.mu.Unlock()
	ps := make([]*part, 0, len(e.parts))
	for _, p := range e.parts {
		ps = append(ps, p)
	}
	return ps
}

// pollBarrier returns once every record polled before the call has been
// handed over, so that none of an earlier assignment can reach a new part.
func (e *engine) pollBarrier(ctx context.Context) {
	for target := e.polls.Load() + 2; e.polls.Load() < target; {
		if end := e.pollEnd.Load(); end != nil {
			(*end)()
		}
		select {
		case <-e.polled:
		case <-e.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// follow takes over changes of the set of topics: what is new in one call,
// what is gone after its partitions are drained. A topic that comes back
// meanwhile is added after that.
func (e *engine) follow(now []string) []string {
	want := e.from.Names()
	e.mu.Lock()
	add := without(want, now, e.purging)
	gone := without(now, want, nil)
	for name := range e.again {
		if slices.Contains(now, name) && !slices.Contains(gone, name) {
			gone = append(gone, name)
		}
		delete(e.again, name)
	}
	for _, name := range gone {
		e.purging[name] = true
	}
	e.mu.Unlock()
	if len(add) > 0 {
		e.client.AddConsumeTopics(add...)
	}
	if len(gone) > 0 {
		e.workers.Add(1)
		go func() { defer e.workers.Done(); e.purge(gone) }()
	}
	return append(without(now, gone, nil), add...)
}

// without are the names of a that are neither in b nor in c.
func without(a, b []string, c map[string]bool) []string {
	var rest []string
	for _, name := range a {
		if !slices.Contains(b, name) && !c[name] {
			rest = append(rest, name)
		}
	}
	return rest
}

func (e *engine) purge(topics []string) {
	var ps []*part
	for _, p := range e.owned() {
		if slices.Contains(topics, p.topic) {
			ps = append(ps, p)
		}
	}
	e.release(ps)
	e.client.PurgeTopicsFromConsuming(topics...)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.parts {
		if slices.Contains(topics, p.topic) {
			e.drop(p) // assigned meanwhile, and not ours any more
		}
	}
	for _, name := range topics {
		delete(e.purging, name)
	}
	for tp := range e.stopped {
		if slices.Contains(topics, tp.topic) {
			delete(e.stopped, tp)
		}
	}
}

// pushed tells the commit loop that there is something to commit.
func (e *engine) pushed() { poke(e.kick) }

// hurried tells it that somebody waits for the commit.
func (e *engine) hurried() {
	poke(e.hurry)
	e.pushed()
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
