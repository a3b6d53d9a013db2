package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/ledger/fold"
	"qstream/ledger/store"
	pb "qstream/schemas/qstream/v1"
)

// rateMinutes is how many minutes' rates are kept.
const rateMinutes = 15

// batchBytes bounds a batch of events with many recipients.
const batchBytes = 16 << 20

// view is an open file that follows the log.
type view struct {
	*Ledger
	store    *store.Store
	follower *bus.Follower
	written  atomic.Int64 // when everything that was read was last written; Unix ms

	mu    sync.Mutex
	batch *fold.Batch
	size  int            // bytes of the batch's events
	begun time.Time      // when the batch's first event came
	next  store.Progress // with the batch
	done  store.Progress // as written
	waits fold.Waits     // what waits, as written
}

// take gives an event to the batch, and waits while there is no room for it.
func (v *view) take(r bus.Record) error {
	var e pb.Event
	err := proto.Unmarshal(r.Value, &e)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next.Next[r.Partition] = r.Offset + 1
	v.next.Seq++
	if err == nil && e.Type == pb.EventType_EVENT_TYPE_TALLIED {
		return nil // about no message
	}
	if err != nil || !v.batch.Add(&e, fold.At{Partition: r.Partition, Offset: r.Offset, Seq: v.next.Seq}) {
		v.metrics.unreadable.Inc()
		return nil
	}
	if v.begun.IsZero() {
		v.begun = time.Now()
	}
	if v.size += len(r.Value); v.batch.Len() < v.cfg.Batch && v.size < batchBytes {
		return nil
	}
	return v.flush()
}

// flush writes the batch; v.mu is held.
func (v *view) flush() error {
	if v.batch.Len() == 0 {
		return nil
	}
	began := time.Now()
	// What is begun is ended: a transaction that is cut off is only made again.
	ctx := context.Background()
	known, err := v.store.Load(ctx, v.batch)
	if err != nil {
		return err
	}
	res := v.batch.Fold(known, v.deps.Now().Unix()/60-rateMinutes)
	if err := v.store.Save(ctx, res, v.next); err != nil {
		return err
	}
	v.metrics.events.Add(float64(v.next.Seq - v.done.Seq))
	v.metrics.repeated.Add(float64(res.Repeated))
	v.metrics.seconds.Add(time.Since(began).Seconds())
	v.batch, v.size, v.begun = &fold.Batch{}, 0, time.Time{}
	v.done = v.next.Clone()
	v.waits.Join(res.Waits)
	v.failed(nil)
	return nil
}

// flushing writes what has waited long enough.
func (v *view) flushing(ctx context.Context) error {
	tick := time.NewTicker(v.cfg.Every / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return v.last()
		case <-tick.C:
		}
		if err := v.due(); err != nil {
			return err
		}
	}
}

func (v *view) due() error {
	if err := v.store.There(); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !v.begun.IsZero():
		if time.Since(v.begun) >= v.cfg.Every {
			return v.flush()
		}
	case !v.follower.Fresh().IsZero():
		v.failed(nil) // there is nothing to write
	}
	return nil
}

// last writes what is left at a stop; it would be read again otherwise.
func (v *view) last() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flush()
}

// errBehind is a view that didn't get to the end of the log in time.
var errBehind = errors.New("the ledger is behind the log")

// catchUp waits until everything that was appended before is written, for a
// bounded time. It returns errBehind if that takes longer.
func (v *view) catchUp(ctx context.Context) error {
	began := v.deps.Now()
	waited, cancel := context.WithTimeout(ctx, v.cfg.Wait)
	defer cancel()
	if err := v.follower.Sync(waited); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errBehind
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.flush(); err != nil {
		return err
	}
	v.written.Store(began.UnixMilli())
	return nil
}

// addNotes gives notes to the batch.
func (v *view) addNotes(notes []fold.Note) {
	if len(notes) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range notes {
		n.At.Seq = v.next.Seq
		v.batch.AddNote(n)
	}
	if v.begun.IsZero() {
		v.begun = time.Now()
	}
	v.metrics.notes.Add(float64(len(notes)))
}
