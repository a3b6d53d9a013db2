package bus

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// journal keeps results durable from the moment they are known, ahead of the
// transaction that publishes what follows from them. What a dead owner wrote
// late needs no care: only entries acknowledged before a take-over must be
// seen, and those lie below the end that the new owner reads up to.
type journal struct {
	engine     *engine
	client     *kgo.Client
	partitions int32
	writes     []*write // under way, the oldest first; under the engine's lock
}

// write is an entry on its way. It is over once the broker has answered and
// nobody waits for it any more.
type write struct {
	began time.Time
	left  int // of these two
}

// lateWrite is how long an entry may be under way before nothing more begins:
// what is done meanwhile is done again if this process loses its partitions.
const lateWrite = 500 * time.Millisecond

// journalMark is a partition's part of the journal.
type journalMark struct {
	part  int32              // journal partition; fixed while the partition has a floor
	floor int64              // first journal offset that matters
	next  int64              // behind the newest entry acknowledged; 0: none yet
	live  map[int64]int64    // record offset to its first entry
	marks map[int64][][]byte // results of an earlier owner, by record offset
}

// journalStart bounds the wait for the journal topic at start.
const journalStart = 30 * time.Second

func (e *engine) newJournal(ctx context.Context) (*journal, error) {
	ctx, cancel := context.WithTimeout(ctx, journalStart)
	defer cancel()
	parts, err := e.bus.partitions(ctx, []string{schemas.Journal})
	for err != nil && Pause(ctx, time.Second) {
		parts, err = e.bus.partitions(ctx, []string{schemas.Journal})
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	// A client of its own: it waits for no other records when it is flushed.
	cl, err := kgo.NewClient(e.bus.clientOpts(patientOfEOF)...)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &journal{engine: e, client: cl, partitions: int32(len(parts[schemas.Journal]))}, nil
}

// home is the journal partition of a partition, the same for every owner.
func (j *journal) home(topic string, partition int32) int32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d", topic, partition)
	return int32(h.Sum32() % uint32(j.partitions))
}

