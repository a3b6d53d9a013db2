package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

const (
	batchRecords    = 5000
	batchBytes      = 16 << 20
	commitTime      = 60 * time.Second // of one transaction
	unstorableTries = 5                // for a topic that may only be unknown yet
	maxPending      = 10000            // results in no commit, per engine
	maxWeight       = 32 << 20         // bytes of their outputs
)

// batch is what one transaction commits.
type batch struct {
	member     string
	generation int32
	parts      []batchPart
	records    int
	bytes      int
}

type batchPart struct {
	part    *part
	results []*result
	extra   *Record // the shape's marker
	more    *Record // progress that has no room in the metadata
	prog    progress
	commit  commit
	state   []byte
	release bool
}

// commitLoop commits every tick at most, at once after a rest. Work goes on
// during all of it.
func (e *engine) commitLoop(ctx context.Context) {
	tick := time.NewTicker(commitTick)
	defer tick.Stop()
	var failures int
	for {
		select {
		case <-ctx.Done():
			e.closeProducer()
			return
		case <-tick.C:
		case <-e.kick:
		}
		select {
		case <-e.hurry: // this one is for whoever waits
		default:
		}
		began := time.Now()
		done, err := e.commitOnce(ctx)
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() == nil:
			failures++
			e.log.Warn("commit failed, its results are kept", "attempt", failures, "err", err)
			Pause(ctx, min(time.Duration(failures)*commitTick, 2*time.Second))
		}
		e.rest(ctx, done, began)
	}
}

// rest waits between transactions: a tick at most, and up to every where that is
// asked for, unless somebody waits for the next.
func (e *engine) rest(ctx context.Context, done *batch, began time.Time) {
	if !Pause(ctx, done.rest()-time.Since(began)) || done == nil {
		return
	}
	t := time.NewTimer(e.every - time.Since(began))
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.hurry:
	case <-ctx.Done():
	}
}

// rest is the least time from one transaction's begin to the next: a share of
// the tick for each result, so that one mail alone holds up nobody who comes a
// moment later, and a busy engine makes no more transactions than it must.
func (b *batch) rest() time.Duration {
	if b == nil {
		return 0
	}
	results := 0
	for i := range b.parts {
		results += len(b.parts[i].results)
	}
	if results == 0 {
		return commitTick
	}
	return min(commitTick, time.Duration(results)*commitEach)
}

func (e *engine) closeProducer() {
	if e.producer != nil {
		e.producer.client.Close()
	}
}

// commitOnce runs one transaction if there is anything to commit; what it
// tried to commit, or nil.
func (e *engine) commitOnce(ctx context.Context) (*batch, error) {
	// The generation comes first: what is read after it can only be committed
	// under a generation that isn't newer than its assignment. No member is
	// accepted without any check, so nothing is committed then.
	member, generation := e.client.GroupMetadata()
	if member == "" || generation <= 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTime)
	defer cancel()
	if err := e.ensureProducer(ctx); err != nil {
		return nil, err
	}
	b := e.snapshot(member, generation)
	if len(b.parts) == 0 {
		return nil, nil
	}
	bad, err := e.transact(ctx, b)
	e.ended(b, err)
	if err == nil {
		e.committed(b)
		return b, nil
	}
	e.putBack(b, bad)
	return b, err
}

