package bus

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	transformDrain   = 10 * time.Second
	transformBacklog = 1000    // records polled ahead, per partition
	transformQueued  = 4 << 20 // bytes of them
	retryFirst       = 50 * time.Millisecond
	retryMost        = 10 * time.Second
)

// Step makes the outputs of one record. State is the partition's opaque state
// (at most 1 KiB), committed with the offset; next nil leaves it as it is. An
// error that wraps ErrPoison sends the record to deadletter; any other is
// retried with back-off, while what is behind in the partition waits.
// Partitions run beside each other.
type Step func(ctx context.Context, state []byte, r Record) (out []Record, next []byte, err error)

// Transform consumes topics in a group; outputs, state and offset of each
// record become visible in one transaction. It returns when ctx ends, after
// what was begun is committed or abandoned.
func (b *Bus) Transform(ctx context.Context, group string, from *Topics, step Step) error {
	if group == "" || from == nil || step == nil {
		return errors.New("transform needs a group, topics and a step")
	}
	e := b.newEngine(group, group, from, transformDrain, 0)
	e.shape = &transform{engine: e, step: step}
	return e.run(ctx)
}

// transform is the shape of steps: one goroutine per partition.
type transform struct {
	engine *engine
	step   Step
}

func (t *transform) marker(*part, []*result) (Record, bool) { return Record{}, false }

func (t *transform) pump(*part) {}

func (t *transform) closed(*part) {}

func (t *transform) full(p *part) bool {
	return len(p.backlog) >= transformBacklog || p.queued >= transformQueued
}

func (t *transform) opened(p *part) {
	t.engine.workers.Add(1)
	go func() {
		defer t.engine.workers.Done()
		for t.one(p.cut, p) {
		}
	}()
}

// one waits for the next record and steps it; false once the partition is
// being given up.
func (t *transform) one(ctx context.Context, p *part) bool {
	r, state := t.next(p)
	if r == nil {
		return false
	}
	rec := fromClient(r)
	res := t.try(ctx, p, state, rec)
	e := t.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	p.begun--
	if p.draining {
		e.notify()
	}
	if res == nil {
		return false
	}
	if res.state != nil {
		p.state = res.state
	}
	e.finish(p, res)
	return true
}

// next waits for a record and for room.
func (t *transform) next(p *part) (*kgo.Record, []byte) {
	e := t.engine
	for {
		e.mu.Lock()
		changed := e.changed
		room := !e.loaded()
		for room && !p.draining && len(p.backlog) > 0 {
			r := p.backlog[0]
			p.backlog[0] = nil
			p.backlog = p.backlog[1:]
			p.queued -= len(r.Value)
			if r.Attrs.IsControl() {
				p.track.skip(r.Offset)
				continue
			}
			if p.track.add(r.Offset) {
				p.begun++
				e.mu.Unlock()
				return r, p.state
			}
		}
		draining := p.draining
		e.mu.Unlock()
		if draining {
			return nil, nil
		}
		select {
		case <-p.wake:
		case <-p.revoked.Done():
		case <-changed:
		}
	}
}

// try steps a record until it succeeds or is poison; nil if the partition was
// given up first.
func (t *transform) try(ctx context.Context, p *part, state []byte, rec Record) *result {
	wait := retryFirst
	for {
		out, next, err := t.step(ctx, state, rec)
		switch {
		case err == nil:
			return &result{offset: rec.Offset, source: rec, out: out, state: next}
		case errors.Is(err, ErrPoison):
			t.engine.log.Error("record goes to deadletter", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "err", err)
			return &result{offset: rec.Offset, source: rec, out: []Record{t.engine.deadletter(rec, err, deadRoom)}}
		case ctx.Err() != nil:
			return nil
		}
		t.engine.log.Warn("step failed, trying again", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "err", err)
		select {
		case <-time.After(wait):
		case <-p.revoked.Done():
			return nil
		}
		wait = min(2*wait, retryMost)
	}
}
