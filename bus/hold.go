package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	holdDrain    = 10 * time.Second
	releaseBatch = 500
	releaseLook  = 250 * time.Millisecond // how late the clock may notice a due entry
	skewMost     = 30 * time.Second       // the clock releases nothing beyond
	markerType   = "marker"
)

// Entry is what a Holder remembers of a waiting record. Strings are interned.
type Entry struct {
	Due         time.Time // released by the clock then; zero: at once
	Born        time.Time // for expiry by Pull
	Appended    time.Time // append time of the waiting record, set by bus
	Tenant      string
	Queue       string
	Destination string
	ID          string    // message id (26 characters)
	Content     time.Time // until then its content is safe where it is; for Pull
	Kind        uint8     // what else the stage's Pull tells entries apart by
}

// HoldConfig says what is held and what a release makes of it.
type HoldConfig struct {
	Group string
	From  *Topics
	Stage string
	// Entry reads a record; an error sends it to deadletter.
	Entry func(Record) (Entry, error)
	// Release makes the outputs of a released record. Pulled tells a release
	// by Pull from one by the clock. An error that wraps ErrPoison sends the
	// record to deadletter; any other is retried. Partitions run beside each
	// other.
	Release func(ctx context.Context, e Entry, r Record, pulled bool) ([]Record, error)
	// Ready: while it is false the clock releases nothing; nil: always.
	Ready func() bool
}

// Hold makes a Holder; it starts nothing.
func (b *Bus) Hold(cfg HoldConfig) (*Holder, error) {
	if cfg.Group == "" || cfg.From == nil || cfg.Entry == nil || cfg.Release == nil {
		return nil, errors.New("hold needs a group, topics, an entry and a release")
	}
	h := &Holder{cfg: cfg, engine: b.newEngine(cfg.Group, cfg.Stage, cfg.From, holdDrain, 0)}
	h.engine.shape = h
	return h, nil
}

// Holder keeps an index of waiting records and releases them: outputs and a
// marker in the record's own partition in one transaction.
//
// Guarantee: a record is released once; the index of a partition is built up
// to the end of the log, all markers seen, before anything of it is released.
type Holder struct {
	cfg    HoldConfig
	engine *engine
	ran    atomic.Bool
}

// Run consumes and releases until ctx ends. It runs once.
func (h *Holder) Run(ctx context.Context) error {
	if h.ran.Swap(true) {
		return errors.New("holder ran already")
	}
	return h.engine.run(ctx)
}

// Ready is nil when every assigned partition's index is complete.
func (h *Holder) Ready() error {
	e := h.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	for tp, why := range e.stopped {
		return fmt.Errorf("%s/%d: %s", tp.topic, tp.partition, why)
	}
	for _, p := range e.parts {
		if !p.own.(*index).complete {
			return fmt.Errorf("%s/%d: what waits is being read", p.topic, p.partition)
		}
	}
	return nil
}

// Each calls f for every waiting entry of this process's partitions, as far
// as their indexes are complete.
func (h *Holder) Each(f func(Entry)) {
	for _, p := range h.engine.owned() {
		for _, w := range h.waiting(p) {
			f(w.entry())
		}
	}
}

func (h *Holder) waiting(p *part) []*waiting {
	h.engine.mu.Lock()
	defer h.engine.mu.Unlock()
	x := p.own.(*index)
	if !x.complete || p.draining {
		return nil
	}
	ws := make([]*waiting, 0, len(x.order)-x.ended)
	for _, w := range x.order {
		if w.state == open {
			ws = append(ws, w)
		}
	}
	return ws
}

func (h *Holder) opened(p *part) {
	base := p.committed
	x := newIndex(base)
	p.own, p.window = x, x
	h.engine.workers.Add(1)
	go func() {
		defer h.engine.workers.Done()
		h.complete(p, base)
		h.releases(p)
	}()
}

func (h *Holder) closed(p *part) {
	x := p.own.(*index)
	for w := range x.pulls {
		x.pullEnded(w, false)
	}
}