// transact produces and commits a batch. When it returns an error nothing of
// the batch stands.
func (e *engine) transact(ctx context.Context, b *batch) (*produced, error) {
	e.bus.cfg.Failpoint("txn.begin")
	p := e.producer
	if err := p.begin(ctx); err != nil {
		e.retire(ctx)
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	out, err := e.fill(ctx, p, b)
	if err != nil {
		e.abort(ctx)
		return out, err
	}
	if err := e.end(ctx, p.client); err != nil {
		return out, e.resolve(ctx, b, fmt.Errorf("end transaction: %w", err))
	}
	e.bus.cfg.Failpoint("txn.ended")
	return out, nil
}

// fill produces the records and adds the offsets.
func (e *engine) fill(ctx context.Context, p *producer, b *batch) (*produced, error) {
	out := &produced{}
	e.produce(ctx, p, b, out)
	if err := p.client.Flush(ctx); err != nil {
		return out, fmt.Errorf("flush: %w", err)
	}
	if out.err != nil {
		return out, fmt.Errorf("produce: %w", out.err)
	}
	if out.bad != nil {
		return out, fmt.Errorf("produce: %w", out.last)
	}
	if err := topicsLearnt(ctx, p.client); err != nil {
		return out, err
	}
	for i := range b.parts {
		b.parts[i].refer()
	}
	e.bus.cfg.Failpoint("txn.produced")
	if err := e.bus.barrier(ctx); err != nil {
		return out, err
	}
	e.bus.cfg.Failpoint("txn.barrier")
	cs := make([]commit, len(b.parts))
	for i := range b.parts {
		cs[i] = b.parts[i].commit
	}
	if err := p.commitOffsets(ctx, e.group, b.member, b.generation, cs); err != nil {
		return out, err
	}
	e.bus.cfg.Failpoint("txn.offsets")
	return out, nil
}

func (e *engine) produce(ctx context.Context, p *producer, b *batch, out *produced) {
	send := func(owner *result, r *Record) {
		p.client.Produce(ctx, e.bus.toClient(r), func(_ *kgo.Record, err error) { out.note(owner, err) })
	}
	for i := range b.parts {
		bp := &b.parts[i]
		for _, r := range bp.results {
			for j := range r.out {
				send(r, &r.out[j])
			}
		}
		if bp.extra != nil {
			send(nil, bp.extra)
		}
		if bp.more != nil {
			p.client.Produce(ctx, e.bus.toClient(bp.more), func(k *kgo.Record, err error) {
				bp.prog.more = overflow{set: true, part: k.Partition, offset: k.Offset}
				out.note(nil, err)
			})
		}
	}
	if b.records == 0 {
		// A transaction without a record would never begin, and so never end.
		send(nil, &Record{
			Topic: schemas.Journal, Partition: AnyPartition, Key: []byte(e.group),
			Value: encode(&pb.Journaled{}),
		})
	}
}

// resolve finds out what became of a transaction whose end got no answer. The
// fence ends it, then the stable commit tells. There is no going on before:
// outputs could be published twice.
func (e *engine) resolve(ctx context.Context, b *batch, cause error) error {
	e.retire(ctx)
	for {
		names := e.stillOwned(b)
		if len(names) == 0 {
			return cause
		}
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		cs, err := fetchCommits(ask, e.client, e.group, names, true)
		cancel()
		if err == nil {
			if stands(b, cs) {
				e.log.Info("transaction had committed, its reply was lost")
				return nil
			}
			return cause
		}
		e.log.Warn("outcome of a transaction unknown", "err", err)
		time.Sleep(commitTick)
	}
}

func (e *engine) stillOwned(b *batch) map[string][]int32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := map[string][]int32{}
	for i := range b.parts {
		if p := b.parts[i].part; !p.dropped {
			names[p.topic] = append(names[p.topic], p.partition)
		}
	}
	return names
}

// stands compares what is committed with what the batch would have committed;
// owner and sequence are in the metadata.
func stands(b *batch, cs []commit) bool {
	for _, c := range cs {
		for i := range b.parts {
			if b.parts[i].commit == c {
				return true
			}
		}
	}
	return false
}

// snapshot takes what is finished and encodes every changed partition's
// progress.
func (e *engine) snapshot(member string, generation int32) *batch {
	b := &batch{member: member, generation: generation}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = time.Now()
	for _, p := range e.parts {
		if e.stopped[p.key()] != "" && len(p.results) == 0 {
			// Its place is for the one to choose who mends it: a commit now
			// would overwrite that.
			if p.releasing && !p.released {
				p.released = true
				e.notify()
			}
			continue
		}
		bp := batchPart{part: p, results: e.take(p, b)}
		bp.release = p.releasing && !p.released && len(bp.results) == len(p.results)
		lazy := p.window.base() != p.committed && time.Since(p.at) >= commitLazy
		if len(bp.results) == 0 && p.claimed && !bp.release && !lazy {
			continue
		}
		p.results = p.results[len(bp.results):]
		e.seal(p, &bp, b)
		b.parts = append(b.parts, bp)
	}
	if len(b.parts) == 0 {
		e.begun = time.Time{}
	}
	return b
}

// take is the longest start of a partition's results that still fits. Results
// that shared a batch with an output that can't be stored go alone.
func (e *engine) take(p *part, b *batch) []*result {
	n := 0
	for n < len(p.results) && b.records < batchRecords && b.bytes < batchBytes {
		r := p.results[n]
		if r.alone && (n > 0 || len(b.parts) > 0) {
			break
		}
		n++
		b.records += len(r.out)
		b.bytes += r.bytes
		if r.alone {
			b.bytes += batchBytes
		}
	}
	return p.results[:n:n]
}

