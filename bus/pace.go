package bus

import (
	"context"
	"time"
)

const (
	restFactor = 9
	// A batch that took longer had to wait for a busy broker: it is spared, but
	// not for ever.
	longestRest = 900 * time.Millisecond
	restsInAll  = 150 * time.Second
)

// Pace spares a busy broker the haste of a reader that nobody waits for: after
// every batch it rests nine times as long as the batch took, 0.9 s at most, and
// 150 s in all, so that a great backlog is read in bounded time too. The
// nil Pace never rests. Not for concurrent use.
type Pace struct {
	left  time.Duration // of restsInAll
	since time.Time     // end of the last rest
}

// Gently is the pace of one reading, or of several in a row.
func Gently() *Pace { return &Pace{left: restsInAll} }

// start begins a reading: what passed before it was no work.
func (p *Pace) start() {
	if p != nil {
		p.since = time.Now()
	}
}

// rest sleeps after a batch.
func (p *Pace) rest(ctx context.Context) error {
	if p == nil || p.left <= 0 {
		return nil
	}
	d := min(restFactor*time.Since(p.since), longestRest, p.left)
	p.left -= d
	if !Pause(ctx, d) {
		return context.Cause(ctx)
	}
	p.start()
	return nil
}
