package delay

import (
	"time"

	"qstream/bus"
	"qstream/directory"
	pb "qstream/schemas/qstream/v1"
)

// Rehearsal are the stage's decisions without its followers, for simulations:
// by one directory and the time that it is, with nothing suspended and no
// flush.
type Rehearsal struct {
	Directory *directory.Snapshot
	Now       func() time.Time
}

// Entry is what the stage's index remembers of a record; see bus.HoldConfig.
func (Rehearsal) Entry(r bus.Record) (bus.Entry, error) {
	l, err := bus.ReadLeg(r)
	if err != nil {
		return bus.Entry{}, err
	}
	return newEntry(r, l), nil
}

// Release is what becomes of a record whose wait is over.
func (h Rehearsal) Release(r bus.Record) ([]bus.Record, error) {
	l, err := bus.ReadLeg(r)
	if err != nil {
		return nil, err
	}
	return release(l, false, world{
		number: h.Directory.Number, decide: h.Directory.Decide, queue: h.Directory.Queue, now: h.Now(),
		suspended: func(string, string, string) (time.Time, bool) { return time.Time{}, false },
		resumed:   func(string, string, string, time.Time) bool { return false },
		again:     func(string, []*pb.Recipient) (uint64, bool) { return 0, false },
		flushed:   func(*pb.Leg) bool { return false },
	}).records(), nil
}