func (h *Holder) full(*part) bool { return false }

// pump puts the backlog into the index.
func (h *Holder) pump(p *part) {
	e := h.engine
	e.mu.Lock()
	rs := p.backlog
	p.backlog, p.queued = nil, 0
	e.mu.Unlock()
	if len(rs) == 0 {
		return
	}
	read := make([]func(*index), 0, len(rs))
	for _, r := range rs {
		read = append(read, h.read(r))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.dropped {
		return
	}
	x := p.own.(*index)
	for _, into := range read {
		into(x)
	}
	h.completed(p, x)
	p.poke()
}

// read decodes a record outside the lock.
func (h *Holder) read(r *kgo.Record) func(*index) {
	if r.Attrs.IsControl() {
		return func(x *index) { x.skip(r.Offset) }
	}
	rec := fromClient(r)
	if m := marker(rec); m != nil {
		return func(x *index) {
			for _, offset := range m.Offsets {
				x.set(offset, done)
			}
			x.skip(rec.Offset)
		}
	}
	entry, err := h.cfg.Entry(rec)
	if err != nil {
		entry = Entry{} // due at once: its release sends it to deadletter
	}
	entry.Appended = rec.Time
	w := newWaiting(rec.Offset, entry)
	return func(x *index) { x.add(w) }
}

// marker is the marker that a record is, or nil.
func marker(r Record) *pb.Marker {
	for _, h := range r.Headers {
		if h.Key == HeaderType && string(h.Value) == markerType {
			var m pb.Marker
			if proto.Unmarshal(r.Value, &m) == nil {
				return &m
			}
		}
	}
	return nil
}

func newMarker(topic string, partition int32, offsets []int64) Record {
	return Record{
		Topic: topic, Partition: partition, Value: encode(&pb.Marker{Offsets: offsets}),
		Headers: headers(HeaderType, markerType),
	}
}

// marker of a partition's released records.
func (h *Holder) marker(p *part, rs []*result) (Record, bool) {
	if len(rs) == 0 {
		return Record{}, false
	}
	offsets := make([]int64, len(rs))
	for i, r := range rs {
		offsets[i] = r.offset
	}
	return newMarker(p.topic, p.partition, offsets), true
}

// complete finds out up to where the log must be read before anything is
// released. An empty marker is appended for it: once it is read, everything
// that was there at the assignment is read as well, whatever gaps, open
// transactions and aborted ends there are.
func (h *Holder) complete(p *part, base int64) {
	e := h.engine
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		ctx, cancel := e.whileOwned(p)
		target, err := h.target(ctx, p, base)
		cancel()
		if err == nil {
			e.mu.Lock()
			x := p.own.(*index)
			x.target = target
			h.completed(p, x)
			e.mu.Unlock()
			return
		}
		select {
		case <-p.revoked.Done():
			return
		case <-time.After(wait):
			e.log.Warn("end of waiting records not found, trying again", "topic", p.topic, "partition", p.partition, "err", err)
		}
	}
}

func (h *Holder) target(ctx context.Context, p *part, base int64) (int64, error) {
	b := h.engine.bus
	ends, err := b.listOffsetsAs(ctx, newest, uncommitted, map[string][]int32{p.topic: {p.partition}})
	if err != nil {
		return 0, err
	}
	if end := ends[p.topic][p.partition]; end <= base {
		return base, nil
	}
	m := newMarker(p.topic, p.partition, nil)
	if err := b.Publish(ctx, &m); err != nil {
		return 0, err
	}
	return m.Offset + 1, nil
}

// completed takes note once the target is passed. The lock is held.
func (h *Holder) completed(p *part, x *index) {
	if x.complete || x.target < 0 || x.next < x.target {
		return
	}
	x.finish()
	h.engine.notify()
	p.poke()
}

// whileOwned is a context that ends when the partition is given up.
func (e *engine) whileOwned(p *part) (context.Context, context.CancelFunc) {
	return context.WithCancel(p.revoked)
}
