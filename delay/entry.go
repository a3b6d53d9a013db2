package delay

import (
	"strconv"
	"strings"
	"time"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Kinds of entries, as bits.
const (
	kindParked      uint8 = 1 << iota // waits for a resume, not for the clock
	kindBounce                        // null reverse-path: the bounce lifetime counts
	kindRepeated                      // repeats an earlier record: dropped when its time comes
	kindHeld                          // its content is on the hold topic already
	kindQuarantined                   // held back by a scan policy, until it is kept no longer
	kindOverQuota                     // parked at a quota, until it is let go on
)

// far is when a parked leg would be due: never.
const far = 100 * 365 * 24 * time.Hour

// newEntry is what the index remembers of a leg. Its Content is the time at
// which the content was stored.
func newEntry(r bus.Record, l *pb.Leg) bus.Entry {
	born := time.UnixMilli(l.BornMs)
	e := bus.Entry{
		Born: born, Tenant: l.Tenant, Queue: generational(l.Queue, l.Generation),
		Destination: l.Destination, ID: l.MessageId, Content: time.UnixMilli(l.Content.StoredMs),
	}
	if l.Content.Topic == schemas.Hold {
		e.Kind |= kindHeld
	}
	if l.ReversePath == "" {
		e.Kind |= kindBounce
	}
	if r.Topic == schemas.Quarantine {
		e.Kind |= kindQuarantined
		e.Due = time.UnixMilli(l.DueMs)
		return e
	}
	if r.Topic == schemas.Parked {
		e.Kind |= kindParked
		if schemas.Held(l) {
			e.Kind |= kindOverQuota
		}
		e.Due = r.Time.Add(far)
		return e
	}
	e.Born = born.Add(time.Duration(l.StoppedMs) * time.Millisecond)
	e.Due = dueIn(r, l)
	return e
}

// dueIn is when the leg's wait in its tier is over: when it is due, or after
// one round of the tier when it is due later, or says so by a wrong clock.
func dueIn(r bus.Record, l *pb.Leg) time.Time {
	due := time.UnixMilli(l.DueMs)
	if round := r.Time.Add(tierOf(r.Topic)); round.Before(due) {
		return round
	}
	return due
}

func tierOf(topic string) time.Duration {
	for i, name := range schemas.DelayTopics() {
		if name == topic {
			return schemas.Tiers[i]
		}
	}
	return 0
}

// generational is a queue with its generation in an entry: "acme", "acme.2".
func generational(name string, generation uint32) string {
	if generation <= 1 {
		return name
	}
	return name + "." + strconv.FormatUint(uint64(generation), 10)
}

// queueName is the name in an entry's queue; names have no dots.
func queueName(generational string) string {
	name, _, _ := strings.Cut(generational, ".")
	return name
}
