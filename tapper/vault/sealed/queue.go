package sealed

import (
	"bytes"
	"context"
	"sync"
)

// Queue is a Teller of entries that people wait for. Safe for concurrent use.
type Queue struct {
	take  func(Place, []byte)
	sweep func(first bool, room int) ([][]byte, bool)

	mu      sync.Mutex
	waiting []*waiting
}

// waiting is an entry that doesn't count yet.
type waiting struct {
	entry []byte
	out   bool // in a record that is on its way
	done  chan struct{}
}

// NewQueue makes a queue. take is told of each entry that counts; sweep says
// again what holds, and may be nil: then reading starts at the oldest record.
func NewQueue(take func(Place, []byte), sweep func(first bool, room int) ([][]byte, bool)) *Queue {
	return &Queue{take: take, sweep: sweep}
}

// Append returns nil once the entry counts, some beats later; entries must
// differ from one another. On an error it may count nevertheless, or later.
// Only the process that writes gets anything done: see Set.Active.
func (q *Queue) Append(ctx context.Context, entry []byte) error {
	w := &waiting{entry: entry, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(w)
	return ctx.Err()
}

func (q *Queue) forget(w *waiting) {
	for i := range q.waiting {
		if q.waiting[i] == w {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return
		}
	}
}

// Take implements Teller.
func (q *Queue) Take(at Place, entry []byte) {
	q.take(at, entry)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.waiting {
		if bytes.Equal(w.entry, entry) {
			close(w.done)
			q.forget(w)
			return
		}
	}
}

// Fill implements Teller.
func (q *Queue) Fill(room int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var entries [][]byte
	for _, w := range q.waiting {
		if w.out {
			continue
		}
		if room -= Cost(w.entry); room < 0 && len(entries) > 0 {
			break
		}
		w.out = true
		entries = append(entries, w.entry)
	}
	return entries
}

// Drop implements Teller.
func (q *Queue) Drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.waiting {
		w.out = false
	}
}

// Sweep implements Teller.
func (q *Queue) Sweep(first bool, room int) ([][]byte, bool) {
	if q.sweep == nil {
		return nil, false
	}
	return q.sweep(first, room)
}
