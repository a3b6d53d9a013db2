package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Start is where reading starts: the zero Start is the oldest record.
type Start struct {
	Since  time.Time                  // first record appended at or after
	Until  time.Time                  // of Read: no record appended at or after; zero: all
	End    bool                       // behind the newest record
	Offset map[string]map[int32]int64 // exact; wins over the others
	Pace   *Pace                      // nil: as fast as it goes
}

// Read calls apply for the committed records of topics from start up to the
// ends at the time of the call, each partition in order; apply is not called
// concurrently. A garbage record is passed as it is. It waits for brokers as
// long as ctx and Config.Patience let it.
func (b *Bus) Read(ctx context.Context, topics []string, start Start, apply func(Record) error) error {
	parts, err := b.partitions(ctx, sorted(topics))
	if err != nil {
		return err
	}
	from, err := b.resolve(ctx, start, parts)
	if err != nil {
		return err
	}
	ends, err := b.ends(ctx, start.Until, parts)
	if err != nil {
		return err
	}
	if from.reached(ends) {
		return nil
	}
	r, err := b.newReader(from)
	if err != nil {
		return err
	}
	defer r.close()
	r.patience = b.cfg.Patience
	start.Pace.start()
	for {
		err := r.poll(ctx, func(rec Record) error {
			if rec.Offset >= ends[rec.Topic][rec.Partition] {
				return nil
			}
			return apply(rec)
		})
		if err != nil || r.reached(ends) {
			return err
		}
		if err := start.Pace.rest(ctx); err != nil {
			return err
		}
	}
}

// ends are where reading up to a time ends.
func (b *Bus) ends(ctx context.Context, until time.Time, parts map[string][]int32) (offsets, error) {
	if until.IsZero() {
		return b.listOffsets(ctx, newest, parts)
	}
	return b.resolve(ctx, Start{Since: until}, parts)
}

// stuckAfter is how long a reader waits below an end it knows of before it
// asks whether there is anything to read at all.
const stuckAfter = time.Second

// reader consumes partitions directly, without a group, and knows its exact
// positions.
type reader struct {
	b      *Bus
	client *kgo.Client

	mu    sync.Mutex
	pos   offsets
	moved time.Time // when the positions last moved

	patience time.Duration // 0: endless
	failing  time.Time     // since when no broker answers; zero: one does
}

func (b *Bus) newReader(from offsets) (*reader, error) {
	if _, err := b.client(); err != nil {
		return nil, err
	}
	c, err := kgo.NewClient(b.clientOpts(
		kgo.ConsumePartitions(consumable(from)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Positions count transaction markers too: an end lies behind them.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(16<<20),
		kgo.FetchMaxPartitionBytes(2<<20),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make broker client: %w", err)
	}
	return &reader{b: b, client: c, pos: from, moved: time.Now()}, nil
}

func (r *reader) close() { r.client.Close() }

func (r *reader) reached(ends offsets) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pos.reached(ends)
}

// add starts reading further partitions.
func (r *reader) add(from offsets) {
	r.mu.Lock()
	for t, ps := range from {
		for p, o := range ps {
			r.pos.set(t, p, o)
		}
	}
	r.mu.Unlock()
	r.client.AddConsumePartitions(consumable(from))
}

// poll applies what is there, or waits a little for it.
func (r *reader) poll(ctx context.Context, apply func(Record) error) error {
	waited, cancel := context.WithTimeout(ctx, stuckAfter)
	defer cancel()
	fetches := r.client.PollRecords(waited, 1000)
	if fetches.IsClientClosed() {
		return ErrClosed
	}
	fetches.EachError(func(topic string, partition int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			r.b.log.Warn("read failed, trying again", "topic", topic, "partition", partition, "err", err)
		}
	})
	for it := fetches.RecordIter(); !it.Done(); {
		if err := r.apply(it.Next(), apply); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.unstick(ctx)
}

func (r *reader) apply(k *kgo.Record, apply func(Record) error) error {
	if !k.Attrs.IsControl() {
		if err := apply(fromClient(k)); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pos.set(k.Topic, k.Partition, k.Offset+1)
	r.moved, r.failing = time.Now(), time.Time{}
	return nil
}

// unstick moves positions over what isn't there any more: trimmed records,
// or the compacted end of a partition. The client passes such gaps in silence.
func (r *reader) unstick(ctx context.Context) error {
	r.mu.Lock()
	idle := time.Since(r.moved) >= stuckAfter
	at := offsets{}
	for t, ps := range r.pos {
		for p, o := range ps {
			at.set(t, p, o)
		}
	}
	r.mu.Unlock()
	if !idle {
		return nil
	}
	next, err := r.b.skipped(ctx, at)
	if err != nil {
		if r.failing.IsZero() {
			r.failing = time.Now()
		}
		if r.patience > 0 && time.Since(r.failing) >= r.patience {
			return fmt.Errorf("read: no broker for %v: %w", r.patience, err)
		}
		r.b.log.Warn("asking for positions failed, trying again", "err", err)
		if !Pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
		return nil
	}
	r.failing = time.Time{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, ps := range next {
		for p, o := range ps {
			// Whatever was read meanwhile wins.
			if r.pos[t][p] == at[t][p] {
				r.pos.set(t, p, o)
			}
		}
	}
	r.moved = time.Now()
	return nil
}
