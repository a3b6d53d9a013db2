package mail

import (
	"sync"
	"testing"
	"time"
)

func TestIDsAscendAndTellTheirTime(t *testing.T) {
	now := time.Now()
	last := ""
	for i := range 10000 {
		id := NewID(now.Add(time.Duration(i/1000) * time.Millisecond))
		if len(id) != IDLength || id <= last {
			t.Fatalf("id %q after %q", id, last)
		}
		last = id
	}
	made, ok := IDTime(last)
	if !ok || made.Sub(now).Abs() > 100*time.Millisecond {
		t.Errorf("made %v, want about %v", made, now)
	}
	if _, ok := IDTime("no id"); ok {
		t.Error("garbage taken as an id")
	}
}

func TestIDsFollowAClock(t *testing.T) {
	var s idSource
	now := time.UnixMilli(1_800_000_000_000)
	first := s.next(now)
	if small := s.next(now.Add(-500 * time.Millisecond)); small.Compare(first) <= 0 {
		t.Error("a small step back broke the order")
	}
	if set := s.next(now.Add(-time.Hour)); set.Time() != uint64(now.Add(-time.Hour).UnixMilli()) {
		t.Error("a clock that was set back is not followed")
	}
	for i := 6; i < 16; i++ {
		s.last[i] = 0xff
	}
	before := s.last
	if over := s.next(now.Add(-time.Hour)); over.Compare(before) <= 0 {
		t.Error("ids do not ascend when the random part runs over")
	}
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				id := NewID(now)
				mu.Lock()
				if seen[id] {
					t.Errorf("%s twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
