package vault

import (
	"bytes"
	"slices"
	"sync"

	"qstream/bus"
	"qstream/tapper/vault/lane"
)

// windowBytes bounds the records that a window keeps: some seconds of mail.
const windowBytes = 16 << 20

// window keeps the newest records that were read as mail came, whether orders
// cover them or not, so that a sink that keeps up is served from memory: what
// is fetched from brokers, and what is kept, doesn't depend on orders then.
// Safe for concurrent use.
type window struct {
	limit int // bytes

	mu     sync.Mutex
	size   int
	places []sourcePlace // oldest first
	kept   map[sourcePlace]bus.Record
}

// sourcePlace is where a record of a lane's source is.
type sourcePlace struct {
	source uint32
	offset int64
}

func newWindow(limit int) *window {
	return &window{limit: limit, kept: map[sourcePlace]bus.Record{}}
}

// put keeps a record, and gives up the oldest for it.
func (w *window) put(r bus.Record) {
	at := sourcePlace{sourceOf(r), r.Offset}
	// A copy: what was read shares the memory of its whole batch.
	r = bus.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time, Value: bytes.Clone(r.Value)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.kept[at]; ok {
		return
	}
	w.kept[at] = r
	w.places = append(w.places, at)
	for w.size += cost(r); w.size > w.limit; w.places = w.places[1:] {
		w.size -= cost(w.kept[w.places[0]])
		delete(w.kept, w.places[0])
	}
}

// cost is what a record takes, about.
func cost(r bus.Record) int { return len(r.Value) + 200 }

// at is the record at a place, if it is kept.
func (w *window) at(source uint32, offset int64) (bus.Record, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.kept[sourcePlace{source, offset}]
	return r, ok
}

// sourceOf names the partition of a record as lanes do.
func sourceOf(r bus.Record) uint32 {
	return lane.Source(slices.Index(kinds, r.Topic), r.Partition)
}
