package mail

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// IDLength is the length of a message id in characters.
const IDLength = ulid.EncodedSize

// rewind is how far a clock may go back and ids still ascend. A larger step
// is a clock that was set: ids follow it, since their time serves to find
// content again.
const rewind = time.Second

// NewID makes a message id: a ULID, 26 characters, whose first ten tell now
// in milliseconds and whose rest is random. Ids of one process ascend, also
// within a millisecond. It is safe for concurrent use.
func NewID(now time.Time) string { return ids.next(now).String() }

// DerivedID is a message id that follows from what is named, and from a time
// that doesn't change with repetition: the same each time it is made.
func DerivedID(at time.Time, name string) string {
	sum := sha256.Sum256([]byte(name))
	var id ulid.ULID
	// A time out of range would only be one in 10,889 AD.
	_ = id.SetTime(ulid.Timestamp(at))
	_ = id.SetEntropy(sum[:10])
	return id.String()
}

// IDTime is the time at which an id was made; ok is false if id is not one.
func IDTime(id string) (made time.Time, ok bool) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return time.Time{}, false
	}
	return ulid.Time(u.Time()), true
}

// ids is shared by the process, so that no two callers' ids can meet.
var ids idSource

type idSource struct {
	mu   sync.Mutex
	last ulid.ULID
}

func (s *idSource) next(now time.Time) ulid.ULID {
	ms := uint64(max(now.UnixMilli(), 0))
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last.Time()
	if ms <= last && last-ms < uint64(rewind.Milliseconds()) && s.increment() {
		return s.last
	}
	if ms == last { // the random part ran over
		ms++
	}
	// SetTime fails only beyond the year 10889; the clock is ours.
	_ = s.last.SetTime(ms)
	// The top bit stays clear: room for 2^79 ids within a millisecond.
	_, _ = rand.Read(s.last[6:])
	s.last[6] &= 0x7f
	return s.last
}

// increment adds one to the random part; false if it ran over.
func (s *idSource) increment() bool {
	for i := len(s.last) - 1; i >= 6; i-- {
		s.last[i]++
		if s.last[i] != 0 {
			return true
		}
	}
	return false
}
