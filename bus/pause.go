package bus

import (
	"context"
	"time"
)

// Pause waits for d, or until ctx ends, and returns false if ctx has ended. A
// wait of nothing, or less, only asks that.
func Pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
