package bus

import (
	"container/heap"
	"sort"
	"time"
	"unique"
)

// index is what a Holder knows of one partition: about 130 bytes for each
// waiting record. The engine's lock guards it; an entry's facts never change.
type index struct {
	next    int64      // first offset not seen yet
	order   []*waiting // by offset; the first one is open, or there is none
	ended   int        // entries of order that are done
	byDue   dueHeap
	pulled  []*waiting // to release now, whatever their due time
	retries []retry    // releases that failed
	pulls   map[*waiting]*pull

	target   int64 // complete once next has passed it
	complete bool
}

// waiting is an entry. Due 0 marks a record that can't be read as an entry.
type waiting struct {
	offset, due, born, appended, content int64 // times in Unix milliseconds
	tenant, queue, destination           unique.Handle[string]
	id                                   [26]byte
	idLen                                uint8
	kind                                 uint8
	state                                slotState
	busy                                 bool // in the hands of the releaser
}

type retry struct {
	at     time.Time
	w      *waiting
	pulled bool
}

func newIndex(base int64) *index {
	return &index{next: base, target: -1, pulls: map[*waiting]*pull{}}
}

func newWaiting(offset int64, e Entry) *waiting {
	w := &waiting{
		offset: offset, due: millis(e.Due), born: millis(e.Born), appended: millis(e.Appended), content: millis(e.Content),
		tenant: unique.Make(e.Tenant), queue: unique.Make(e.Queue), destination: unique.Make(e.Destination),
		kind: e.Kind,
	}
	w.idLen = uint8(copy(w.id[:], e.ID))
	return w
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (w *waiting) entry() Entry {
	return Entry{
		Due: instant(w.due), Born: instant(w.born), Appended: instant(w.appended), Content: instant(w.content),
		Tenant: w.tenant.Value(), Queue: w.queue.Value(), Destination: w.destination.Value(),
		ID: string(w.id[:w.idLen]), Kind: w.kind,
	}
}

// add holds an entry.
func (x *index) add(w *waiting) {
	if w.offset < x.next {
		return
	}
	x.next = w.offset + 1
	x.order = append(x.order, w)
	if x.complete {
		heap.Push(&x.byDue, w)
	} else {
		x.byDue = append(x.byDue, w)
	}
}

// skip passes an offset that holds no entry.
func (x *index) skip(offset int64) { x.next = max(x.next, offset+1) }

// finish is called once everything up to the target was seen.
func (x *index) finish() {
	x.complete = true
	x.compact()
	heap.Init(&x.byDue)
}

func (x *index) find(offset int64) *waiting {
	i := sort.Search(len(x.order), func(i int) bool { return x.order[i].offset >= offset })
	if i < len(x.order) && x.order[i].offset == offset {
		return x.order[i]
	}
	return nil
}

// set changes an entry's state; a release that was put back may be tried again.
func (x *index) set(offset int64, s slotState) {
	w := x.find(offset)
	if w == nil || w.state == done {
		return
	}
	w.state = s
	if s == done {
		x.ended++
	}
}

// base is the lowest offset that isn't released.
func (x *index) base() int64 {
	for _, w := range x.order {
		if w.state == open {
			return w.offset
		}
	}
	return x.next
}

// finished is nothing: markers tell it.
func (x *index) finished() []span { return nil }

// compact forgets what is released, when that is much or at the front.
func (x *index) compact() {
	n := 0
	for n < len(x.order) && x.order[n].state == done {
		x.order[n] = nil
		n++
	}
	x.order = x.order[n:]
	x.ended -= n
	if x.ended < 1000 || x.ended < len(x.order)/2 {
		return
	}
	x.order = still(x.order)
	x.byDue = still(x.byDue)
	heap.Init(&x.byDue)
	x.ended = 0
}

func still(ws []*waiting) []*waiting {
	kept := make([]*waiting, 0, len(ws))
	for _, w := range ws {
		if w.state != done {
			kept = append(kept, w)
		}
	}
	return kept
}

// due takes at most n entries to release: pulled ones, then by time.
func (x *index) due(now time.Time, n int) (ws []*waiting, pulled map[*waiting]bool) {
	pulled = map[*waiting]bool{}
	take := func(w *waiting, p bool) {
		if w.state == open && !w.busy {
			w.busy = true
			ws = append(ws, w)
			pulled[w] = p
		}
	}
	for len(ws) < n && len(x.pulled) > 0 {
		take(x.pulled[0], true)
		x.pulled = x.pulled[1:]
	}
	later := x.retries[:0]
	for _, r := range x.retries {
		if len(ws) < n && !r.at.After(now) {
			r.w.busy = false
			take(r.w, r.pulled)
		} else {
			later = append(later, r)
		}
	}
	x.retries = later
	for len(ws) < n && len(x.byDue) > 0 && x.byDue[0].due <= now.UnixMilli() {
		take(heap.Pop(&x.byDue).(*waiting), false)
	}
	return ws, pulled
}

// dueHeap orders by due time, earliest first.
type dueHeap []*waiting

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(w any)        { *h = append(*h, w.(*waiting)) }

func (h *dueHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return w
}
