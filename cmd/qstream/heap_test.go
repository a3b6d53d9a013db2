package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int64
	}{
		{0, 3200}, {8 << 20, 1600}, {64 << 20, 200}, {128 << 20, 100}, {160 << 20, 80}, {1 << 30, 50},
	} {
		if got := pace(c.live, 128<<20); got != c.want {
			t.Errorf("pace of %d MB: %d percent, want %d", c.live>>20, got, c.want)
		}
	}
}

// TestHeapIsPaced holds much, lets it go, and looks at what it set.
func TestHeapIsPaced(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	was := debug.SetGCPercent(byItself)
	defer debug.SetGCPercent(was)
	p := &heapPace{room: 64 << 20}
	p.adjust()
	defer p.over.Store(true)
	held := make([]byte, 80<<20)
	await(t, p, func(percent int64) bool { return percent < byItself })
	runtime.KeepAlive(held)
	await(t, p, func(percent int64) bool { return percent > 4*byItself })
}

func await(t *testing.T, p *heapPace, good func(int64) bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		if good(p.percent.Load()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the heap may grow by %d percent", p.percent.Load())
}
