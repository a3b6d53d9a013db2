package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// releases releases what is due in a partition until it is given up.
func (h *Holder) releases(p *part) {
	ctx, cancel := h.engine.whileOwned(p)
	defer cancel()
	var pg page
	for ctx.Err() == nil {
		ws, pulled := h.next(p)
		if len(ws) > 0 {
			h.release(ctx, p, &pg, ws, pulled)
			continue
		}
		select {
		case <-p.wake:
		case <-p.revoked.Done():
		case <-time.After(releaseLook):
			pg.rest()
		}
	}
}

// next takes what is to be released now.
func (h *Holder) next(p *part) ([]*waiting, map[*waiting]bool) {
	e := h.engine
	now := e.bus.cfg.Now()
	if skew, ok := e.bus.Skew(); ok && skew.Abs() > skewMost {
		now = time.Time{}
	}
	if h.cfg.Ready != nil && !h.cfg.Ready() {
		now = time.Time{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := p.own.(*index)
	if !x.complete || p.draining || e.loaded() {
		return nil, nil
	}
	ws, pulled := x.due(now, releaseBatch)
	if len(ws) > 0 {
		p.begun++
	}
	return ws, pulled
}

// release fetches the records of entries and hands what they become to the
// commit loop. Entries not reached when the partition goes stay waiting.
func (h *Holder) release(ctx context.Context, p *part, pg *page, ws []*waiting, pulled map[*waiting]bool) {
	e := h.engine
	defer func() {
		e.mu.Lock()
		p.begun--
		if p.draining {
			e.notify()
		}
		e.mu.Unlock()
	}()
	slices.SortFunc(ws, func(a, b *waiting) int { return int(a.offset - b.offset) })
	for len(ws) > 0 && ctx.Err() == nil {
		got, err := h.fetch(ctx, p, pg, ws)
		if err != nil {
			e.log.Warn("waiting records not fetched, trying again", "topic", p.topic, "partition", p.partition, "err", err)
			h.again(p, ws, pulled)
			return
		}
		for _, r := range got {
			h.releaseOne(ctx, p, ws[0], r, pulled)
			ws = ws[1:]
		}
	}
}

func (h *Holder) releaseOne(ctx context.Context, p *part, w *waiting, r *Record, pulled map[*waiting]bool) {
	e := h.engine
	if ctx.Err() != nil {
		return
	}
	res := &result{offset: w.offset}
	var err error
	if r == nil {
		err = errGone
		r = &Record{Topic: p.topic, Partition: p.partition, Offset: w.offset, Key: w.id[:w.idLen]}
	} else if _, err = h.cfg.Entry(*r); err == nil {
		res.out, err = h.cfg.Release(ctx, w.entry(), *r, pulled[w])
		if err != nil && !errors.Is(err, ErrPoison) {
			if ctx.Err() == nil {
				e.log.Warn("release failed, trying again", "topic", p.topic, "partition", p.partition, "offset", w.offset, "err", err)
				h.again(p, []*waiting{w}, pulled)
			}
			return
		}
	}
	res.source = *r
	if err != nil {
		e.log.Error("record goes to deadletter", "topic", p.topic, "partition", p.partition, "offset", w.offset, "err", err)
		res.out = append(res.out, e.deadletter(*r, err, deadRoom))
	}
	x := p.own.(*index)
	res.ended = func(committed bool) { x.pullEnded(w, committed) }
	e.mu.Lock()
	e.finish(p, res)
	e.mu.Unlock()
	e.bus.cfg.Failpoint("hold.released")
}

const retryRelease = 2 * time.Second

// again tries entries later.
func (h *Holder) again(p *part, ws []*waiting, pulled map[*waiting]bool) {
	h.engine.mu.Lock()
	defer h.engine.mu.Unlock()
	x := p.own.(*index)
	for _, w := range ws {
		x.retries = append(x.retries, retry{at: h.engine.bus.cfg.Now().Add(retryRelease), w: w, pulled: pulled[w]})
		x.pullEnded(w, false)
	}
}

// pull is one call of Pull; the engine's lock guards it.
type pull struct {
	left, released int
	done           chan struct{}
}

// pullEnded tells a waiting Pull of an entry's end. The lock is held.
func (x *index) pullEnded(w *waiting, released bool) {
	pl := x.pulls[w]
	if pl == nil {
		return
	}
	delete(x.pulls, w)
	pl.left--
	if released {
		pl.released++
	}
	if pl.left == 0 {
		close(pl.done)
	}
}

// Pull releases now what matches, in the partitions this process owns, and
// says how many were released. It waits until their indexes are complete. What
// fails to be released is tried again later and isn't counted.
func (h *Holder) Pull(ctx context.Context, match func(Entry) bool) (int, error) {
	pl := &pull{left: 1, done: make(chan struct{})}
	for _, p := range h.engine.owned() {
		if err := h.awaitIndex(ctx, p); err != nil {
			return 0, err
		}
		var hits []*waiting
		for _, w := range h.waiting(p) {
			if match(w.entry()) {
				hits = append(hits, w)
			}
		}
		h.pull(p, pl, hits)
	}
	e := h.engine
	e.mu.Lock()
	if pl.left--; pl.left == 0 {
		close(pl.done)
	}
	e.mu.Unlock()
	var err error
	select {
	case <-pl.done:
	case <-ctx.Done():
		err = fmt.Errorf("pull: %w", context.Cause(ctx))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return pl.released, err
}

func (h *Holder) pull(p *part, pl *pull, hits []*waiting) {
	h.engine.mu.Lock()
	defer h.engine.mu.Unlock()
	x := p.own.(*index)
	for _, w := range hits {
		if w.state != open || p.dropped || x.pulls[w] != nil {
			continue
		}
		x.pulls[w] = pl
		pl.left++
		if !w.busy {
			x.pulled = append(x.pulled, w)
		}
	}
	for i := range x.retries {
		if x.pulls[x.retries[i].w] != nil {
			x.retries[i].at, x.retries[i].pulled = time.Time{}, true
		}
	}
	p.poke()
}

// awaitIndex waits for a partition's index, or for its end here.
func (h *Holder) awaitIndex(ctx context.Context, p *part) error {
	for {
		h.engine.mu.Lock()
		ok, changed := p.own.(*index).complete || p.draining, h.engine.changed
		h.engine.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(releaseLook):
		case <-ctx.Done():
			return fmt.Errorf("pull: %w", context.Cause(ctx))
		}
	}
}
