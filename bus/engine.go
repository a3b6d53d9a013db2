package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	commitTick   = 50 * time.Millisecond
	commitLazy   = time.Second // progress over nothing but markers waits so long
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

	client  *kgo.Client
	journal *journal // nil without
	open    chan struct{}

	mu      sync.Mutex
	parts   map[topicPartition]*part
	stopped map[topicPartition]string // why a partition stands still
	waiting time.Time                 // oldest result in no commit; zero: none
	pending int                       // results in no commit
	weight  int                       // and the bytes of their outputs
	changed chan struct{}             // closed and replaced at every commit

	producer *producer // the commit loop's
	kick     chan struct{}
	polls    atomic.Uint64
	pollEnd  atomic.Pointer[context.CancelFunc]
	polled   chan struct{}
	done     chan struct{} // the poll loop has ended
	workers  sync.WaitGroup
}

func (b *Bus) newEngine(group, stage string, from *Topics, drain time.Duration, maxOpen int) *engine {
	return &engine{
		bus: b, group: group, from: from, stage: stage, drain: drain,
		log:     b.cfg.Log.With("group", group),
		lease:   newLease(b.cfg.Session),
		open:    make(chan struct{}, maxOpen),
		parts:   map[topicPartition]*part{},
		stopped: map[topicPartition]string{},
		changed: make(chan struct{}),
		kick:    make(chan struct{}, 1),
		polled:  make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
}

// run consumes until ctx ends, then drains, commits and leaves the group.
func (e *engine) run(ctx context.Context) error {
	names, err := e.firstTopics(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything to do
	}
	if e.client, err = kgo.NewClient(e.consumerOpts(names)...); err != nil {
		return fmt.Errorf("consume as %s: %w", e.group, err)
	}
	commits, stopCommits := context.WithCancel(context.WithoutCancel(ctx))
	commitEnd := make(chan struct{})
	go func() { defer close(commitEnd); e.commitLoop(commits) }()
	e.poll(ctx, names)
	e.release(e.owned())
	stopCommits()
	<-commitEnd
	e.workers.Wait()
	e.leave()
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
	e.client.Close()
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

// fetchFailed logs; a partition that can't go on is marked.
func (e *engine) fetchFailed(topic string, partition int32, err error) {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
	case errors.Is(err, kerr.OffsetOutOfRange), isLoss(err):
		e.stop(topicPartition{topic, partition}, "the commit is out of the log's range")
	default:
		e.log.Warn("fetch failed", "topic", topic, "partition", partition, "err", err)
	}
}

func isLoss(err error) bool {
	var loss *kgo.ErrDataLoss
	return errors.As(err, &loss)
}

func (e *engine) stop(tp topicPartition, why string) {
	e.mu.Lock()
	_, known := e.stopped[tp]
	e.stopped[tp] = why
	e.mu.Unlock()
	if !known {
		e.log.Error("partition stands still", "topic", tp.topic, "partition", tp.partition, "err", why)
	}
}

// follow takes over changes of the set of topics: what is new in one call,
// what is gone after its partitions are drained.
func (e *engine) follow(now []string) []string {
	want := e.from.Names()
	var add, gone []string
	for _, n := range want {
		if !slices.Contains(now, n) {
			add = append(add, n)
		}
	}
	for _, n := range now {
		if !slices.Contains(want, n) {
			gone = append(gone, n)
		}
	}
	if len(add) > 0 {
		e.client.AddConsumeTopics(add...)
	}
	if len(gone) > 0 {
		e.workers.Add(1)
		go func() { defer e.workers.Done(); e.purge(gone) }()
	}
	if len(add)+len(gone) == 0 {
		return now
	}
	return slices.Clone(want)
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
}

// pushed tells the commit loop that there is something to commit.
func (e *engine) pushed() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}
