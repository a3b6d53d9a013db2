package bus

import (
	"hash/maphash"
	"sync"
)

// SeenBound is how many identities a Seen remembers for each partition unless
// told otherwise.
const SeenBound = 10_000

// Seen recognises a record that repeats an earlier one of its partition: a
// kill of the embedded broker may repeat a record, and writers use keys that
// put a repetition into the partition of the original. It remembers the last
// identities of each partition, in memory only (about 80 bytes each).
//
// An identity counts as repeated only at a higher offset than the one it was
// first seen at. The same offset again is the same record, handed out again
// because its outputs were not committed. A record that was dead and is tried
// again is none: it says which dead record it was. Safe for concurrent use.
type Seen struct {
	seed  maphash.Seed
	bound int

	mu    sync.Mutex
	rings map[seenPlace]*seenRing
}

type seenPlace struct {
	topic     string
	partition int32
}

type seenRing struct {
	first map[seenKey]int64 // offset at which the identity was first seen
	order []seenKey
	next  int
}

// seenKey is 128 bits, so that two identities never meet by chance: that
// would drop a mail.
type seenKey [2]uint64

// NewSeen remembers bound identities of each partition; 0: SeenBound.
func NewSeen(bound int) *Seen {
	if bound <= 0 {
		bound = SeenBound
	}
	return &Seen{seed: maphash.MakeSeed(), bound: bound, rings: map[seenPlace]*seenRing{}}
}

// Repeated remembers what identifies a record and reports whether the record
// repeats an earlier one.
func (s *Seen) Repeated(r Record, identity string) bool {
	for _, h := range r.Headers {
		if h.Key == HeaderRetry {
			identity += "\x00" + string(h.Value)
		}
	}
	key := seenKey{maphash.String(s.seed, identity), maphash.String(s.seed, "\x00"+identity)}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := seenPlace{r.Topic, r.Partition}
	ring := s.rings[at]
	if ring == nil {
		ring = &seenRing{first: map[seenKey]int64{}}
		s.rings[at] = ring
	}
	first, ok := ring.first[key]
	if !ok {
		ring.add(key, r.Offset, s.bound)
		return false
	}
	ring.first[key] = min(first, r.Offset)
	return r.Offset > first
}

func (r *seenRing) add(key seenKey, offset int64, bound int) {
	r.first[key] = offset
	if len(r.order) < bound {
		r.order = append(r.order, key)
		return
	}
	delete(r.first, r.order[r.next])
	r.order[r.next] = key
	r.next = (r.next + 1) % bound
}
