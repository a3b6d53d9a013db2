package bus

import (
	"sync"
	"time"
)

// skew is the newest measure of this process's clock against the broker's.
type skew struct {
	mu    sync.Mutex
	value time.Duration
	known bool
}

// Skew is how far this process's clock is from the broker's append times
// (positive: ours is ahead); ok is false until the first measure.
func (b *Bus) Skew() (skew time.Duration, ok bool) {
	b.skew.mu.Lock()
	defer b.skew.mu.Unlock()
	return b.skew.value, b.skew.known
}