// write returns once the entry is durable. Callbacks come in offset order, so
// that everything below next is acknowledged.
func (j *journal) write(ctx context.Context, p *part, offset int64, result []byte) error {
	j.engine.bus.cfg.Failpoint("journal.before")
	w := j.begin()
	defer j.end(w)
	entry := &pb.Journaled{Topic: p.topic, Partition: p.partition, Offset: offset, Result: result}
	_, err := j.put(ctx, p.journal.part, entry, func(k *kgo.Record, err error) {
		if err == nil {
			j.acknowledged(p, offset, k.Offset)
		}
		j.end(w)
	})
	if err == nil {
		err = j.engine.bus.barrier(ctx)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.engine.bus.cfg.Failpoint("journal.after")
	return nil
}

// put returns the offset of an entry once the broker has acknowledged it. An
// entry is never taken back: note is called with its outcome, also when ctx
// ended before.
func (j *journal) put(ctx context.Context, part int32, entry *pb.Journaled, note func(*kgo.Record, error)) (int64, error) {
	type outcome struct {
		at  int64
		err error
	}
	done := make(chan outcome, 1)
	rec := &Record{Topic: schemas.Journal, Partition: part, Value: encode(entry)}
	j.client.Produce(context.WithoutCancel(ctx), j.engine.bus.toClient(rec), func(k *kgo.Record, err error) {
		note(k, err)
		done <- outcome{k.Offset, err}
	})
	select {
	case o := <-done:
		return o.at, o.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (j *journal) begin() *write {
	j.engine.mu.Lock()
	defer j.engine.mu.Unlock()
	w := &write{began: time.Now(), left: 2}
	j.writes = append(j.writes, w)
	return w
}

// end notes one of the two ends of a write.
func (j *journal) end(w *write) {
	j.engine.mu.Lock()
	defer j.engine.mu.Unlock()
	w.left--
	n := 0
	for n < len(j.writes) && j.writes[n].left == 0 {
		n++
	}
	j.writes = j.writes[n:]
}

// late reports whether an entry is under way for too long. The engine's lock
// is held.
func (j *journal) late() bool {
	return len(j.writes) > 0 && time.Since(j.writes[0].began) > lateWrite
}

func (j *journal) acknowledged(p *part, offset, at int64) {
	j.engine.mu.Lock()
	defer j.engine.mu.Unlock()
	p.journal.next = max(p.journal.next, at+1)
	if _, ok := p.journal.live[offset]; !ok {
		p.journal.live[offset] = at
	}
}

// floorOf is the first entry that an owner after this commit needs: the first
// one of a record that the commit leaves unfinished.
func (m *journalMark) floorOf(t *tracker) int64 {
	if m.part < 0 {
		return noFloor
	}
	floor := max(m.floor, m.next)
	for offset, at := range m.live {
		if at < floor && t.isOpen(offset) {
			floor = at
		}
	}
	return floor
}

// forget drops what belongs to records that are finished for good.
func (m *journalMark) forget(t *tracker) {
	for offset := range m.live {
		if offset < t.next && !t.holds(offset) {
			delete(m.live, offset)
		}
	}
}

// replay reads what earlier owners journaled for records that are unfinished.
// It goes on trying until ctx ends: parts may be published only after it.
func (j *journal) replay(ctx context.Context, parts []*part) {
	for _, p := range parts {
		if p.journal.part < 0 || p.journal.part >= j.partitions {
			p.journal.part, p.journal.floor = j.home(p.topic, p.partition), noFloor
		}
		p.journal.live, p.journal.marks = map[int64]int64{}, map[int64][][]byte{}
	}
	for len(parts) > 0 && ctx.Err() == nil {
		// This process may get back what it lost a second ago: its own entries
		// come before its mark.
		err := j.replayOnce(ctx, parts)
		if err == nil {
			return
		}
		j.engine.log.Warn("journal not replayed, trying again", "err", err)
		Pause(ctx, 100*time.Millisecond)
	}
}

func (j *journal) replayOnce(ctx context.Context, parts []*part) error {
	names := map[string][]int32{}
	seen := map[int32]bool{}
	for _, p := range parts {
		if n := p.journal.part; !seen[n] {
			seen[n] = true
			names[schemas.Journal] = append(names[schemas.Journal], n)
		}
	}
	ends, err := j.ends(ctx, names[schemas.Journal])
	if err != nil {
		return err
	}
	starts, err := j.engine.bus.listOffsetsAs(ctx, oldest, uncommitted, names)
	if err != nil {
		return err
	}
	from := offsets{}
	for _, p := range parts {
		n := p.journal.part
		if p.journal.floor == noFloor {
			p.journal.floor = ends[schemas.Journal][n]
		}
		floor := max(p.journal.floor, starts[schemas.Journal][n])
		if at, ok := from[schemas.Journal][n]; (!ok || floor < at) && floor < ends[schemas.Journal][n] {
			from.set(schemas.Journal, n, floor)
		}
	}
	if err := j.read(ctx, from, ends, parts); err != nil {
		return err
	}
	for _, p := range parts {
		p.journal.next = max(p.journal.next, ends[schemas.Journal][p.journal.part])
	}
	return nil
}

// ends are the places of marks that are written behind all that was
// acknowledged before. A broker that is asked for the end may have lost the
// partition without knowing it, and would leave out what the new leader took.
func (j *journal) ends(ctx context.Context, parts []int32) (offsets, error) {
	places := make([]int64, len(parts))
	all, ctx := errgroup.WithContext(ctx)
	for i, n := range parts {
		all.Go(func() (err error) {
			places[i], err = j.put(ctx, n, &pb.Journaled{}, func(*kgo.Record, error) {})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, fmt.Errorf("mark the end of the journal: %w", err)
	}
	ends := offsets{}
	for i, n := range parts {
		ends.set(schemas.Journal, n, places[i])
	}
	return ends, nil
}

// read hands the entries in [from, ends) to their parts. It reads what is
// uncommitted too: commits of other groups leave records here, and a frozen
// one must not hold this up.
func (j *journal) read(ctx context.Context, from, ends offsets, parts []*part) error {
	if len(from) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(j.engine.bus.clientOpts(
		patientOfEOF,
		kgo.ConsumePartitions(consumable(from)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchWait),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	byName := map[topicPartition]*part{}
	for _, p := range parts {
		clear(p.journal.live)
		clear(p.journal.marks)
		byName[p.key()] = p
	}
	for len(from) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		fetches.EachError(func(_ string, n int32, err error) {
			j.engine.log.Warn("journal read failed", "partition", n, "err", err)
		})
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < ends[schemas.Journal][r.Partition] {
				attach(byName, r)
			}
			if r.Offset >= ends[schemas.Journal][r.Partition]-1 {
				delete(from[schemas.Journal], r.Partition)
			}
		})
		if len(from[schemas.Journal]) == 0 {
			return nil
		}
	}
	return nil
}

// attach gives an entry to its part, if its record is unfinished there.
func attach(parts map[topicPartition]*part, r *kgo.Record) {
	var entry pb.Journaled
	if r.Attrs.IsControl() || proto.Unmarshal(r.Value, &entry) != nil {
		return
	}
	p := parts[topicPartition{entry.Topic, entry.Partition}]
	if p == nil || r.Offset < p.journal.floor || p.track.knows(entry.Offset) {
		return
	}
	if _, ok := p.journal.live[entry.Offset]; !ok {
		p.journal.live[entry.Offset] = r.Offset
	}
	p.journal.marks[entry.Offset] = append(p.journal.marks[entry.Offset], entry.Result)
}
