package bus

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Many waiting records stay well below 250 bytes each.
func TestIndexMemory(t *testing.T) {
	const n = 300_000
	start := time.UnixMilli(1_700_000_000_000)
	before := heapInUse()
	x := newIndex(0)
	for i := range int64(n) {
		x.add(newWaiting(i, Entry{
			Due: start.Add(time.Duration(i%3600) * time.Second), Born: start, Appended: start, Content: start,
			Tenant: fmt.Sprintf("tenant-%d", i%500), Queue: fmt.Sprintf("queue-%d", i%500),
			Destination: fmt.Sprintf("destination-%d.example", i%20000), ID: fmt.Sprintf("%026d", i),
		}))
	}
	x.finish()
	each := float64(heapInUse()-before) / n
	t.Logf("%.0f bytes for each waiting record", each)
	if each > 250 {
		t.Errorf("%.0f bytes for each waiting record", each)
	}
	began, released := time.Now(), 0
	for now := start; released < n; now = now.Add(time.Second) {
		for {
			ws, _ := x.due(now, releaseBatch)
			for _, w := range ws {
				x.set(w.offset, taken)
			}
			for _, w := range ws {
				x.set(w.offset, done)
			}
			x.compact()
			released += len(ws)
			if len(ws) < releaseBatch {
				break
			}
		}
	}
	t.Logf("all released in %v", time.Since(began).Round(time.Millisecond))
	if x.base() != n || len(x.order) != 0 {
		t.Errorf("base %d with %d entries left", x.base(), len(x.order))
	}
	runtime.KeepAlive(x)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Entries are released once, in any order of due times, pulls, failures and
// commits; the base is the lowest that isn't.
func TestIndexProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newIndex(0)
		x.complete = true
		now := time.UnixMilli(1_000_000)
		state := map[int64]slotState{}
		var busy []*waiting
		for range rapid.IntRange(1, 150).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				at := x.next + int64(rapid.IntRange(0, 2).Draw(rt, "gap"))
				x.add(newWaiting(at, Entry{Due: now.Add(time.Duration(rapid.IntRange(-5, 50).Draw(rt, "due")) * time.Second)}))
				state[at] = open
			case 2:
				now = now.Add(time.Duration(rapid.IntRange(0, 10).Draw(rt, "wait")) * time.Second)
				ws, _ := x.due(now, rapid.IntRange(1, 5).Draw(rt, "n"))
				for _, w := range ws {
					if state[w.offset] != open || slices.Contains(busy, w) {
						rt.Fatalf("offset %d is released twice", w.offset)
					}
				}
				busy = append(busy, ws...)
			case 3: // a transaction commits
				for _, w := range busy {
					x.set(w.offset, taken)
					x.set(w.offset, done)
					state[w.offset] = done
				}
				busy = nil
				x.compact()
			case 4: // one fails, and its entry is tried again
				if len(busy) > 0 {
					x.retries = append(x.retries, retry{at: now, w: busy[0]})
					busy = busy[1:]
				}
			case 5:
				if len(x.order) > 0 {
					x.pulled = append(x.pulled, rapid.SampledFrom(x.order).Draw(rt, "pulled"))
				}
			}
			want := x.next
			for o, s := range state {
				if s == open {
					want = min(want, o)
				}
			}
			if x.base() != want {
				rt.Fatalf("base %d, want %d", x.base(), want)
			}
		}
	})
}