// seal encodes the commit of a partition with its results taken.
func (e *engine) seal(p *part, bp *batchPart, b *batch) {
	bp.state = p.saved
	for _, r := range bp.results {
		p.window.set(r.offset, taken)
		if r.state != nil {
			bp.state = r.state
		}
	}
	if r, ok := e.shape.marker(p, bp.results); ok {
		bp.extra = &r
		b.records++
	}
	p.sequence++
	base := p.window.base()
	pr := progress{
		owner: e.producer.id, sequence: p.sequence, released: bp.release,
		journalPart: p.journal.part, floor: p.journal.floorOf(p.track),
		state: bp.state, finished: p.window.finished(),
	}
	text, size := pr.encode(base)
	p.metadata = size
	bp.commit = commit{topicPartition: p.key(), offset: base, metadata: text}
	if size > metadataLimit {
		e.counts.cut++
		b.records++
		bp.prog, bp.more = pr, &Record{
			Topic: schemas.Journal, Partition: AnyPartition, Key: []byte(p.topic),
			Value: encode(&pb.Journaled{Result: encodeSpans(base, pr.finished)}),
		}
	}
}

// refer puts the place of the progress that had no room into the metadata.
func (bp *batchPart) refer() {
	if bp.more != nil {
		bp.commit.metadata, _ = bp.prog.encode(bp.commit.offset)
	}
}

// whole reads the progress that had no room in the metadata. It goes on trying
// until ctx ends.
func (b *Bus) whole(ctx context.Context, c commit, p *progress) error {
	for wait := retryFirst; p.more.set; wait = min(2*wait, retryMost) {
		f, err := b.fetch(ctx, schemas.Journal, p.more.part, p.more.offset, fetchLeast)
		var entry pb.Journaled
		switch {
		case errors.Is(err, errOutOfRange):
			return fmt.Errorf("progress of %s/%d is no longer in the journal", c.topic, c.partition)
		case err == nil && len(f.records) > 0 && f.records[0].Offset == p.more.offset:
			if err := proto.Unmarshal(f.records[0].Value, &entry); err != nil {
				return fmt.Errorf("progress of %s/%d: %w", c.topic, c.partition, err)
			}
			d := metadataReader{b: entry.Result}
			if spans := d.spans(c.offset); !d.bad {
				p.finished = spans
			}
			return nil
		}
		if !Pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// committed takes note of a transaction that stands.
func (e *engine) committed(b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for i := range b.parts {
		bp := &b.parts[i]
		p := bp.part
		for _, r := range bp.results {
			p.window.set(r.offset, done)
			e.settle(r, true)
		}
		p.window.compact()
		p.journal.forget(p.track)
		p.committed, p.claimed, p.at, p.saved = bp.commit.offset, true, now, bp.state
		p.released = p.released || bp.release
		p.poke()
	}
	e.sinceOldest()
	e.notify()
}

// putBack returns the results of a failed transaction to the partitions that
// are still owned, in front of what has finished since.
func (e *engine) putBack(b *batch, out *produced) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range b.parts {
		bp := &b.parts[i]
		p := bp.part
		for _, r := range bp.results {
			p.window.set(r.offset, open)
			if p.dropped {
				e.settle(r, false)
			} else if out != nil && out.bad[r] {
				e.suspect(r, out)
			}
		}
		if !p.dropped {
			p.results = append(bp.results[:len(bp.results):len(bp.results)], p.results...)
		}
	}
	e.sinceOldest()
}

// suspect sends a result into a transaction of its own; if that fails as
// well, its record goes to deadletter instead.
func (e *engine) suspect(r *result, out *produced) {
	r.tries++
	if !r.alone {
		r.alone = true
		return
	}
	if r.tries < unstorableTries && errors.Is(out.last, kerr.UnknownTopicOrPartition) {
		return
	}
	e.log.Error("output can't be stored, record goes to deadletter",
		"topic", r.source.Topic, "partition", r.source.Partition, "offset", r.source.Offset, "err", out.last)
	room := deadRoom
	if r.dead {
		room = deadLittle
	}
	r.out, r.alone, r.dead = []Record{e.deadletter(r.source, out.last, room)}, false, true
}

// sinceOldest keeps the time of the oldest result in no commit.
func (e *engine) sinceOldest() {
	e.waiting = time.Time{}
	for _, p := range e.parts {
		if len(p.results) > 0 && (e.waiting.IsZero() || p.results[0].at.Before(e.waiting)) {
			e.waiting = p.results[0].at
		}
	}
}

// loaded says that nothing more should be begun before something is committed.
// The lock is held.
func (e *engine) loaded() bool { return e.pending >= maxPending || e.weight >= maxWeight }

// finish hands a result to the commit loop. The lock is held.
func (e *engine) finish(p *part, r *result) {
	r.part, r.at = p, time.Now()
	for i := range r.out {
		r.bytes += len(r.out[i].Value) + len(r.out[i].Key) + 64
	}
	e.pending++
	e.weight += r.bytes
	if p.dropped {
		e.settle(r, false)
		return
	}
	if e.waiting.IsZero() {
		e.waiting = r.at
	}
	p.results = append(p.results, r)
	if e.every > 0 && e.pending >= e.enough {
		e.hurried()
		return
	}
	e.pushed()
}
