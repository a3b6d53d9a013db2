package bus

import (
	"context"
	"errors"
	"time"
)

const (
	maxHeldDefault = 16384
	maxOpenDefault = 1000
	staleCommit    = 10 * time.Second // nothing begins while something waits so long
	gateLook       = 20 * time.Millisecond
)

// WorkConfig are the bounds of a Work. Zero values take the defaults.
type WorkConfig struct {
	Group   string
	From    *Topics
	MaxHeld int // jobs handed out and unfinished, per process; default 16384
	MaxPart int // the same of one partition, so that a flood in it leaves the others theirs; default MaxHeld
	// MaxBytes bounds the values of the jobs handed out and unfinished, per
	// process, beside one more, whatever partitions they are of; default unbounded.
	MaxBytes int
	MaxOpen  int // jobs begun or finished and not yet committed; default 1000
	// Every is the least time between two commits, unless half of MaxOpen waits
	// for one or a partition is given up. What was finished since the last is done
	// again after a crash. Default: as soon as may be.
	Every time.Duration
	Drain time.Duration // how long a revoke waits for begun jobs; default 45 s
	Ready func() bool   // Begin waits while it is false (clock, freshness); nil: always
	Stage string        // named in deadletter records
}

// Work hands each record to take as a Job, which may finish in any order.
// take must not block. It returns when ctx ends, after the drain.
//
// Guarantee: a record is handed out again only to a later owner, or after
// Abandon; what its job marked comes back with it.
// Guarantee: nothing begins unless the group coordinator heard of this
// process within the session timeout.
func (b *Bus) Work(ctx context.Context, cfg WorkConfig, take func(*Job)) error {
	e, err := b.newWork(ctx, cfg, take)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return e.run(ctx)
}

func (b *Bus) newWork(ctx context.Context, cfg WorkConfig, take func(*Job)) (*engine, error) {
	if cfg.Group == "" || cfg.From == nil || take == nil {
		return nil, errors.New("work needs a group, topics and a function")
	}
	if cfg.MaxHeld <= 0 {
		cfg.MaxHeld = maxHeldDefault
	}
	if cfg.MaxOpen <= 0 {
		cfg.MaxOpen = maxOpenDefault
	}
	if cfg.Drain <= 0 {
		cfg.Drain = drainDefault
	}
	e := b.newEngine(cfg.Group, cfg.Stage, cfg.From, cfg.Drain, cfg.MaxOpen)
	e.every, e.enough = cfg.Every, cfg.MaxOpen/2
	e.shape = &work{engine: e, cfg: cfg, take: take}
	j, err := e.newJournal(ctx)
	e.journal = j
	return e, err
}

// work is the shape of jobs. held and bytes are under the engine's lock.
type work struct {
	engine *engine
	cfg    WorkConfig
	take   func(*Job)
	held   int // handed out and not ended
	bytes  int // of their values
}

func (w *work) opened(*part) {}

// closed frees the room of jobs that were forgotten at the revoke.
func (w *work) closed(p *part) {
	w.held, p.held = w.held-p.held, 0
	w.bytes, p.bytes = w.bytes-p.bytes, 0
}

// hold counts a job that is handed out, n = 1, or ended, n = -1. The lock is
// held.
func (w *work) hold(p *part, j *Job, n int) {
	size := n * len(j.Record.Value)
	w.held, p.held = w.held+n, p.held+n
	w.bytes, p.bytes = w.bytes+size, p.bytes+size
}

func (w *work) marker(*part, []*result) (Record, bool) { return Record{}, false }

func (w *work) full(p *part) bool { return len(p.backlog) > 0 || w.capped(p) }

// capped says that no more may be handed out. What is finished counts as long
// as it isn't committed: it is in memory.
func (w *work) capped(p *part) bool {
	return w.held >= w.cfg.MaxHeld || w.cfg.MaxPart > 0 && p.held >= w.cfg.MaxPart ||
		w.cfg.MaxBytes > 0 && w.bytes >= w.cfg.MaxBytes || w.engine.loaded() || crowded(p)
}

// crowded says that more unfinished records would not fit into the metadata.
// What an earlier owner left between its finished ones must be handed out all
// the same: only that makes room.
func crowded(p *part) bool { return p.metadata > metadataFull && len(p.track.known) == 0 }

// pump hands out the backlog, as far as the caps let it.
func (w *work) pump(p *part) {
	e := w.engine
	for {
		e.mu.Lock()
		j := w.next(p)
		e.mu.Unlock()
		if j == nil {
			return
		}
		w.take(j)
	}
}

// next is the next record as a job, or nil. The lock is held.
func (w *work) next(p *part) *Job {
	for len(p.backlog) > 0 && !p.draining {
		if w.capped(p) {
			return nil
		}
		r := p.backlog[0]
		p.backlog[0] = nil
		p.backlog = p.backlog[1:]
		p.queued -= len(r.Value)
		if r.Attrs.IsControl() {
			p.track.skip(r.Offset)
			continue
		}
		if !p.track.add(r.Offset) {
			continue
		}
		j := &Job{Record: fromClient(r), work: w, part: p, marks: p.journal.marks[r.Offset]}
		w.hold(p, j, 1)
		delete(p.journal.marks, r.Offset)
		return j
	}
	return nil
}
