package vault

import (
	"bytes"
	"testing"

	"qstream/bus"
	"qstream/schemas"
	"qstream/tapper/vault/lane"
)

// A window keeps what is newest, within its bound, whatever comes twice.
func TestWindow(t *testing.T) {
	const limit, size = 10_000, 800
	w := newWindow(limit)
	value := make([]byte, size)
	for n := range int64(40) {
		value[0] = byte(n)
		for range 2 {
			w.put(bus.Record{Topic: schemas.Received, Partition: 2, Offset: n, Value: value})
		}
	}
	source := lane.Source(lane.OfReceived, 2)
	for n := range int64(40) {
		r, ok := w.at(source, n)
		if want := n >= 30; ok != want {
			t.Errorf("record %d is kept: %v, want %v", n, ok, want)
		}
		if ok && (r.Value[0] != byte(n) || len(r.Value) != size) {
			t.Errorf("record %d has another's value %v", n, r.Value[:1])
		}
	}
	if w.size > limit || len(w.kept) != len(w.places) {
		t.Errorf("%d bytes of at most %d, %d records at %d places", w.size, limit, len(w.kept), len(w.places))
	}
	if _, ok := w.at(lane.Source(lane.OfReinject, 2), 39); ok {
		t.Error("a record of received is found in reinject")
	}
	w.put(bus.Record{Topic: schemas.Received, Partition: 2, Offset: 40, Value: bytes.Repeat(value, 20)})
	if w.size > limit || len(w.kept) > 0 {
		t.Errorf("%d bytes of %d records are kept after one above the bound", w.size, len(w.kept))
	}
}
