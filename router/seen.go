package router

import (
	"hash/maphash"
	"sync"
)

// seenBound is how many identities are remembered for each partition.
const seenBound = 10_000

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// seen recognises a record that repeats an earlier one of its partition:
// writers use the message id as key, so that a repetition follows the original
// in the same partition. It remembers the last bound identities of each
// partition, in memory only: 24 bytes each and a map entry.
//
// An identity counts as repeated only at a higher offset than the one it was
// first seen at. The same offset again is the same record, handed out again
// because its outputs were not committed.
type seen struct {
	seed  maphash.Seed
	bound int

	mu    sync.Mutex
	rings map[place]*ring
}

func newSeen(bound int) *seen {
	return &seen{seed: maphash.MakeSeed(), bound: bound, rings: map[place]*ring{}}
}

type ring struct {
	first map[[2]uint64]int64 // offset at which the identity was first seen
	order [][2]uint64
	next  int
}

// repeated remembers the identity and reports whether it is a repetition.
func (s *seen) repeated(topic string, partition int32, offset int64, identity string) bool {
	key := s.key(identity)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := place{topic, partition}
	r := s.rings[at]
	if r == nil {
		r = &ring{first: map[[2]uint64]int64{}}
		s.rings[at] = r
	}
	if first, ok := r.first[key]; ok {
		if offset < first {
			r.first[key] = offset
		}
		return offset > first
	}
	r.add(key, offset, s.bound)
	return false
}

// key is 128 bits, so that two identities never meet by chance: that would
// drop a mail.
func (s *seen) key(identity string) [2]uint64 {
	return [2]uint64{
		maphash.String(s.seed, identity),
		maphash.String(s.seed, "\x00"+identity),
	}
}

func (r *ring) add(key [2]uint64, offset int64, bound int) {
	r.first[key] = offset
	if len(r.order) < bound {
		r.order = append(r.order, key)
		return
	}
	delete(r.first, r.order[r.next])
	r.order[r.next] = key
	r.next = (r.next + 1) % bound
}
