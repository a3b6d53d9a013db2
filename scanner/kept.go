package scanner

import (
	"container/list"
	"context"
	"sync"
	"time"

	"qstream/directory/roster"
	"qstream/engine"
)

// keptKey is what a verdict of an engine depends on that looks at nothing but
// the content. An engine is the one in use, not its name: a document that is
// changed makes another, for which nothing is kept.
type keptKey struct {
	sum        [32]byte // sha256 of the content
	engine     *roster.Member
	signatures string
	job        string // that made it of the past; empty: mail on its way
}

// kept are verdicts that hold for every envelope, the least recently used
// forgotten first, and scans under way that others may wait for. They are kept
// for a while only: what an engine tells of its signatures may not be all of
// them. Safe for concurrent use.
type kept struct {
	limit int

	mu      sync.Mutex
	found   map[keptKey]*list.Element // of *keptVerdict
	recent  *list.List
	flights map[keptKey]chan struct{}
}

type keptVerdict struct {
	key     keptKey
	verdict engine.Verdict
	began   time.Time // of its scan
}

func newKept(limit int) *kept {
	return &kept{limit: limit, found: map[keptKey]*list.Element{}, recent: list.New(), flights: map[keptKey]chan struct{}{}}
}

// scan is a kept verdict, or what f finds. While f runs for a key, others wait
// for its verdict; a failed one is kept for nobody. old reports a verdict that
// was not made for this call.
func (k *kept) scan(ctx context.Context, key keptKey, f func() engine.Verdict) (v engine.Verdict, old bool) {
	for {
		k.mu.Lock()
		if at, ok := k.found[key]; ok && key.engine.Now().Sub(at.Value.(*keptVerdict).began) < key.engine.Doc.Keep {
			k.recent.MoveToFront(at)
			v := at.Value.(*keptVerdict).verdict
			k.mu.Unlock()
			return v, true
		}
		flight, ok := k.flights[key]
		if !ok {
			flight = make(chan struct{})
			k.flights[key] = flight
			k.mu.Unlock()
			return k.lead(key, flight, f), false
		}
		k.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return engine.FailedBy(ctx, key.engine.Name(), ctx.Err()), false
		}
	}
}

// lead scans for all who wait.
func (k *kept) lead(key keptKey, flight chan struct{}, f func() engine.Verdict) engine.Verdict {
	began := key.engine.Now()
	v := f()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.flights, key)
	close(flight)
	// What is newer than the key says is asked for by another key.
	if v.Outcome != engine.Failed && v.Signatures == key.signatures {
		if at, ok := k.found[key]; ok {
			k.recent.Remove(at)
		}
		k.found[key] = k.recent.PushFront(&keptVerdict{key, v, began})
		for k.recent.Len() > k.limit {
			oldest := k.recent.Back()
			delete(k.found, k.recent.Remove(oldest).(*keptVerdict).key)
		}
	}
	return v
}
