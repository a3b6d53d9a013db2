package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// heapRoom is how much a role's process may allocate between two collections.
// By itself Go lets a heap double, and a heap as small as ours would be
// collected ten times a second. One that is large, as with a million waiting
// legs, is mostly held and grows by half: it would else keep as much again.
const heapRoom = 128 << 20

// heapPace gives a small heap room, again after every collection.
type heapPace struct {
	room    uint64
	percent atomic.Int64
	over    atomic.Bool
}

// paceHeap begins, unless the environment says how to collect; stop ends it.
func paceHeap(room uint64) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	p := &heapPace{room: room}
	p.adjust()
	return func() {
		p.over.Store(true)
		debug.SetGCPercent(byItself)
	}
}

const (
	byItself = 100 // Go's own pace
	least    = 50
)

// adjust sets the pace for the heap that lives, and comes again after the
// next collection: that takes the marker, which nobody holds.
func (p *heapPace) adjust() {
	if p.over.Load() {
		return
	}
	marker := new(struct{ _ *heapPace })
	runtime.AddCleanup(marker, (*heapPace).adjust, p)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := pace(live[0].Value.Uint64(), p.room)
	// Setting it stops the world for a moment: not for little.
	if now := p.percent.Load(); percent < now-now/8 || percent > now+now/8 {
		p.percent.Store(percent)
		debug.SetGCPercent(int(percent))
	}
}

// pace is by how many percent a heap may grow. Four megabytes is what Go
// lets the smallest one have.
func pace(live, room uint64) int64 {
	return max(least, int64(room*100/max(live, 4<<20)))
}
