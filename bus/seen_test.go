package bus

import (
	"fmt"
	"testing"
)

func TestSeen(t *testing.T) {
	s := NewSeen(3)
	for i, c := range []struct {
		partition int32
		offset    int64
		identity  string
		want      bool
	}{
		{0, 10, "a", false},
		{0, 11, "a", true},
		{0, 10, "a", false}, // the same record, handed out again
		{1, 11, "a", false}, // another partition knows nothing
		{0, 12, "b", false},
		{0, 13, "c", false},
		{0, 14, "d", false}, // forgets a
		{0, 15, "a", false},
		{0, 16, "d", true},
	} {
		if got := s.Repeated(Record{Topic: "t", Partition: c.partition, Offset: c.offset}, c.identity); got != c.want {
			t.Errorf("%d: %s at %d/%d: got %v", i, c.identity, c.partition, c.offset, got)
		}
	}
}

// A dead record that is tried again is no repetition; a repetition of that is.
func TestSeenAfterRetry(t *testing.T) {
	s := NewSeen(0)
	again := func(dead string) []Header { return []Header{{Key: HeaderRetry, Value: []byte(dead)}} }
	for i, c := range []struct {
		headers []Header
		want    bool
	}{{nil, false}, {again("0/1"), false}, {again("0/1"), true}, {again("0/2"), false}, {nil, true}} {
		if got := s.Repeated(Record{Topic: "t", Offset: int64(i), Headers: c.headers}, "a"); got != c.want {
			t.Errorf("%d: %v: got %v", i, c.headers, got)
		}
	}
}

func TestSeenIsBounded(t *testing.T) {
	s := NewSeen(100)
	for i := range 10_000 {
		s.Repeated(Record{Topic: "t", Offset: int64(i)}, fmt.Sprint(i))
	}
	r := s.rings[seenPlace{"t", 0}]
	if len(r.first) != 100 || len(r.order) != 100 {
		t.Errorf("remembers %d and %d", len(r.first), len(r.order))
	}
}
