package bus

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	fenceTime = 15 * time.Second
	cutGrace  = 2 * time.Second // for cut jobs to finish as unconfirmed
)

// onAssigned fences the owners that died without letting go: only then does
// the fetch of stable offsets, which follows, not wait for their transaction
// to time out.
func (e *engine) onAssigned(ctx context.Context, cl *kgo.Client, added map[string][]int32) {
	if len(added) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTime)
	defer cancel()
	err := e.fenceOwners(ctx, cl, added)
	if err == nil {
		err = e.settleOpen(ctx, cl, added)
	}
	if err != nil && ctx.Err() == nil {
		e.log.Warn("former owner not fenced", "err", err)
	}
}

// onFetched makes the parts. It runs before the first fetch, and again with
// more partitions when ctx is cancelled: so a part is published only at the
// end, and only if nil is returned. Any other error would cost the whole
// assignment, so none is ever returned.
func (e *engine) onFetched(ctx context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	e.pollBarrier(ctx)
	fresh := e.newParts(ctx, resp)
	if e.journal != nil {
		e.journal.replay(ctx, fresh)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.publish(fresh)
}

// publish makes parts visible to the poll and commit loops.
func (e *engine) publish(fresh []*part) error {
	resume := map[string][]int32{}
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return context.Canceled
	}
	for _, p := range fresh {
		if old := e.parts[p.key()]; old != nil {
			e.drop(old)
		}
		e.parts[p.key()] = p
		delete(e.stopped, p.key())
		e.shape.opened(p)
		resume[p.topic] = append(resume[p.topic], p.partition)
	}
	e.mu.Unlock()
	// What was paused stays so over a new assignment.
	e.client.ResumeFetchPartitions(resume)
	e.hurried()
	return nil
}

func (e *engine) newParts(ctx context.Context, resp *kmsg.OffsetFetchResponse) []*part {
	var fresh []*part
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, rp := range t.Partitions {
				tp := topicPartition{t.Topic, rp.Partition}
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
					// The client fetches nothing of it until it is assigned anew.
					e.stop(tp, "the commit can't be read: "+err.Error())
					continue
				}
				if rp.Offset < 0 {
					e.stop(tp, "the group has no commit")
					continue
				}
				c := commit{topicPartition: tp, offset: rp.Offset}
				if rp.Metadata != nil {
					c.metadata = *rp.Metadata
				}
				fresh = append(fresh, e.partOf(ctx, c))
			}
		}
	}
	return fresh
}

// partOf makes a part that goes on at a commit.
func (e *engine) partOf(ctx context.Context, c commit) *part {
	was, err := decodeProgress(c.offset, c.metadata)
	if err == nil {
		if werr := e.bus.whole(ctx, c, &was); werr != nil && ctx.Err() == nil {
			e.log.Error("records may be done again", "topic", c.topic, "partition", c.partition, "err", werr)
		}
	} else {
		e.log.Warn("commit metadata ignored", "topic", c.topic, "partition", c.partition, "offset", c.offset, "err", err)
		was = progress{floor: noFloor, journalPart: -1}
	}
	p := newPart(c.topic, c.partition)
	p.track = newTracker(c.offset, was.finished)
	p.window = p.track
	p.committed, p.sequence = c.offset, was.sequence
	p.state, p.saved = was.state, was.state
	p.journal = journalMark{part: was.journalPart, floor: was.floor}
	return p
}

// onRevoked holds the hand-over up until the partitions are drained and
// committed; heartbeats go on meanwhile.
func (e *engine) onRevoked(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
	e.release(e.named(revoked))
}

// onLost drops: another owner may be at work already, so nothing is committed.
func (e *engine) onLost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	ps := e.named(lost)
	if len(ps) > 0 {
		e.log.Warn("partitions lost", "count", len(ps))
	}
	e.mu.Lock()
	for _, p := range ps {
		e.counts.lost++
		e.drop(p)
	}
	e.mu.Unlock()
}

func (e *engine) named(names map[string][]int32) []*part {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ps []*part
	for topic, partitions := range names {
		for _, n := range partitions {
			tp := topicPartition{topic, n}
			if p := e.parts[tp]; p != nil {
				ps = append(ps, p)
			} else {
				delete(e.stopped, tp)
			}
		}
	}
	return ps
}

// release lets go of parts: it stops handing out, waits for begun jobs, cuts
// off those that take too long, commits as released, and drops.
func (e *engine) release(ps []*part) {
	if len(ps) == 0 {
		return
	}
	e.mu.Lock()
	for _, p := range ps {
		p.stop()
	}
	e.mu.Unlock()
	if !e.await(ps, e.drain, func(p *part) bool { return p.begun == 0 }) {
		e.cutOff(ps)
		e.await(ps, cutGrace, func(p *part) bool { return p.begun == 0 })
	}
	e.mu.Lock()
	for _, p := range ps {
		p.releasing = true
	}
	e.mu.Unlock()
	e.hurried()
	if !e.await(ps, e.bus.cfg.Release, func(p *part) bool { return p.released }) {
		e.log.Warn("partitions let go without a commit", "count", len(ps))
	}
	e.mu.Lock()
	for _, p := range ps {
		e.drop(p)
	}
	e.mu.Unlock()
}

func (e *engine) cutOff(ps []*part) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range ps {
		if p.begun > 0 {
			e.log.Warn("drain's time is over", "topic", p.topic, "partition", p.partition, "count", p.begun)
		}
		p.cutOff()
	}
}

// await waits until cond holds for every part that isn't dropped.
func (e *engine) await(ps []*part, limit time.Duration, cond func(*part) bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		e.mu.Lock()
		ok, changed := true, e.changed
		for _, p := range ps {
			ok = ok && (p.dropped || cond(p))
		}
		e.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-deadline.C:
			return false
		}
	}
}

// drop forgets a part and what it had not committed. The lock is held.
func (e *engine) drop(p *part) {
	if p.dropped {
		return
	}
	p.stop()
	p.dropped = true
	p.cutOff()
	if e.parts[p.key()] == p {
		delete(e.parts, p.key())
		delete(e.stopped, p.key())
	}
	for _, r := range p.results {
		e.settle(r, false)
	}
	p.results = nil
	e.sinceOldest()
	e.shape.closed(p)
	e.notify()
}

// notify wakes whoever waits for a change. The lock is held.
func (e *engine) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// settle ends a result: committed, or dropped. The lock is held.
func (e *engine) settle(r *result, committed bool) {
	e.pending--
	e.weight -= r.bytes
	if r.slot {
		<-e.open
	}
	if r.ended != nil {
		r.ended(committed)
	}
}
